// Integers of 8 bits, four to a word: what docs/quantization.md wants of them, and their products
// on Hopper.
#pragma once

#include <cstdint>

#include "cuda/kernels/ptx.cuh"
#include "cuda/kernels/wgmma.cuh"

namespace elan::cuda {

// Rows g and g + 8 of 16 k: of two accumulator tiles, a lane's columns of the one and of the other.
struct Int8Units {
  std::uint32_t r[2];
};

// An accumulator tile as numbers; `column`: both columns' scales, then their biases.
__device__ __forceinline__ void apply_int8(float (&c)[4], const int (&acc)[4], float4 column) {
  c[0] = fmaf(__int2float_rn(acc[0]), column.x, column.z);
  c[1] = fmaf(__int2float_rn(acc[1]), column.y, column.w);
  c[2] = fmaf(__int2float_rn(acc[2]), column.x, column.z);
  c[3] = fmaf(__int2float_rn(acc[3]), column.y, column.w);
}

// Bytes below 0 become 0.
__device__ __forceinline__ std::uint32_t relu_int8(std::uint32_t v) {
  return v & ~byte_signs(v);
}

// Numbers times `factor`, within -127..127.
__device__ __forceinline__ std::uint32_t quantize_int8(float a, float b, float c, float d,
                                                       float factor) {
  constexpr float kLeast = -127;
  return pack_int8(fmaxf(a * factor, kLeast), fmaxf(b * factor, kLeast), fmaxf(c * factor, kLeast),
                   fmaxf(d * factor, kLeast));
}
__device__ __forceinline__ Int8Units quantize_int8(const float (&c0)[4], const float (&c1)[4],
                                                   float factor) {
  return {{quantize_int8(c0[0], c0[1], c1[0], c1[1], factor),
           quantize_int8(c0[2], c0[3], c1[2], c1[3], factor)}};
}

#if ELAN_HOPPER

// acc = or += A (64 x 192) * a slab, begun and committed.
template <int N>
__device__ __forceinline__ void multiply_int8(int (&acc)[N][4], const Int8Units* units,
                                              std::uint32_t slab, bool accumulate) {
  wgmma_fence();
#pragma unroll
  for (int u = 0; u < kInt8Units; u += 2) {
    const std::uint32_t a[4] = {units[u].r[0], units[u].r[1], units[u + 1].r[0], units[u + 1].r[1]};
    wgmma_int8(acc, a, core_descriptor(slab + u * N * 128, N), accumulate || u > 0 ? 1 : 0);
  }
  wgmma_commit();
}

#endif

}  // namespace elan::cuda
