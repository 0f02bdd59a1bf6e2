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

// The 256 keys of a window, 32 at a time, for the warpgroup's 64 queries. q and v: the window in
// shared memory, as store_cores() left it; own, own_units: the warpgroup's and the warp's queries
// there.
template <bool F16>
__device__ __forceinline__ void attend_window(Attention<kGU>& a, std::uint32_t own,
                                              std::uint32_t q_window, std::uint32_t v_window,
                                              const char* own_units, int lane, float factor) {
  using K = Codec16<F16>;
  constexpr int kHalf = kGroup / 2, kStep = 2 * kGroup;
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
#pragma unroll 1
  for (int i = 0; i < 8; ++i) {
    float s[4][4];
#pragma unroll
    for (int n = 0; n < 4; ++n) clear<K>(s[n], a);
    wgmma_fence();
#pragma unroll
    for (int u = 0; u < kGU; u += 2) {
      wgmma_shared<F16>(s, core_descriptor(own + u * 128, 128, kHalf),
                        core_descriptor(q_window + i * kStep + u * 128, 128, kHalf), 1);
    }
    wgmma_commit();
    wgmma_wait<0>(s);
    UnitA2 weights[4];
    weigh<K>(a, s, weights);
    wgmma_fence();
#pragma unroll
    for (int n = 0; n < 4; n += 2) {
      wgmma<F16>(a.out, weights[n], weights[n + 1],
                 core_descriptor(v_window + i * kStep + n * kHalf, kHalf, 128), 1);
    }
    wgmma_commit();
    wgmma_wait<0>(a.out);
  }
  finish<K>(a, lane, factor);
}

// Brings q and v of a warp's window, in 32 copies that complete on `full`: a whole warp.
__device__ __forceinline__ void bring_window(const GmsaArgs& p, const QueryBlock& place,
                                             std::uint32_t window, std::uint32_t full, int lane) {
  if (lane == 0) barrier_expect(full, 2 * kWindow);
  __syncwarp();
  const int b = lane % 16, is_v = lane / 16;
  const std::size_t from =
      place.at(place.window_y + b / 4, place.window_x + b % 4) * kBlock + 2 * kGroup;
  copy_bulk(window + is_v * kWindow + b * kGroup, (is_v != 0 ? p.v : p.q) + from, kGroup, full);
}

#endif

}  // namespace hopper
}  // namespace elan::cuda
