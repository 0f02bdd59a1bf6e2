// The head, a 3x3 convolution from 3 colours: the picture around its pixels, and its product on
// tensor cores, each number as two FP16 terms.
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

// Rows x Columns of them from (y, x) on.
template <int Rows, int Columns>
__device__ __forceinline__ void load_patch(float (&patch)[Rows][Columns][3], const HeadArgs& p,
                                           int image, int y, int x, int thread, int threads) {
  for (int i = thread; i < Rows * Columns; i += threads) {
    const float3 v = load_pixel(p, image, y + i / Columns, x + i % Columns);
    float* const to = &patch[0][0][0] + 3 * i;
    to[0] = v.x;
    to[1] = v.y;
    to[2] = v.z;
  }
}

// The operands of 16 pixels: k = 9 * ky + 3 * kx + colour, in four units.
struct HeadOperand {
  int at[kHeadUnits][2];  // of this lane's numbers, from its pixel's patch of 3 x 3

  __device__ __forceinline__ HeadOperand(int columns, int t) {
#pragma unroll
    for (int u = 0; u < kHeadUnits; ++u) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int k = 8 * u + 2 * t + i;
        at[u][i] = k < 27 ? k / 9 * columns * 3 + k % 9 : 0;  // weights beyond are zero
      }
    }
  }
  // Rows g and g + 8 have their patches at these places.
  __device__ __forceinline__ void load(UnitA4 (&a)[kHeadUnits], const float* patch0,
                                       const float* patch1) const {
#pragma unroll
    for (int u = 0; u < kHeadUnits; ++u) {
      a[u] = CodecFp32::encode(
          {patch0[at[u][0]], patch0[at[u][1]], patch1[at[u][0]], patch1[at[u][1]]});
    }
  }
};

// acc = A * a slab, whose `i`th 16 bytes of this lane are words(i), and the bias of its columns.
template <typename Words>
__device__ __forceinline__ void multiply_head(float (&acc)[kHeadTiles][4],
                                              const UnitA4 (&a)[kHeadUnits], Words words,
                                              const float* bias, float unscale, int t) {
#pragma unroll
  for (int n = 0; n < kHeadTiles; ++n) acc[n][0] = acc[n][1] = acc[n][2] = acc[n][3] = 0;
#pragma unroll
  for (int u = 0; u < kHeadUnits; u += 2) {
#pragma unroll
    for (int n = 0; n < kHeadTiles; ++n) {
      const uint4 w = words(u / 2 * kHeadTiles + n);
      CodecFp32::mma16(acc[n], a[u], a[u + 1], {{w.x, w.y}}, {{w.z, w.w}});
    }
  }
#pragma unroll
  for (int n = 0; n < kHeadTiles; ++n) {
    const float2 b = __ldg(reinterpret_cast<const float2*>(bias + n * 8) + t);
    apply(acc[n], acc[n], make_float2(unscale, unscale), b);
  }
}

}  // namespace elan::cuda
