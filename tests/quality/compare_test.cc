#include "quality/compare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "support/errors.h"

namespace elan::test {
namespace {

ConstImageView view(const std::vector<float>& rgb, int width) {
  return view_of(rgb.data(), width, static_cast<int>(rgb.size()) / 3 / width);
}

TEST(Compare, SummarisesAbsoluteAndRelativeErrors) {
  ErrorStatistics s;
  s.add(10.5, 10);  // 0.5, 0.05
  s.add(-3, -4);    // 1, 0.25
  s.add(100, 102);  // 2, 0.0196
  s.add(1e-5, 0);   // 1e-5, 1: the floor of the denominator
  s.add(7, 7);      // 0
  const ErrorSummary summary = s.summary();
  EXPECT_EQ(summary.count, 5U);
  EXPECT_DOUBLE_EQ(summary.max_abs, 2);
  EXPECT_NEAR(summary.mean_abs, (0.5 + 1 + 2 + 1e-5) / 5, 1e-12);
  EXPECT_NEAR(summary.median_abs, 0.5, 0.5 * 2e-3);
  EXPECT_NEAR(summary.max_rel, 1, 1e-12);
  EXPECT_NEAR(summary.mean_rel, (0.05 + 0.25 + 2.0 / 102 + 1) / 5, 1e-6);
  EXPECT_NEAR(summary.median_rel, 0.05, 0.05 * 2e-3);
}

TEST(Compare, AMedianOfManyIsNearTheExactOne) {
  for (const double size : {1e-6, 0.3, 40.0}) {
    ErrorStatistics s;
    for (int i = 1; i <= 1001; ++i) s.add(size * i, 0);
    EXPECT_NEAR(s.summary().median_abs, 501 * size, 501 * size * 2e-3);
  }
}

TEST(Compare, PartsAddUpToTheWhole) {
  ErrorStatistics whole, one, two;
  for (int i = 0; i < 100; ++i) {
    const double value = std::sin(i) * 50, reference = std::cos(i) * 50;
    whole.add(value, reference);
    (i % 3 == 0 ? one : two).add(value, reference);
  }
  one.add(two);
  EXPECT_EQ(one.summary().count, 100U);
  EXPECT_DOUBLE_EQ(one.summary().max_rel, whole.summary().max_rel);
  EXPECT_NEAR(one.summary().mean_abs, whole.summary().mean_abs, 1e-12);
  EXPECT_DOUBLE_EQ(one.summary().median_abs, whole.summary().median_abs);
}

TEST(Compare, WhatIsNoNumberIsInfinitelyWrong) {
  ErrorStatistics s;
  s.add(NAN, 1);
  s.add(1, 1);
  EXPECT_TRUE(std::isinf(s.summary().max_abs));
  EXPECT_TRUE(std::isinf(s.summary().mean_rel));
}

TEST(Compare, CountsPixelsThatLookDifferent) {
  // Rounded to levels: equal, one apart, two apart in one sample, equal after clamping, not a
  // number.
  const std::vector<float> reference{10, 10, 10, 10, 10, 10, 10, 10, 10, 255, 255, 255, 1, 1, 1};
  const std::vector<float> picture{10.4F, 9.6F, 10,  11.4F, 10, 10,  10, 10,
                                   11.6F, 300,  255, 255,   1,  NAN, 1};
  const PictureErrors errors = compare_pictures(view(picture, 5), view(reference, 5));
  EXPECT_EQ(errors.pixels, 5U);
  EXPECT_EQ(errors.pixels_off, 2U);
  EXPECT_DOUBLE_EQ(errors.share_off(), 0.4);
}

TEST(Compare, TheMapShowsWhereErrorsAre) {
  constexpr int kWidth = 10, kHeight = 4;
  const std::vector<float> reference(kWidth * kHeight * 3, 100);
  std::vector<float> picture = reference;
  for (int c = 0; c < 3; ++c) picture[(3 * kWidth + 9) * 3 + c] += 6;  // x 9, y 3
  const PictureErrors errors = compare_pictures(view(picture, kWidth), view(reference, kWidth), 4);
  ASSERT_EQ(errors.map.cell, 3);
  ASSERT_EQ(errors.map.columns, 4);
  ASSERT_EQ(errors.map.rows, 2);
  for (std::size_t i = 0; i < 7; ++i) EXPECT_EQ(errors.map.mean[i], 0) << i;
  EXPECT_DOUBLE_EQ(errors.map.mean[7], 6);  // a cell of one pixel
}

TEST(Compare, RefusesPicturesOfOtherSizes) {
  const std::vector<float> a(12), b(6);
  error_of(ErrorKind::input, [&] { compare_pictures(view(a, 2), view(b, 2)); });
  const std::vector<std::uint8_t> bytes(12);
  error_of(ErrorKind::input, [&] { compare_pictures(view(a, 2), view_of(bytes.data(), 2, 2)); });
}

}  // namespace
}  // namespace elan::test
