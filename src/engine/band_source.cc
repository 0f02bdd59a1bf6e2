#include "engine/band_source.h"

#include <cstring>
#include <string>

namespace elan {

std::size_t BandedRows::row_bytes() const {
  return static_cast<std::size_t>(in_.width) * scale_ * 3 * size_of(type_);
}

ImageView BandedRows::hold(int rows) {
  band_.resize(row_bytes() * static_cast<std::size_t>(rows) * scale_);
  return {band_.data(), in_.width * scale_, rows * scale_, type_, row_bytes()};
}

void BandedRows::read(int y, const ImageView& out) {
  if (out.width != in_.width * scale_ || out.type != type_ || y < begin_ * scale_ ||
      y + out.height > in_.height * scale_) {
    throw Error(ErrorKind::internal, "rows " + std::to_string(y) + ".. asked for out of order");
  }
  for (int row = 0; row < out.height; ++row) {
    while (y + row >= end_ * scale_) {
      begin_ = end_;
      end_ = compute_band(begin_);
    }
    std::memcpy(out.data + static_cast<std::size_t>(row) * out.row_bytes,
                band_.data() + static_cast<std::size_t>(y + row - begin_ * scale_) * row_bytes(),
                row_bytes());
  }
}

}  // namespace elan
