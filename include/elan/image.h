// Non-owning views of pictures in memory: interleaved RGB, rows from top to bottom.
#pragma once

#include <cstddef>
#include <cstdint>

namespace elan {

// Samples and their ranges: u8 0..255; u16 0..65535 (257 times the u8 value); f32 0..255 (the
// network's own range, not clamped on output).
enum class SampleType : std::uint8_t { u8, u16, f32 };

constexpr std::size_t size_of(SampleType type) {
  return type == SampleType::u8 ? 1 : type == SampleType::u16 ? 2 : 4;
}

// `Byte` is std::byte or const std::byte. The memory belongs to the caller and must outlive the
// call it is passed to. Rows may be padded: row y starts at data + y * row_bytes.
template <typename Byte>
struct BasicImageView {
  Byte* data = nullptr;
  int width = 0;   // pixels
  int height = 0;  // pixels
  SampleType type = SampleType::u8;
  std::size_t row_bytes = 0;  // bytes from one row to the next, >= width * 3 * size_of(type)

  // The rectangle [x, x + w) x [y, y + h) of this view.
  [[nodiscard]] BasicImageView crop(int x, int y, int w, int h) const {
    return {data + static_cast<std::size_t>(y) * row_bytes +
                static_cast<std::size_t>(x) * 3 * size_of(type),
            w, h, type, row_bytes};
  }
};

using ImageView = BasicImageView<std::byte>;

struct ConstImageView : BasicImageView<const std::byte> {
  ConstImageView() = default;
  ConstImageView(const BasicImageView<const std::byte>& v) : BasicImageView(v) {}
  ConstImageView(const ImageView& v)
      : BasicImageView{v.data, v.width, v.height, v.type, v.row_bytes} {}
};

// Views of densely packed RGB samples.
template <typename T>
constexpr SampleType sample_type_of() {
  static_assert(sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4);
  return sizeof(T) == 1 ? SampleType::u8 : sizeof(T) == 2 ? SampleType::u16 : SampleType::f32;
}

template <typename T>
ImageView view_of(T* rgb, int width, int height) {
  return {reinterpret_cast<std::byte*>(rgb), width, height, sample_type_of<T>(),
          static_cast<std::size_t>(width) * 3 * sizeof(T)};
}

template <typename T>
ConstImageView view_of(const T* rgb, int width, int height) {
  return BasicImageView<const std::byte>{reinterpret_cast<const std::byte*>(rgb), width, height,
                                         sample_type_of<T>(),
                                         static_cast<std::size_t>(width) * 3 * sizeof(T)};
}

}  // namespace elan
