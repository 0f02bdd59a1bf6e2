// Pixels of the picture, as the network's first convolution and the skip take them.
#pragma once

#include "cuda/kernels/samples.cuh"
#include "cuda/kernels/split.cuh"

namespace elan::cuda {

// Reflection about the edge pixels, repeated as often as needed; never negative indices.
__device__ __forceinline__ int reflect(int i, int size) {
  if (i < size) return i;
  if (size == 1) return 0;
  const int period = 2 * (size - 1);
  i %= period;
  return i < size ? i : period - i;
}

// A pixel of the picture without the mean: reflected on the right and below, zeros outside of the
// grid.
__device__ __forceinline__ float3 load_pixel(const HeadArgs& p, int image, int y, int x) {
  if (x < 0 || x >= p.grid.width || y < 0 || y >= p.grid.height) return make_float3(0, 0, 0);
  const auto row = static_cast<std::size_t>(image) * p.input_height + reflect(y, p.input_height);
  const auto at = (row * p.input_width + reflect(x, p.input_width)) * 3;
  const float3 v = load_colours(p.input, p.sample, at);
  return make_float3(v.x - p.mean[0], v.y - p.mean[1], v.z - p.mean[2]);
}

}  // namespace elan::cuda
