#include "quality/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "elan/error.h"

namespace elan {
namespace {

// Noise that other languages can repeat: the high bytes of a 32-bit linear congruential generator.
std::vector<std::uint8_t> noise(int width, int height, std::uint32_t seed) {
  std::vector<std::uint8_t> rgb(static_cast<std::size_t>(width) * height * 3);
  for (auto& value : rgb) {
    seed = seed * 1664525U + 1013904223U;
    value = static_cast<std::uint8_t>(seed >> 24);
  }
  return rgb;
}

// 37x29 noise and the same with small changes; expected values from numpy and scipy in double
// (convolve2d with the 11x11 kernel, mode "valid").
class Noise : public testing::Test {
 protected:
  static constexpr int kWidth = 37, kHeight = 29;
  std::vector<std::uint8_t> a = noise(kWidth, kHeight, 1);
  std::vector<std::uint8_t> b = noise(kWidth, kHeight, 2);

  void SetUp() override {
    for (std::size_t i = 0; i < a.size(); ++i) {
      b[i] = static_cast<std::uint8_t>(std::clamp(a[i] + b[i] / 16 - 8, 0, 255));
    }
  }
  [[nodiscard]] ConstImageView view(const std::vector<std::uint8_t>& rgb) const {
    return view_of(rgb.data(), kWidth, kHeight);
  }
};

TEST_F(Noise, MatchesNumpy) {
  const Quality whole = compare_luma(view(a), view(b), 0);
  EXPECT_NEAR(whole.psnr, 39.56564871626456, 1e-9);
  EXPECT_NEAR(whole.ssim, 0.9979379068803438, 1e-12);
  const Quality cropped = compare_luma(view(a), view(b), 4);
  EXPECT_NEAR(cropped.psnr, 39.5819524114923, 1e-9);
  EXPECT_NEAR(cropped.ssim, 0.9976664720839107, 1e-12);
}

TEST_F(Noise, EqualPicturesArePerfect) {
  const Quality same = compare_luma(view(a), view(a), 2);
  EXPECT_TRUE(std::isinf(same.psnr));
  EXPECT_DOUBLE_EQ(same.ssim, 1);
}

TEST_F(Noise, TheBorderDoesNotCount) {
  std::vector<std::uint8_t> changed = a;
  for (int x = 0; x < kWidth * 3; ++x) changed[x] ^= 0xff;  // the first row
  EXPECT_TRUE(std::isinf(compare_luma(view(a), view(changed), 1).psnr));
  EXPECT_FALSE(std::isinf(compare_luma(view(a), view(changed), 0).psnr));
}

TEST_F(Noise, RefusesWhatCannotBeCompared) {
  EXPECT_THROW(compare_luma(view(a), view(b).crop(0, 0, kWidth - 1, kHeight), 0), Error);
  EXPECT_THROW(compare_luma(view(a), view(b), 10), Error);  // 9 rows remain
}

}  // namespace
}  // namespace elan
