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
constexpr int kBlock = static_cast<int>(block_bytes(kL, 2));
constexpr int kGroup = static_cast<int>(group_bytes(kL, 2));
constexpr int kCore = 128, kHalf = kGU * kCore;  // bytes
constexpr int kBlockCores = 2 * kHalf;           // q or v of a block
constexpr int kWindowCores = 16 * kBlockCores;   // v of a window is behind its q

// Where tokens g and g + 8 (behind it by 2) are in the half that has them, number g / 4.
__device__ __forceinline__ int core_row(int g) {
  return (g >> 1 & 1) * 4 + (g & 1);
}

#if ELAN_HOPPER

// Brings q and v of a group in two blocks, neighbours in memory, to where q is at `to`: a warp.
class CoreCopies {
 public:
  __device__ __forceinline__ explicit CoreCopies(int lane) {
    // 32 pieces of 8 bytes fill two core matrices, which are the lane's place's: of q two units of
    // half a block, of v a half of two units.
    const int even = lane & 1, row = lane >> 1 & 7, second = lane >> 4;
    const int token = (row >> 2) * 2 + (row & 1), upper = row >> 1 & 1;  // of four, and 8 further
    from_q_ = token * 64 + second * 32 + even * 16 + upper * 8;
    from_v_ = kMiddle + row * 64 + even * 16 + second * 8;
    // Of the last unit of q 4 bytes, two channels of a token, in the order of the others; of v,
    // from 16 lanes, rows of 8 tokens.
    to_last_q_ =
        2 * kCore + (row >> 2) * kHalf + (row & 1) * 64 + second * 16 + upper * 32 + even * 4;
    from_last_v_ = 512 + (lane >> 3) * kBlock + (lane & 7) * 16;
    to_last_v_ =
        kWindowCores + 2 * kCore + (lane >> 3) * kBlockCores + even * kHalf + (lane >> 1 & 3) * 16;
    hold(from_q_);
    hold(from_v_);
    hold(to_last_q_);
    hold(from_last_v_);
    hold(to_last_v_);
  }

  __device__ __forceinline__ void bring(std::uint32_t to, const char* q, const char* v,
                                        int lane) const {
    const char *pieces_q = q + kMiddle + from_q_, *pieces_v = v + from_v_;
    const std::uint32_t pieces = to + lane * 8;
    block<0>(pieces, pieces_q, pieces_v);
    block<1>(pieces, pieces_q, pieces_v);
    const char* last_q = q + kMiddle + (from_q_ >> 1);
    cp_async_at<4, 0, 512 - kMiddle>(to + to_last_q_, last_q);
    cp_async_at<4, kBlockCores, 512 - kMiddle + kBlock>(to + to_last_q_, last_q);
    if (lane < 16) cp_async_at<16, 0, 0>(to + to_last_v_, v + from_last_v_);
  }

 private:
  // Instructions hold offsets from -2048 to 2047.
  static constexpr int kMiddle = kBlock / 2;
  int from_q_, from_v_, from_last_v_;  // of this lane, from the first block on
  int to_last_q_, to_last_v_;

  template <int Block>
  static __device__ __forceinline__ void block(std::uint32_t to, const char* q, const char* v) {
    constexpr int kTo = Block * kBlockCores, kFrom = Block * kBlock - kMiddle;
    cp_async_at<8, kTo, kFrom>(to, q);
    cp_async_at<8, kTo + kHalf, kFrom + 256>(to, q);
    cp_async_at<8, kTo + kWindowCores, kFrom>(to, v);
    cp_async_at<8, kTo + kWindowCores + kHalf, kFrom + 32>(to, v);
  }
};

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
__device__ __forceinline__ void load_core_queries(UnitA2 (&q)[kGU], const char* block, int lane) {
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

// The keys and values of two blocks that lie side by side. Of descriptors the lower words alone
// differ.
struct CorePair {
  std::uint32_t low;

  __device__ __forceinline__ explicit CorePair(std::uint32_t address)
      : low(static_cast<std::uint32_t>(core_descriptor(address, kCore, kHalf))) {}
  __device__ __forceinline__ void advance(int bytes) { low += bytes / 16; }
  // The first two units of q, and the last one, twice.
  __device__ __forceinline__ std::uint64_t keys() const { return with(kHalf, low); }
  __device__ __forceinline__ std::uint64_t last_keys() const {
    return with(kHalf, low + 2 * kCore / 16 - (kCore / 16 << 16));
  }
  __device__ __forceinline__ std::uint64_t values(int block) const {
    return with(kCore,
                low + (kWindowCores + block * kBlockCores) / 16 + ((kHalf - kCore) / 16 << 16));
  }

 private:
  static __device__ __forceinline__ std::uint64_t with(int next_columns, std::uint32_t low) {
    return static_cast<std::uint64_t>(next_columns / 16) << 32 | low;
  }
};

// s = the logits of the warpgroup's 64 queries for 32 keys.
template <bool F16>
__device__ __forceinline__ void add_core_logits(float (&s)[4][4], const UnitA2 (&q)[kGU],
                                                const CorePair& keys) {
  wgmma<F16, false>(s, q[0], q[1], keys.keys());
  wgmma<F16, true>(s, q[2], UnitA2{}, keys.last_keys());
}
template <bool F16>
__device__ __forceinline__ void add_core_values(float (&out)[kGU][4], const UnitA2 (&p)[4],
                                                const CorePair& values) {
#pragma unroll
  for (int b = 0; b < 2; ++b) wgmma<F16>(out, p[2 * b], p[2 * b + 1], values.values(b), 1);
}

// Adds the keys of 2 * Steps blocks for M times the warpgroup's queries; blocks two and two, `Step`
// bytes from one two to the next. Found: references are what they will be at the end.
template <bool F16, bool Found, int Steps, int Step, int M>
__device__ __forceinline__ void attend_cores(Attention<kGU> (&a)[M], UnitA2 (&q)[M][kGU],
                                             CorePair (&keys)[M], int lane) {
  using K = Codec16<F16>;
#pragma unroll(Steps > 2 ? 1 : 2)
  for (int i = 0; i < Steps; ++i) {
    wgmma_fence();
#pragma unroll
    for (int m = 0; m < M; ++m) {
      float s[4][4];
      UnitA2 p[4];
      add_core_logits<F16>(s, q[m], keys[m]);
      wgmma_commit();
      wgmma_wait<0>(s, a[m].out);
      if constexpr (Found) {
        exponentiate<K>(s, p);
      } else {
        weigh<K>(reinterpret_cast<Attention<kGU>(&)[1]>(a[m]),
                 reinterpret_cast<UnitA2(&)[1][kGU]>(q[m]), reinterpret_cast<float(&)[1][4][4]>(s),
                 reinterpret_cast<UnitA2(&)[1][4]>(p), lane);
      }
      wgmma_fence();
      add_core_values<F16>(a[m].out, p, keys[m]);
      wgmma_commit();
      keys[m].advance(Step);
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
  for (int u = 0; u + 1 < kUnits; u += 2) wgmma<F16>(acc, o[u], o[u + 1], weights.unit(u), 1);
  wgmma<F16>(acc, o[kUnits - 1], UnitA2{}, weights.unit(kUnits - 1), 1);
  wgmma_commit();
  wgmma_wait<0>(acc);
}

#endif

}  // namespace hopper_narrow
}  // namespace elan::cuda
