// What the GMSA kernels of the narrow network on Hopper share (60 channels, 16 bits): windows whose
// keys all four warps of a warpgroup have in common, and project_out, as products of a warpgroup.
//
// q and v come from memory as everywhere (layout.h), but to shared memory as core matrices
// (cores.cuh), in pieces of 4 and 8 bytes: what a lane has of two units and one token of q, two
// channels each, is 8 bytes in a row, and so is what it has of one unit of v. Two lanes make the 16
// bytes of a row of 8 k. That orders the channels of q anyhow, but queries and keys alike, and the
// tokens of a block in a way of its own, for q and v the same: core_row().
//
//   q  [block][half of the tokens][unit][8 tokens x 8 channels]
//   v  [block][half of the tokens][unit][8 channels x 8 tokens]
#pragma once

#include "cuda/kernels/gmsa.cuh"
#include "cuda/kernels/wgmma.cuh"

namespace elan::cuda {
namespace hopper_narrow {

constexpr ChannelLayout kL = kNarrowLayout;
constexpr int kGU = kL.group_units, kUnits = kWindowGroups * kGU, kTiles = kL.out_tiles;
constexpr std::size_t kBlock = block_bytes(kL, 2);
constexpr int kGroup = static_cast<int>(group_bytes(kL, 2));
constexpr int kCore = 128, kHalf = kGU * kCore;  // bytes
constexpr int kBlockCores = 2 * kHalf;           // q or v of a block
constexpr int kWindowCores = 16 * kBlockCores;   // v of a window is behind its q

// Where tokens g and g + 8 (behind it by 2) are in the half that has them, number g / 4.
__device__ __forceinline__ int core_row(int g) {
  return (g >> 1 & 1) * 4 + (g & 1);
}

#if ELAN_HOPPER

// Brings q and v of a group in the 16 blocks of a window to `to`, two blocks a warp of eight:
// at(i) is where block i, an even one, is in memory; the next one is behind it.
template <typename At>
__device__ __forceinline__ void bring_cores(std::uint32_t to, const char* q, const char* v,
                                            int warp, int lane, At at) {
  const std::size_t from = at(2 * warp);
  const std::uint32_t to_q = to + warp * 2 * kBlockCores, to_v = to_q + kWindowCores;
  // 32 pieces of 8 bytes fill two core matrices, which are the lane's place's: of q two units of
  // half a block, of v a half of two units.
  const int even = lane & 1, row = lane >> 1 & 7, second = lane >> 4;
  const char* const pieces_q =
      q + from + even * 16 + (row & 1) * 64 + (row >> 1 & 1) * 8 + (row >> 2) * 128 + second * 32;
  const char* const pieces_v = v + from + even * 16 + row * 64 + second * 8;
  // Of the last unit of q 4 bytes, two channels of a token; of v rows of 8 tokens.
  const char* const last_q = q + from + 512 + lane * 4;
  const int g = lane >> 2;
  const std::uint32_t to_last_q = to_q + 2 * kCore + (g >> 2) * kHalf +
                                  (core_row(g) + (lane & 1) * 2) * 16 + (lane >> 1 & 1) * 4;
#pragma unroll
  for (int b = 0; b < 2; ++b) {
    const int block = b * static_cast<int>(kBlock);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const std::uint32_t half = b * kBlockCores + h * kHalf + lane * 8;
      cp_async_few<8>(to_q + half, pieces_q + block + h * 256);
      cp_async_few<8>(to_v + half, pieces_v + block + h * 32);
    }
    cp_async_few<4>(to_last_q + b * kBlockCores, last_q + block);
  }
  if (lane < 16) {
    const int b = lane >> 3, channel = lane >> 1 & 3, h = lane & 1;
    cp_async16_or_zeros(to_v + b * kBlockCores + h * kHalf + 2 * kCore + channel * 16,
                        v + from + b * kBlock + 512 + (lane & 7) * 16, true);
  }
}

// The padding of those operands, which stays: of keys kReferenceUnit and 1, of v a channel of ones.
template <typename K, int Threads>
__device__ __forceinline__ void pad_cores(char* to, int thread) {
#pragma unroll
  for (int i = thread; i < 2 * 16 * 16; i += Threads) {
    const int half = i >> 3, row = i & 7;  // of q and then of v
    char* const core = to + half * kHalf + 2 * kCore;
    if (half < 32) {
      *reinterpret_cast<uint2*>(core + row * 16 + 8) = make_uint2(K::pack(kReferenceUnit, 1), 0);
    } else if (row >= 4) {
      const std::uint32_t ones = row == 4 ? K::pack(1, 1) : 0U;
      *reinterpret_cast<uint4*>(core + row * 16) = make_uint4(ones, ones, ones, ones);
    }
  }
}

// The queries of a warp from the cores of their block.
__device__ __forceinline__ void load_queries(UnitA2 (&q)[kGU], const char* block, int lane) {
  const int g = lane >> 2, t = lane & 3;
  const char* const own = block + (g >> 2) * kHalf + core_row(g) * 16 + t * 4;
#pragma unroll
  for (int u = 0; u < kGU; ++u) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      q[u].r[h] = *reinterpret_cast<const std::uint32_t*>(own + u * kCore + h * 32);
    }
  }
}

// Adds 32 * steps keys for M times the warpgroup's 64 queries. keys[m]: the cores of the first two
// blocks in shared memory; the next two are `step` bytes further.
template <bool F16, int M>
__device__ __forceinline__ void attend(Attention<kGU> (&a)[M], UnitA2 (&q)[M][kGU],
                                       const std::uint32_t (&keys)[M], int steps, int step,
                                       int lane) {
  using K = Codec16<F16>;
#pragma unroll 1
  for (int i = 0; i < steps; ++i) {
#pragma unroll
    for (int m = 0; m < M; ++m) {
      const std::uint32_t at = keys[m] + i * step;
      float s[4][4];
      wgmma_fence();
      wgmma<F16, false>(s, q[m][0], q[m][1], core_descriptor(at, kCore, kHalf));
      // The last unit twice, once with zeros.
      wgmma<F16, true>(s, q[m][2], UnitA2{}, core_descriptor(at + 2 * kCore, 0, kHalf));
      wgmma_commit();
      wgmma_wait<0>(s, a[m].out);
      UnitA2 p[4];
      weigh<K>(reinterpret_cast<Attention<kGU>(&)[1]>(a[m]),
               reinterpret_cast<UnitA2(&)[1][kGU]>(q[m]), reinterpret_cast<float(&)[1][4][4]>(s),
               reinterpret_cast<UnitA2(&)[1][4]>(p), lane);
      wgmma_fence();
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        wgmma<F16>(a[m].out, p[2 * b], p[2 * b + 1],
                   core_descriptor(at + kWindowCores + b * kBlockCores, kHalf, kCore), 1);
      }
      wgmma_commit();
    }
  }
#pragma unroll
  for (int m = 0; m < M; ++m) wgmma_wait<0>(a[m].out);
}

// acc += project_out's product; its bias is among the weights.
template <bool F16>
__device__ __forceinline__ void project_out(float (&acc)[kTiles][4], const UnitA2 (&o)[kUnits],
                                            const CoreSlab<kTiles>& weights) {
  wgmma_fence();
#pragma unroll
  for (int u = 0; u < kUnits; u += 2) {
    wgmma<F16>(acc, o[u], u + 1 < kUnits ? o[u + 1 < kUnits ? u + 1 : 0] : UnitA2{},
               weights.unit(u), 1);
  }
  wgmma_commit();
  wgmma_wait<0>(acc);
}

#endif

}  // namespace hopper_narrow
}  // namespace elan::cuda
