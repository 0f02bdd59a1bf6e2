// src/cuda/kernels/tensor_map.cuh in C++: a box is many bulk copies.
#pragma once

#include "cuda/kernels/kernels.h"
#include "cuda/kernels/wgmma.cuh"
#include "cuda/layout_narrow.h"

namespace elan::cuda {

struct StreamMap {
  const char* x = nullptr;
  Grid grid;
  int units = 0, width = 0, height = 0;
};

inline StreamMap stream_map(const void* x, const Grid& g, int units, int width, int height) {
  return {static_cast<const char*>(x), g, units, width, height};
}

inline void copy_box(std::uint32_t shared, const StreamMap& map, int x, int y, int image,
                     std::uint32_t barrier) {
  const bool spread = map.units == 8;
  if (shared % (spread ? 1024 : 128) != 0) {
    emulator::fail("tensor copy: the box must begin at a multiple of 1024, or of 128 if plain");
  }
  for (int i = 0; i < map.width * map.height * map.units; ++i) {
    const int px = x + i / map.units % map.width, py = y + i / map.units / map.width;
    const bool there = px >= 0 && px < map.grid.width && py >= 0 && py < map.grid.height;
    const auto pixel =
        (static_cast<std::ptrdiff_t>(image) * map.grid.height + py) * map.grid.width + px;
    const std::uint32_t to = shared + i * 16;
    emulator::copy_bulk(spread ? swizzled(to) : to,
                        there ? map.x + (pixel * map.units + i % map.units) * 16 : nullptr, 16,
                        barrier);
  }
}

}  // namespace elan::cuda
