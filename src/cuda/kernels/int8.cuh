// Operands of 8 bits, four to a word: integers as docs/quantization.md has them, or E4M3, and their
// products on Hopper.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/kernels/ptx.cuh"
#include "cuda/kernels/wgmma.cuh"

namespace elan::cuda {

// Rows g and g + 8 of 16 k: of two accumulator tiles, a lane's columns of the one and of the other.
struct ByteUnits {
  std::uint32_t r[2];
};

// Bytes below 0 become 0.
__device__ __forceinline__ std::uint32_t relu_int8(std::uint32_t v) {
  return v & ~byte_signs(v);
}

// What the kernels multiply. Numbers times `factor` to a word of operands: integers within
// -127..127 ...
struct Int8 {
  using Sum = int;
  static constexpr int kHiddenTiles = kInt8HiddenTiles;  // an even number, see layout.h
  static __device__ __forceinline__ std::uint32_t encode(float a, float b, float c, float d,
                                                         float factor) {
    constexpr float kLeast = -127;
    return pack_int8(fmaxf(a * factor, kLeast), fmaxf(b * factor, kLeast),
                     fmaxf(c * factor, kLeast), fmaxf(d * factor, kLeast));
  }
  static __device__ __forceinline__ std::uint32_t encode_relu(float a, float b, float c, float d) {
    return relu_int8(pack_int8(a, b, c, d));
  }
};
// ... or E4M3, for which they are as they are.
struct Fp8 {
  using Sum = float;
  static constexpr int kHiddenTiles = kHopperLayout.hidden_tiles;
  static __device__ __forceinline__ std::uint32_t encode(float a, float b, float c, float d,
                                                         float) {
    return pack_e4m3(a, b, c, d);
  }
#if ELAN_HOPPER
  static __device__ __forceinline__ std::uint32_t encode_relu(float a, float b, float c, float d) {
    return pack_e4m3_relu(a, b, c, d);
  }
#endif
};

template <typename K>
__device__ __forceinline__ ByteUnits encode(const float (&c0)[4], const float (&c1)[4],
                                            float factor) {
  return {{K::encode(c0[0], c0[1], c1[0], c1[1], factor),
           K::encode(c0[2], c0[3], c1[2], c1[3], factor)}};
}

__device__ __forceinline__ float to_float(int v) {
  return __int2float_rn(v);
}
__device__ __forceinline__ float to_float(float v) {
  return v;
}
// An accumulator tile as numbers; `column`: both columns' scales, then their biases.
template <typename Sum>
__device__ __forceinline__ void apply(float (&c)[4], const Sum (&acc)[4], float4 column) {
  c[0] = fmaf(to_float(acc[0]), column.x, column.z);
  c[1] = fmaf(to_float(acc[1]), column.y, column.w);
  c[2] = fmaf(to_float(acc[2]), column.x, column.z);
  c[3] = fmaf(to_float(acc[3]), column.y, column.w);
}

#if ELAN_HOPPER

// acc = or += A (64 x 192) * a slab of so many tiles, begun and committed.
template <int SlabTiles = kInt8Tiles, int N, typename Sum>
__device__ __forceinline__ void multiply(Sum (&acc)[N][4], const ByteUnits* units,
                                         std::uint32_t slab, bool accumulate) {
  wgmma_fence();
#pragma unroll
  for (int u = 0; u < kInt8Units; u += 2) {
    const std::uint32_t a[4] = {units[u].r[0], units[u].r[1], units[u + 1].r[0], units[u + 1].r[1]};
    const std::uint64_t b = core_descriptor(slab + u * SlabTiles * 128, SlabTiles);
    if constexpr (std::is_same_v<Sum, int>) {
      wgmma_int8(acc, a, b, accumulate || u > 0 ? 1 : 0);
    } else {
      wgmma_e4m3(acc, a, b, accumulate || u > 0 ? 1 : 0);
    }
  }
  wgmma_commit();
}

#endif

}  // namespace elan::cuda
