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
  __device__ __forceinline__ CorePair further(int bytes) const {
    CorePair pair = *this;
    pair.advance(bytes);
    return pair;
  }
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
  for (int b = 0; b < 2; ++b) wgmma<F16, true>(out, p[2 * b], p[2 * b + 1], values.values(b));
}

// The references of M times the warpgroup's queries: the largest of their logits, which are
// computed once more for that. Keys are those of 2 * Steps blocks, two and two, `Step` bytes from
// one two to the next.
template <bool F16, int Steps, int Step, int M>
__device__ __forceinline__ void compute_references(uint2 (&terms)[M], UnitA2 (&q)[M][kGU],
                                                   const CorePair (&keys)[M], int lane) {
  using K = Codec16<F16>;
  // As integers, of which three are compared at once: a query's own logit is not negative.
  int most[M][2] = {};
#pragma unroll
  for (int m = 0; m < M; ++m) set_padding<K>(q[m], lane, uint2{});
#pragma unroll 1
  for (int i = 0; i < Steps; ++i) {
    float s[4 * M][4];
    wgmma_fence();
#pragma unroll
    for (int m = 0; m < M; ++m) {
      add_core_logits<F16>(reinterpret_cast<float(&)[4][4]>(s[4 * m]), q[m],
                           keys[m].further(i * Step));
    }
    wgmma_commit();
    wgmma_wait<0>(s);
#pragma unroll
    for (int n = 0; n < 4 * M; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        int& row = most[n / 4][c / 2];
        row = max(row, __float_as_int(s[n][c]));
      }
    }
  }
#pragma unroll
  for (int m = 0; m < M; ++m) {
    std::uint32_t row[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      int all = max(most[m][r], __shfl_xor_sync(~0U, most[m][r], 1));
      all = max(all, __shfl_xor_sync(~0U, all, 2));
      row[r] = reference_terms<K>(__int_as_float(all));
    }
    terms[m] = make_uint2(row[0], row[1]);
  }
}

// Leaves them: those of a row are where `references` has row g.
__device__ __forceinline__ void leave_terms(uint2 terms, char* references, int lane) {
  if ((lane & 3) == 0) reinterpret_cast<uint2*>(references)[lane / 4] = terms;
}

// Adds those keys for both of a warp's blocks of queries: while tensor cores are at one, the
// weights of the other are computed.
template <bool F16, int Steps, int Step>
__device__ __forceinline__ void attend_cores(Attention<kGU> (&a)[2], const UnitA2 (&q)[2][kGU],
                                             const CorePair (&keys)[2]) {
  float s[2][4][4];
  UnitA2 p[2][4];
  CorePair at[2] = {keys[0], keys[1]};
  const auto multiply = [&](int m, auto values, auto logits) {
    wgmma_fence();
    if constexpr (values) {
      add_core_values<F16>(a[m].out, p[m], at[m]);
      at[m].advance(Step);
    }
    if constexpr (logits) add_core_logits<F16>(s[m], q[m], at[m]);
    wgmma_commit();
  };
  const auto wait = [&](int m) { wgmma_wait<0>(s[m], a[m].out); };
  using Codec = Codec16<F16>;
  constexpr std::true_type kYes;
  constexpr std::false_type kNo;
  multiply(0, kNo, kYes);
  wait(0);
  multiply(1, kNo, kYes);
  exponentiate<Codec>(s[0], p[0]);
  wait(1);
#pragma unroll 1
  for (int i = 0; i < Steps - 1; ++i) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      multiply(m, kYes, kYes);
      exponentiate<Codec>(s[1 - m], p[1 - m]);
      wait(m);
    }
  }
  multiply(0, kYes, kNo);
  exponentiate<Codec>(s[1], p[1]);
  wait(0);
  multiply(1, kYes, kNo);
  wait(1);
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
