// What the GMSA kernels of the Hopper path share: 180 channels, windows of 16 as products of a
// whole warpgroup, 64 queries, whose keys and values come straight from shared memory, brought
// there by bulk copies.
#pragma once

#include "cuda/kernels/gmsa.cuh"
#include "cuda/kernels/wgmma.cuh"

namespace elan::cuda {
namespace hopper {

constexpr ChannelLayout kL = layout_of(180);
constexpr int kU = kL.units, kGU = kL.group_units;
constexpr int kGroup = static_cast<int>(group_bytes(kL, 2));
constexpr std::size_t kBlock = block_bytes(kL, 2);
constexpr int kWindow = 16 * kGroup;  // q or v of a window of 16

#if ELAN_HOPPER

// A window of 8: all logits of the queries at `own` are there at once. k and v of its block b: at
// keys(b) and values(b).
template <typename K, typename Keys, typename Values>
__device__ __forceinline__ void attend_at_once(Attention<kGU>& a, const char* own, Keys keys,
                                               Values values, int lane, std::uint32_t nothing) {
  constexpr int kBlocks = 4;
  UnitA2 q[kGU];
  load_units<K, kGU, true>(q, own, lane);
#pragma unroll
  for (int u = 0; u < kGU; ++u) detach(q[u], nothing);
  float s[2 * kBlocks][4] = {};
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    UnitA2 k[kGU];
    load_units<K, kGU, true>(k, keys(b), lane);
#pragma unroll
    for (int h = 0; h < 2; ++h) add_logits<K, kGU>(s[2 * b + h], q, k, h);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float top = largest(s, r);
#pragma unroll
    for (int i = 0; i < 2 * kBlocks; ++i) {
      s[i][2 * r] -= top;
      s[i][2 * r + 1] -= top;
    }
  }
  UnitA2 weights[2 * kBlocks];
  exponentiate<K>(s, weights);
#pragma unroll
  for (int n = 0; n < kGU; ++n) a.out[n][0] = a.out[n][1] = a.out[n][2] = a.out[n][3] = 0;
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    UnitA2 v[kGU];
    load_units<K, kGU, false>(v, values(b), lane);
#pragma unroll
    for (int n = 0; n < kGU; ++n) {
      K::mma16(a.out[n], weights[2 * b], weights[2 * b + 1], K::half_of(v[n], 0),
               K::half_of(v[n], 1));
    }
  }
}

// The 256 keys of a window, 8 * Tiles at a time, for the warpgroup's 64 queries. q and v: the
// window in shared memory, as store_cores() left it; own, own_units: the warpgroup's and the warp's
// queries there. meanwhile(): called when the first keys are done.
template <bool F16, int Tiles, typename Meanwhile>
__device__ __forceinline__ void attend_window(Attention<kGU>& a, std::uint32_t own,
                                              std::uint32_t q_window, std::uint32_t v_window,
                                              const char* own_units, int lane, float factor,
                                              Meanwhile meanwhile) {
  using K = Codec16<F16>;
  constexpr int kHalf = kGroup / 2, kStep = Tiles * kHalf;
  {
    UnitA2 q[kGU];
#pragma unroll
    for (int u = 0; u < kGU; ++u) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        q[u].r[h] = reinterpret_cast<const std::uint32_t*>(own_units + h * kHalf + u * 128)[lane];
      }
    }
    start<K>(a, q, lane);
  }
  const CoreMatrices<128, kHalf> queries(own);
  bool raised = false;
#pragma unroll 1
  for (int i = 0; i < 32 / Tiles; ++i) {
    const CoreMatrices<128, kHalf> keys(q_window + i * kStep);
    const CoreMatrices<kHalf, 128> values(v_window + i * kStep);
    float s[Tiles][4];
#pragma unroll
    for (int n = 0; n < Tiles; ++n) clear<K>(s[n], a);
    wgmma_fence();
#pragma unroll
    for (int u = 0; u < kGU; u += 2) {
      wgmma_shared<F16>(s, queries.at(u * 128), keys.at(u * 128), 1);
    }
    wgmma_commit();
    wgmma_wait<0>(s);
    UnitA2 weights[Tiles];
    weigh<K>(a, s, weights, raised);
    wgmma_fence();
#pragma unroll
    for (int n = 0; n < Tiles; n += 2) {
      wgmma<F16>(a.out, weights[n], weights[n + 1], values.at(n * kHalf), 1);
    }
    wgmma_commit();
    wgmma_wait<0>(a.out);
    if (i == 0) meanwhile();
  }
  finish<K>(a, lane, factor);
}

// Brings q and v of a window group in 4 x Rows blocks, from block (y, x) on, in copies that
// complete on `full`: a whole warp. v comes kWindow bytes behind q.
template <int Rows>
__device__ __forceinline__ void bring_blocks(const GmsaArgs& p, const QueryBlock& place, int group,
                                             int y, int x, std::uint32_t to, std::uint32_t full,
                                             int lane) {
  if (lane == 0) barrier_expect(full, 2 * 4 * Rows * kGroup);
  __syncwarp();
  const int b = lane % 16, is_v = lane / 16;
  if (b >= 4 * Rows) return;
  const std::size_t from = place.at(y + b / 4, x + b % 4) * kBlock + group * kGroup;
  copy_bulk(to + is_v * kWindow + b * kGroup, (is_v != 0 ? p.v : p.q) + from, kGroup, full);
}

__device__ __forceinline__ void bring_window(const GmsaArgs& p, const QueryBlock& place,
                                             std::uint32_t window, std::uint32_t full, int lane) {
  bring_blocks<4>(p, place, 2, place.window_y, place.window_x, window, full, lane);
}

#endif

}  // namespace hopper
}  // namespace elan::cuda
