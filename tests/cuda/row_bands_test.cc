#include "cuda/row_bands.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace elan::cuda {
namespace {

TEST(RowBands, CoverAllRowsOnce) {
  for (const std::size_t rows : {1U, 2U, 7U, 64U, 1168U}) {
    for (const std::size_t row_bytes : {3U, 100U, 5000U}) {
      const RowBands bands(rows, row_bytes, 1000, 5);
      ASSERT_GE(bands.count(), 1U);
      ASSERT_LE(bands.count(), 5U);
      EXPECT_EQ(bands.begin(0), 0U);
      EXPECT_EQ(bands.begin(bands.count()), bands.bytes());
      EXPECT_EQ(bands.bytes(), rows * row_bytes);
      for (std::size_t i = 0; i < bands.count(); ++i) {
        EXPECT_EQ(bands.begin(i) % row_bytes, 0U);
        EXPECT_LT(bands.begin(i), bands.begin(i + 1));
        if (i + 1 < bands.count()) {
          EXPECT_GE(bands.begin(i + 1) - bands.begin(i), 1000U);
        }
      }
    }
  }
}

// Pictures of 3x5 in wider rows of their own, in any order of bands; what is between stays.
TEST(RowBands, GoToTheRowsOfEveryPicture) {
  constexpr std::size_t kPictures = 3, kHeight = 5, kRow = 9, kStride = 13;
  std::vector<std::uint8_t> dense(kPictures * kHeight * kRow);
  for (std::size_t i = 0; i < dense.size(); ++i) dense[i] = static_cast<std::uint8_t>(i + 1);
  std::vector<std::vector<std::uint8_t>> pictures(kPictures,
                                                  std::vector<std::uint8_t>(kHeight * kStride, 0));
  std::vector<ImageView> views;
  for (auto& picture : pictures) {
    ImageView view = view_of(picture.data(), 3, static_cast<int>(kHeight));
    view.row_bytes = kStride;
    views.push_back(view);
  }
  const RowBands bands(kPictures * kHeight, kRow, 4 * kRow, 100);
  ASSERT_EQ(bands.count(), 4U);
  for (const std::size_t band : {2U, 0U, 3U, 1U}) {
    bands.copy(band, reinterpret_cast<const std::byte*>(dense.data()), views);
  }
  for (std::size_t p = 0; p < kPictures; ++p) {
    for (std::size_t i = 0; i < kHeight * kStride; ++i) {
      const std::size_t y = i / kStride, x = i % kStride;
      EXPECT_EQ(pictures[p][i], x < kRow ? dense[(p * kHeight + y) * kRow + x] : 0);
    }
  }
}

}  // namespace
}  // namespace elan::cuda
