#include "picture/alpha.h"

#include <algorithm>
#include <cstdint>

namespace elan::picture {
namespace {

template <typename T>
T* row_of(const BasicImageView<std::byte>& view, int y) {
  return reinterpret_cast<T*>(view.data + static_cast<std::size_t>(y) * view.row_bytes);
}

template <typename T>
const T* row_of(const BasicImageView<const std::byte>& view, int y) {
  return reinterpret_cast<const T*>(view.data + static_cast<std::size_t>(y) * view.row_bytes);
}

constexpr std::int32_t kNone = -1;

// For every pixel the row of the nearest visible pixel in its own column, or kNone.
template <typename T>
std::vector<std::int32_t> nearest_rows(const ConstImageView& alpha) {
  const auto w = static_cast<std::size_t>(alpha.width);
  std::vector<std::int32_t> nearest(w * static_cast<std::size_t>(alpha.height), kNone);
  for (int y = 0; y < alpha.height; ++y) {
    const T* a = row_of<T>(alpha, y);
    std::int32_t* row = nearest.data() + static_cast<std::size_t>(y) * w;
    for (std::size_t x = 0; x < w; ++x) row[x] = a[3 * x] != 0 ? y : y > 0 ? (row - w)[x] : kNone;
  }
  for (int y = alpha.height - 2; y >= 0; --y) {
    std::int32_t* row = nearest.data() + static_cast<std::size_t>(y) * w;
    for (std::size_t x = 0; x < w; ++x) {
      const std::int32_t below = row[x + w];
      if (below != kNone && (row[x] == kNone || below - y < y - row[x])) row[x] = below;
    }
  }
  return nearest;
}

// Lower envelope of the parabolas (x - column)^2 + height of one row.
class Envelope {
 public:
  explicit Envelope(std::size_t width) : columns_(width), starts_(width) {}

  void build(const std::int32_t* nearest, int width, int y) {
    size_ = 0;
    for (int column = 0; column < width; ++column) {
      if (nearest[column] == kNone) continue;
      std::int64_t start = 0;
      while (size_ > 0) {
        start = first_where_nearer(columns_[size_ - 1], column, nearest, y);
        if (start > starts_[size_ - 1]) break;
        --size_;
        start = 0;
      }
      columns_[size_] = column;
      starts_[size_++] = start;
    }
  }

  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] int column(std::size_t i) const { return columns_[i]; }
  // One past the last x at which parabola i is the lowest.
  [[nodiscard]] std::int64_t end(std::size_t i, int width) const {
    return i + 1 < size_ ? std::min<std::int64_t>(starts_[i + 1], width) : width;
  }

 private:
  // The first x at which the parabola of column b > a lies strictly below that of a.
  static std::int64_t first_where_nearer(int a, int b, const std::int32_t* nearest, int y) {
    const std::int64_t da = nearest[a] - y, db = nearest[b] - y;
    const std::int64_t numerator = db * db + std::int64_t{b} * b - da * da - std::int64_t{a} * a;
    const std::int64_t denominator = 2 * (std::int64_t{b} - a);
    const std::int64_t floor =
        numerator >= 0 ? numerator / denominator : -((-numerator + denominator - 1) / denominator);
    return floor + 1;
  }

  std::vector<int> columns_;
  std::vector<std::int64_t> starts_;
  std::size_t size_ = 0;
};

template <typename T>
void fill(const ImageView& rgb, const ConstImageView& alpha) {
  const std::vector<std::int32_t> nearest = nearest_rows<T>(alpha);
  Envelope envelope(static_cast<std::size_t>(rgb.width));
  for (int y = 0; y < rgb.height; ++y) {
    const std::int32_t* row =
        nearest.data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(rgb.width);
    envelope.build(row, rgb.width, y);
    if (envelope.empty()) return;  // not one visible pixel in the picture
    const T* a = row_of<T>(alpha, y);
    T* out = row_of<T>(rgb, y);
    std::int64_t x = 0;
    for (std::size_t i = 0; x < rgb.width; ++i) {
      const int column = envelope.column(i);
      const T* colour = row_of<T>(rgb, row[column]) + std::ptrdiff_t{3} * column;
      for (const std::int64_t end = envelope.end(i, rgb.width); x < end; ++x)
        if (a[3 * x] == 0) std::copy_n(colour, 3, out + 3 * x);
    }
  }
}

}  // namespace

void fill_transparent(const ImageView& rgb, const ConstImageView& alpha) {
  if (rgb.type == SampleType::u8)
    fill<std::uint8_t>(rgb, alpha);
  else
    fill<std::uint16_t>(rgb, alpha);
}

AlphaLimits::AlphaLimits(const ConstImageView& alpha, int width, int height)
    : alpha_(alpha), height_(height), column_(static_cast<std::size_t>(width)) {
  for (int x = 0; x < width; ++x)
    column_[static_cast<std::size_t>(x)] =
        static_cast<std::size_t>(std::int64_t{x} * alpha.width / width);
}

template <typename T>
void AlphaLimits::prepare(int input_row) {
  const auto w = static_cast<std::size_t>(alpha_.width);
  std::vector<int> low(w, 65535), high(w, 0);
  for (int y = std::max(0, input_row - 1); y <= std::min(alpha_.height - 1, input_row + 1); ++y) {
    const T* a = row_of<T>(alpha_, y);
    for (std::size_t x = 0; x < w; ++x) {
      low[x] = std::min<int>(low[x], a[3 * x]);
      high[x] = std::max<int>(high[x], a[3 * x]);
    }
  }
  low_.resize(w);
  high_.resize(w);
  for (std::size_t x = 0; x < w; ++x) {
    const std::size_t left = x > 0 ? x - 1 : 0, right = std::min(w - 1, x + 1);
    low_[x] = std::min({low[left], low[x], low[right]});
    high_[x] = std::max({high[left], high[x], high[right]});
  }
  prepared_row_ = input_row;
}

template <typename T>
void AlphaLimits::apply(int y, T* row) {
  const int input_row = static_cast<int>(std::int64_t{y} * alpha_.height / height_);
  if (input_row != prepared_row_) prepare<T>(input_row);
  for (std::size_t x = 0; x < column_.size(); ++x)
    row[x] = static_cast<T>(std::clamp<int>(row[x], low_[column_[x]], high_[column_[x]]));
}

template void AlphaLimits::apply<std::uint8_t>(int, std::uint8_t*);
template void AlphaLimits::apply<std::uint16_t>(int, std::uint16_t*);

}  // namespace elan::picture
