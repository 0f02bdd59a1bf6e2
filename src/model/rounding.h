// Values as narrower floating-point formats hold them.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "elan/precision.h"

namespace elan {

// Whether values of type T are unchanged in this precision. T is float or double.
template <typename T>
bool holds(Precision precision) {
  return precision == Precision::fp64 || (precision == Precision::fp32 && sizeof(T) == 4);
}

// The nearest value of fp64, fp32, tf32, bf16, fp16 or fp8 (halves to even, gradual underflow) for
// each; beyond the largest infinity, in fp8 the largest; NaN as it is. Throws Error (internal) for
// int8, which needs scales. T is float or double.
template <typename T>
void round_to(Precision precision, std::span<T> values);

inline constexpr float kMostFp8 = 448;  // the largest number of E4M3

// A matrix [rows][columns] in fp8: of each row what brings its largest magnitude to kMostFp8, and
// its weights divided by that.
struct Fp8Matrix {
  std::vector<float> weight, scale;
};
Fp8Matrix fp8_matrix(std::span<const float> weight, std::size_t rows);

}  // namespace elan
