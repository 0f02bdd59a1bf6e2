// Binary16 as bits, for weights written to a file.
#pragma once

#include <cstdint>

namespace elan {

// The nearest half, ties to even; beyond 65504 infinity. NaN stays NaN.
std::uint16_t half_bits(float value);

}  // namespace elan
