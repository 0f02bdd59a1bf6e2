// Values as narrower floating-point formats hold them.
#pragma once

#include <span>

#include "elan/precision.h"

namespace elan {

// Whether values of type T are unchanged in this precision. T is float or double.
template <typename T>
bool holds(Precision precision) {
  return precision == Precision::fp64 || (precision == Precision::fp32 && sizeof(T) == 4);
}

// The nearest value of fp64, fp32, tf32, bf16 or fp16 (halves to even, gradual underflow) for each;
// beyond the largest infinity, NaN as it is. Throws Error (internal) for int8 and fp8, which need
// scales. T is float or double.
template <typename T>
void round_to(Precision precision, std::span<T> values);

}  // namespace elan
