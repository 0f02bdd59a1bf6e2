#include "model/rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "support/errors.h"

namespace elan::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename T>
T rounded(Precision precision, double value) {
  T one[1]{static_cast<T>(value)};
  round_to<T>(precision, one);
  return one[0];
}

struct Case {
  Precision precision;
  double value, expected;
};

const std::vector<Case> kCases{
    {Precision::fp16, 2049, 2048},  // a tie, to even
    {Precision::fp16, 2051, 2052},
    {Precision::fp16, -2051, -2052},
    {Precision::fp16, 0.1, 0.0999755859375},
    {Precision::fp16, 65519, 65504},
    {Precision::fp16, 65520, kInfinity},
    {Precision::fp16, -1e9, -kInfinity},
    {Precision::fp16, std::ldexp(1.0, -24), std::ldexp(1.0, -24)},
    {Precision::fp16, std::ldexp(1.0, -25), 0},
    {Precision::fp16, std::ldexp(-1.25, -25), std::ldexp(-1.0, -24)},
    {Precision::fp16, std::ldexp(1023.5, -24), std::ldexp(1.0, -14)},
    {Precision::fp16, std::ldexp(1022.5, -24), std::ldexp(1022.0, -24)},
    {Precision::bf16, 257, 256},
    {Precision::bf16, 259, 260},
    {Precision::bf16, 0.1, 0.10009765625},
    {Precision::bf16, 3.39e38, 3.3895313892515355e38},
    {Precision::tf32, 2049, 2048},
    {Precision::tf32, 0.1, 0.0999755859375},
    {Precision::fp8, 17, 16},  // ties, to even
    {Precision::fp8, 19, 20},
    {Precision::fp8, -0.1, -0.1015625},
    {Precision::fp8, std::ldexp(1.5, -9), std::ldexp(2.0, -9)},
    {Precision::fp8, std::ldexp(-1.0, -10), 0},
    {Precision::fp8, 463, 448},
    {Precision::fp8, 470, 448},
    {Precision::fp8, -1e9, -448},
    {Precision::fp8, kInfinity, 448},
    {Precision::fp16, 0, 0},
    {Precision::fp16, kInfinity, kInfinity},
};

TEST(Rounding, FindsTheNearestValue) {
  for (const Case& c : kCases) {
    EXPECT_EQ(rounded<float>(c.precision, c.value), c.expected)
        << to_string(c.precision) << " " << c.value;
    EXPECT_EQ(rounded<double>(c.precision, c.value), c.expected)
        << to_string(c.precision) << " " << c.value;
  }
}

TEST(Rounding, DoublesToSingles) {
  for (const double value : {0.1, -1e30, 1e-40, 16777217.0, 3e38}) {
    EXPECT_EQ(rounded<double>(Precision::fp32, value), double(float(value)));
  }
  EXPECT_EQ(rounded<double>(Precision::fp32, 1e39), kInfinity);
}

TEST(Rounding, LeavesWhatFits) {
  EXPECT_EQ(rounded<float>(Precision::fp32, 0.1), 0.1F);
  EXPECT_EQ(rounded<float>(Precision::fp64, 0.1), 0.1F);
  EXPECT_EQ(rounded<double>(Precision::fp64, 0.1), 0.1);
  EXPECT_TRUE(std::isnan(rounded<float>(Precision::fp16, NAN)));
  EXPECT_TRUE(std::isnan(rounded<float>(Precision::fp8, NAN)));
}

TEST(Rounding, OfAnFp8MatrixTheLargestOfARowIsTheLargestNumber) {
  const std::vector<float> weight{0.5F, -2, 0.02F, 0, 0, 0};
  const Fp8Matrix m = fp8_matrix(weight, 2);
  EXPECT_EQ(m.scale, (std::vector{2 / 448.F, 1.F}));
  EXPECT_EQ(m.weight, (std::vector{112.F, -448.F, 4.5F, 0.F, 0.F, 0.F}));
}

TEST(Rounding, KnowsNoFormatsThatNeedScales) {
  EXPECT_EQ(error_of(ErrorKind::internal, [] { rounded<float>(Precision::int8, 1); }),
            "int8: no rounding");
}

}  // namespace
}  // namespace elan::test
