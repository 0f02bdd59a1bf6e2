#include "onnx/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace elan::test {
namespace {

double value_of(std::uint16_t half) {
  const int exponent = (half >> 10) & 31, fraction = half & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST(Half, EveryFiniteValueStaysWhatItIs) {
  for (int bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    if ((half & 0x7c00) == 0x7c00) continue;
    ASSERT_EQ(half_bits(static_cast<float>(value_of(half))), half);
  }
}

TEST(Half, TiesGoToTheEvenNeighbourAndOthersToTheNearest) {
  for (std::uint16_t half = 0; half < 0x7bff; ++half) {
    const auto next = static_cast<std::uint16_t>(half + 1);
    const auto middle = static_cast<float>((value_of(half) + value_of(next)) / 2);
    ASSERT_EQ(half_bits(middle), half % 2 == 0 ? half : next) << half;
    ASSERT_EQ(half_bits(std::nextafter(middle, 0.0F)), half);
    ASSERT_EQ(half_bits(std::nextafter(middle, 1e9F)), next);
    ASSERT_EQ(half_bits(-middle), half_bits(middle) | 0x8000);
  }
}

TEST(Half, BeyondTheLargestIsInfinity) {
  EXPECT_EQ(half_bits(65519.996F), 0x7bff);
  EXPECT_EQ(half_bits(65520.0F), 0x7c00);
  EXPECT_EQ(half_bits(-std::numeric_limits<float>::infinity()), 0xfc00);
  EXPECT_EQ(half_bits(std::numeric_limits<float>::quiet_NaN()) & 0x7e00, 0x7e00);
}

}  // namespace
}  // namespace elan::test
