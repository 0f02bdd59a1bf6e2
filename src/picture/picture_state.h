// What a loaded picture is made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "picture/vips_tools.h"

namespace elan::picture {

// Interleaved samples, three a pixel, from libvips or of our own making.
struct Plane {
  std::unique_ptr<std::byte[], void (*)(void*)> data{nullptr, nullptr};
  std::size_t bytes = 0;
};

struct Picture::State {
  Format format = Format::png;
  int width = 0, height = 0;
  SampleType type = SampleType::u8;
  int significant_bits = 8;  // of the file's samples; 10 and 12 happen in AVIF and HEIC
  bool gray = false;
  bool has_alpha = false;  // the file had an alpha band, though it may be opaque
  Plane rgb;
  Plane alpha;      // replicated; empty when opaque
  VImage metadata;  // one pixel that carries profile, EXIF and so on
  std::vector<std::string> warnings;

  [[nodiscard]] std::size_t row_bytes() const {
    return static_cast<std::size_t>(width) * 3 * size_of(type);
  }
};

}  // namespace elan::picture
