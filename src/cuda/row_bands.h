// The rows of a batch of pictures that lie one after another in a dense buffer, in bands of whole
// rows, so that one band can be used while the next is on its way.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "elan/image.h"

namespace elan::cuda {

class RowBands {
 public:
  RowBands() = default;
  // Of at least `band_bytes` each but the last, and at most `most` bands.
  RowBands(std::size_t rows, std::size_t row_bytes, std::size_t band_bytes, std::size_t most)
      : rows_(rows),
        row_bytes_(row_bytes),
        band_rows_(std::max((band_bytes + row_bytes - 1) / row_bytes, (rows + most - 1) / most)) {}

  [[nodiscard]] std::size_t bytes() const { return rows_ * row_bytes_; }
  [[nodiscard]] std::size_t count() const { return (rows_ + band_rows_ - 1) / band_rows_; }
  // Where a band begins in the buffer, in bytes; band count() is the end of the last.
  [[nodiscard]] std::size_t begin(std::size_t band) const {
    return std::min(band * band_rows_, rows_) * row_bytes_;
  }

  // Copies a band from the buffer to where its rows are in the pictures, all of one height.
  void copy(std::size_t band, const std::byte* buffer, std::span<const ImageView> pictures) const {
    const auto height = static_cast<std::size_t>(pictures.front().height);
    const std::size_t end = std::min((band + 1) * band_rows_, rows_);
    for (std::size_t row = band * band_rows_; row < end; ++row) {
      const ImageView& picture = pictures[row / height];
      std::memcpy(picture.data + row % height * picture.row_bytes, buffer + row * row_bytes_,
                  row_bytes_);
    }
  }

 private:
  std::size_t rows_ = 0, row_bytes_ = 1, band_rows_ = 1;
};

}  // namespace elan::cuda
