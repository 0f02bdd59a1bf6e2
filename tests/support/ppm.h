// Pictures for programs that run where no picture library is: what tools/to_ppm.py writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "elan/error.h"
#include "elan/image.h"

namespace elan::test {

struct Ppm {
  int width = 0, height = 0;
  std::vector<std::uint8_t> rgb;  // interleaved, no padding
  [[nodiscard]] ConstImageView view() const { return view_of(rgb.data(), width, height); }
};

// A binary PPM file of 8 bits without comments; throws Error (input) for anything else.
inline Ppm read_ppm(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  Ppm p;
  int most = 0;
  file >> magic >> p.width >> p.height >> most;
  file.get();
  if (!file || magic != "P6" || most != 255 || p.width <= 0 || p.height <= 0) {
    throw Error(ErrorKind::input, path.string() + ": expected a binary PPM file of 8 bits");
  }
  p.rgb.resize(std::size_t{3} * static_cast<std::size_t>(p.width) *
               static_cast<std::size_t>(p.height));
  file.read(reinterpret_cast<char*>(p.rgb.data()), static_cast<std::streamsize>(p.rgb.size()));
  if (!file) throw Error(ErrorKind::input, path.string() + ": ends early");
  return p;
}

}  // namespace elan::test
