// src/cuda/kernels/tensor_map.cuh in C++: a box is many bulk copies.
#pragma once

#include "cuda/kernels/kernels.h"
#include "cuda/kernels/wgmma.cuh"
#include "cuda/layout_narrow.h"

namespace elan::cuda {

struct StreamMap {
  const char* x = nullptr;
  Grid grid;
  int width = 0, height = 0;
};

inline StreamMap stream_map(const void* x, const Grid& g, int width, int height) {
  return {static_cast<const char*>(x), g, width, height};
}

inline void copy_box(std::uint32_t shared, const StreamMap& map, int x, int y, int image,
                     std::uint32_t barrier) {
  if (shared % 1024 != 0) emulator::fail("tensor copy: the box must begin at a multiple of 1024");
  for (int i = 0; i < map.width * map.height * 8; ++i) {
    const int px = x + i / 8 % map.width, py = y + i / 8 / map.width;
    const bool there = px >= 0 && px < map.grid.width && py >= 0 && py < map.grid.height;
    const auto pixel =
        (static_cast<std::ptrdiff_t>(image) * map.grid.height + py) * map.grid.width + px;
    emulator::copy_bulk(swizzled(shared + i * 16),
                        there ? map.x + pixel * 128 + i % 8 * 16 : nullptr, 16, barrier);
  }
}

}  // namespace elan::cuda
