// Operand codecs: how numbers travel through the tensor cores.
//
// Every kernel of this backend is written once, over these pieces, and the precision is a template
// argument. A *unit* is the operand of 8 consecutive k: lane l of a warp (g = l / 4, t = l % 4)
// holds the values of k = 2t and 2t + 1. That is also what a lane holds of an 8-column accumulator
// tile, so the result of one product is encoded in place as the operand of the next.
//
//   accumulator tile  16 x 8   float c[4]: (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1)
//   UnitA             16 x 8k  kWords words for rows g and g + 8
//   UnitB              8k x 8  kWords / 2 words for column g; half h of a UnitA (row g + 8h) is the
//                              UnitB of the transposed matrix
//
// With tf32 the instruction wants k = t and t + 4 in a lane; summing over k in another order is
// harmless as long as both operands agree, and here they all do.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/kernels/ptx.cuh"
#include "cuda/layout.h"

namespace elan::cuda {

struct UnitB1 {
  std::uint32_t r[1];
};
struct UnitB2 {
  std::uint32_t r[2];
};
struct UnitA2 {
  std::uint32_t r[2];
};
struct UnitA4 {
  std::uint32_t r[4];
};

// The tensor cores take the upper 19 bits of what they are given. Exact rounding costs four
// instructions; this adds 0.35 to 0.69 units of the last place that stays, half a unit on average
// over mantissas, in one. Numbers that need no rounding, infinities and NaN stay what they are.
__device__ __forceinline__ std::uint32_t to_tf32(float a) {
  constexpr float kHalfUnit = 0.5F / 1.442695F / 1024.F;
  return __float_as_uint(fmaf(a, kHalfUnit, a));
}

// hi and lo words of two numbers as sums of two FP16 terms: 22 bits, at least 3e-8 absolute.
__device__ __forceinline__ void split_half(float a, float b, std::uint32_t& hi, std::uint32_t& lo) {
  hi = pack_half(a, b);
  const float2 back = __half22float2(*reinterpret_cast<const __half2*>(&hi));
  lo = pack_half(a - back.x, b - back.y);
}

// A codec has:
//   UnitA, UnitB, kWords (of a UnitA)
//   encode(c) -> UnitA of an accumulator tile, odd words for rows g + 8; encode_relu(c): of relu(c)
//   half_of(unit, h) -> UnitB
//   transpose(unit): of 16 tokens x 8 channels, so that half h is the UnitB of tokens 8h..
//   mma8(c, A, B), mma16(c, A0, A1, B0, B1)
//   a picture tile in shared memory: kTileBytes per number over all planes,
//     store4(row, plane_bytes, channel, values), Rows (per-lane addresses) and
//     load_pair / load_one (UnitA of channels 8u.. from it)

// 16-bit operands; F16 picks fp16 or bf16.
template <bool F16>
struct Codec16 {
  using UnitA = UnitA2;
  using UnitB = UnitB1;
  static constexpr int kWords = 2;
  static constexpr int kTileBytes = 2;
  static constexpr int kPlanes = 1;

  static __device__ __forceinline__ std::uint32_t pack(float a, float b) {
    return F16 ? pack_half(a, b) : pack_bf16(a, b);
  }
  static __device__ __forceinline__ UnitA encode(const float (&c)[4]) {
    return {{pack(c[0], c[1]), pack(c[2], c[3])}};
  }
  static __device__ __forceinline__ std::uint32_t pack_relu(float a, float b) {
    return F16 ? pack_half_relu(a, b) : pack_bf16_relu(a, b);
  }
  static __device__ __forceinline__ UnitA encode_relu(const float (&c)[4]) {
    return {{pack_relu(c[0], c[1]), pack_relu(c[2], c[3])}};
  }
  static __device__ __forceinline__ UnitB half_of(const UnitA& a, int h) { return {{a.r[h]}}; }
  static __device__ __forceinline__ void transpose(UnitA& a) {
    a = {{transpose16(a.r[0]), transpose16(a.r[1])}};
  }
  static __device__ __forceinline__ void mma8(float (&c)[4], const UnitA& a, const UnitB& b) {
    if constexpr (F16) {
      mma8_f16(c, a.r[0], a.r[1], b.r[0]);
    } else {
      mma8_bf16(c, a.r[0], a.r[1], b.r[0]);
    }
  }
  static __device__ __forceinline__ void mma16(float (&c)[4], const UnitA& a0, const UnitA& a1,
                                               const UnitB& b0, const UnitB& b1) {
    if constexpr (F16) {
      mma16_f16(c, a0.r[0], a0.r[1], a1.r[0], a1.r[1], b0.r[0], b1.r[0]);
    } else {
      mma16_bf16(c, a0.r[0], a0.r[1], a1.r[0], a1.r[1], b0.r[0], b1.r[0]);
    }
  }

  static __device__ __forceinline__ float2 unpack(std::uint32_t v) {
    if constexpr (F16) return __half22float2(*reinterpret_cast<const __half2*>(&v));
    return make_float2(__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000U));
  }
  // A softmax's reference lies so many powers of two above a query's own logit (kernels/gmsa.cuh).
  static constexpr float kHeadroom = F16 ? 12 : 62;

  static __device__ __forceinline__ void store4(char* row, int, int channel, float4 v) {
    *reinterpret_cast<uint2*>(row + channel * 2) = make_uint2(pack(v.x, v.y), pack(v.z, v.w));
  }
  // `row_of(i)`: byte offset in the tile of row i of the warp's 16.
  template <typename RowOf>
  static __device__ __forceinline__ std::uint32_t lane_base(int lane, RowOf row_of) {
    return row_of(lane & 15) + (lane >> 4) * 16;
  }
  static __device__ __forceinline__ void load_pair(UnitA& a0, UnitA& a1, std::uint32_t tile,
                                                   std::uint32_t base, int, int u) {
    std::uint32_t r[4];
    ldmatrix4(r, tile + base + u * 16);
    a0 = {{r[0], r[1]}};
    a1 = {{r[2], r[3]}};
  }
  static __device__ __forceinline__ void load_one(UnitA& a, std::uint32_t tile, std::uint32_t base,
                                                  int, int u) {
    std::uint32_t r[2];
    ldmatrix2(r, tile + base + u * 16);
    a = {{r[0], r[1]}};
  }
};

struct CodecFp16 : Codec16<true> {};
struct CodecBf16 : Codec16<false> {};

// Operands of 8 bits, integers or E4M3, in FP16, which holds both: what goes into a matrix is
// rounded first, and what comes out has a scale for each column. Attention is that of fp16.
struct CodecInt8 : Codec16<true> {};
struct CodecFp8 : Codec16<true> {};

template <typename K>
constexpr bool kRounds = std::is_same_v<K, CodecInt8> || std::is_same_v<K, CodecFp8>;

// Rounds what a matrix takes; nothing for other codecs.
template <typename K, int N>
__device__ __forceinline__ void round_to_operand(float (&c)[N], const Rounding& r) {
  if constexpr (kRounds<K>) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float v = limit(c[i] * r.factor, r.most);
      float step = r.least;
      if constexpr (std::is_same_v<K, CodecFp8>) {
        const float power = __uint_as_float(__float_as_uint(v) & 0x7f800000U);
        step = fmaxf(power * r.relative, step);
      }
      c[i] = (v + step) - step;
    }
  }
}
template <typename K>
__device__ __forceinline__ float4 round_to_operand(float4 v, const Rounding& r) {
  if constexpr (kRounds<K>) {
    float c[4] = {v.x, v.y, v.z, v.w};
    round_to_operand<K>(c, r);
    return make_float4(c[0], c[1], c[2], c[3]);
  }
  return v;
}

// What columns i + 2t and i + 2t + 1 of a product are multiplied by: `all`, or each by its own.
template <typename K>
__device__ __forceinline__ float2 column_scale(const float* scales, float all, int i, int t) {
  if constexpr (kRounds<K>) return __ldg(reinterpret_cast<const float2*>(scales + i) + t);
  return make_float2(all, all);
}

// An accumulator tile with its columns' scales and biases.
__device__ __forceinline__ void apply(float (&c)[4], const float (&acc)[4], float2 scale,
                                      float2 bias) {
  c[0] = fmaf(acc[0], scale.x, bias.x);
  c[1] = fmaf(acc[1], scale.y, bias.y);
  c[2] = fmaf(acc[2], scale.x, bias.x);
  c[3] = fmaf(acc[3], scale.y, bias.y);
}

// Each number as the sum of two FP16 terms, three products: as exact as FP32 within FP16's range.
struct CodecFp32 {
  using UnitA = UnitA4;  // hi rows g, hi rows g + 8, lo rows g, lo rows g + 8
  using UnitB = UnitB2;  // hi, lo
  static constexpr int kWords = 4;
  static constexpr int kTileBytes = 4;
  static constexpr int kPlanes = 2;

  static __device__ __forceinline__ UnitA encode(const float (&c)[4]) {
    UnitA u;
    split_half(c[0], c[1], u.r[0], u.r[2]);
    split_half(c[2], c[3], u.r[1], u.r[3]);
    return u;
  }
  static __device__ __forceinline__ UnitA encode_relu(const float (&c)[4]) {
    const float d[4] = {relu(c[0]), relu(c[1]), relu(c[2]), relu(c[3])};
    return encode(d);
  }
  static __device__ __forceinline__ UnitB half_of(const UnitA& a, int h) {
    return {{a.r[h], a.r[h + 2]}};
  }
  static __device__ __forceinline__ void transpose(UnitA& a) {
    a = {{transpose16(a.r[0]), transpose16(a.r[1]), transpose16(a.r[2]), transpose16(a.r[3])}};
  }
  // Tensor cores round toward zero what they add to, so sums are made in registers ...
  static __device__ __forceinline__ void mma8(float (&c)[4], const UnitA& a, const UnitB& b) {
    float part[4] = {};
    chain8(part, a, b);
#pragma unroll
    for (int i = 0; i < 4; ++i) c[i] += part[i];
  }
  static __device__ __forceinline__ void mma16(float (&c)[4], const UnitA& a0, const UnitA& a1,
                                               const UnitB& b0, const UnitB& b1) {
    float part[4] = {};
    chain16(part, a0, a1, b0, b1);
#pragma unroll
    for (int i = 0; i < 4; ++i) c[i] += part[i];
  }
  // ... or not.
  static __device__ __forceinline__ void chain8(float (&c)[4], const UnitA& a, const UnitB& b) {
    mma8_f16(c, a.r[0], a.r[1], b.r[1]);
    mma8_f16(c, a.r[2], a.r[3], b.r[0]);
    mma8_f16(c, a.r[0], a.r[1], b.r[0]);
  }
  static __device__ __forceinline__ void chain16(float (&c)[4], const UnitA& a0, const UnitA& a1,
                                                 const UnitB& b0, const UnitB& b1) {
    mma16_f16(c, a0.r[0], a0.r[1], a1.r[0], a1.r[1], b0.r[1], b1.r[1]);
    mma16_f16(c, a0.r[2], a0.r[3], a1.r[2], a1.r[3], b0.r[0], b1.r[0]);
    mma16_f16(c, a0.r[0], a0.r[1], a1.r[0], a1.r[1], b0.r[0], b1.r[0]);
  }

  static __device__ __forceinline__ void store4(char* row, int plane, int channel, float4 v) {
    uint2 hi, lo;
    split_half(v.x, v.y, hi.x, lo.x);
    split_half(v.z, v.w, hi.y, lo.y);
    *reinterpret_cast<uint2*>(row + channel * 2) = hi;
    *reinterpret_cast<uint2*>(row + plane + channel * 2) = lo;
  }
  template <typename RowOf>
  static __device__ __forceinline__ std::uint32_t lane_base(int lane, RowOf row_of) {
    return row_of(lane & 15) + (lane >> 4) * 16;
  }
  static __device__ __forceinline__ void load_pair(UnitA& a0, UnitA& a1, std::uint32_t tile,
                                                   std::uint32_t base, int plane, int u) {
    std::uint32_t h[4], l[4];
    ldmatrix4(h, tile + base + u * 16);
    ldmatrix4(l, tile + plane + base + u * 16);
    a0 = {{h[0], h[1], l[0], l[1]}};
    a1 = {{h[2], h[3], l[2], l[3]}};
  }
  static __device__ __forceinline__ void load_one(UnitA& a, std::uint32_t tile, std::uint32_t base,
                                                  int plane, int u) {
    std::uint32_t h[2], l[2];
    ldmatrix2(h, tile + base + u * 16);
    ldmatrix2(l, tile + plane + base + u * 16);
    a = {{h[0], h[1], l[0], l[1]}};
  }
};

struct CodecTf32 {
  using UnitA = UnitA4;  // (g, 2t) (g+8, 2t) (g, 2t+1) (g+8, 2t+1)
  using UnitB = UnitB2;  // k = 2t, 2t + 1
  static constexpr int kWords = 4;
  static constexpr int kTileBytes = 4;
  static constexpr int kPlanes = 1;

  static __device__ __forceinline__ UnitA encode(const float (&c)[4]) {
    return {{to_tf32(c[0]), to_tf32(c[2]), to_tf32(c[1]), to_tf32(c[3])}};
  }
  static __device__ __forceinline__ UnitA encode_relu(const float (&c)[4]) {
    return {{to_tf32(relu(c[0])), to_tf32(relu(c[2])), to_tf32(relu(c[1])), to_tf32(relu(c[3]))}};
  }
  static __device__ __forceinline__ UnitB half_of(const UnitA& a, int h) {
    return {{a.r[h], a.r[h + 2]}};
  }
  static __device__ __forceinline__ void transpose(UnitA& a) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {  // low and high halves on their own
      const std::uint32_t low = transpose16(__byte_perm(a.r[h], a.r[h + 2], 0x5410));
      const std::uint32_t high = transpose16(__byte_perm(a.r[h], a.r[h + 2], 0x7632));
      a.r[h] = __byte_perm(low, high, 0x5410);
      a.r[h + 2] = __byte_perm(low, high, 0x7632);
    }
  }
  static __device__ __forceinline__ void mma8(float (&c)[4], const UnitA& a, const UnitB& b) {
    mma8_tf32(c, a.r, b.r);
  }
  static __device__ __forceinline__ void mma16(float (&c)[4], const UnitA& a0, const UnitA& a1,
                                               const UnitB& b0, const UnitB& b1) {
    mma8_tf32(c, a0.r, b0.r);
    mma8_tf32(c, a1.r, b1.r);
  }

  static __device__ __forceinline__ void store4(char* row, int, int channel, float4 v) {
    *reinterpret_cast<uint4*>(row + channel * 4) =
        make_uint4(to_tf32(v.x), to_tf32(v.y), to_tf32(v.z), to_tf32(v.w));
  }
  // Lanes read pairs of neighbours in rows g and g + 8, which lie two picture rows apart.
  template <typename RowOf>
  static __device__ __forceinline__ std::uint32_t lane_base(int lane, RowOf row_of) {
    return row_of(lane >> 2) + (lane & 3) * 8;
  }
  static __device__ __forceinline__ void load_one(UnitA& a, std::uint32_t tile, std::uint32_t base,
                                                  int far_row, int u) {
    const std::uint32_t p = tile + base + u * 32;
    load_shared2(a.r[0], a.r[2], p);
    load_shared2(a.r[1], a.r[3], p + far_row);
  }
  static __device__ __forceinline__ void load_pair(UnitA& a0, UnitA& a1, std::uint32_t tile,
                                                   std::uint32_t base, int far_row, int u) {
    load_one(a0, tile, base, far_row, u);
    load_one(a1, tile, base, far_row, u + 1);
  }
};

// Clears rows g (if not keep0) and g + 8 (if not keep1).
template <typename UnitA>
__device__ __forceinline__ void keep_rows(UnitA& a, bool keep0, bool keep1) {
#pragma unroll
  for (int w = 0; w < static_cast<int>(sizeof(a.r) / sizeof(a.r[0])); ++w) {
    a.r[w] = (w % 2 == 0 ? keep0 : keep1) ? a.r[w] : 0U;
  }
}

// Words of packed weights in the order in which the unrolled loop around it asks for them; lane l
// reads its 16 bytes of every 512.
struct WordStream {
  const uint4* p;
  uint4 q;
  int i;
  __device__ __forceinline__ explicit WordStream(const char* slab, int lane)
      : p(reinterpret_cast<const uint4*>(slab) + lane), i(0) {}
  __device__ __forceinline__ std::uint32_t next() {
    const int k = i & 3;
    if (k == 0) q = p[(i >> 2) * 32];
    ++i;
    return k == 0 ? q.x : k == 1 ? q.y : k == 2 ? q.z : q.w;
  }
  template <typename K>
  __device__ __forceinline__ typename K::UnitB unit() {
    typename K::UnitB b;
#pragma unroll
    for (int w = 0; w < K::kWords / 2; ++w) b.r[w] = next();
    return b;
  }
};

// acc[m][n] += A (M times 16 x 8*Units) * slab (8*Units x 8*N). `pair(m, u, a0, a1)` and
// `one(m, u, a)` give A.
template <typename K, int N, int Units, int M, typename Pair, typename One>
__device__ __forceinline__ void multiply(float (&acc)[M][N][4], const char* slab, int lane,
                                         Pair pair, One one) {
  WordStream s(slab, lane);
#pragma unroll
  for (int u = 0; u + 1 < Units; u += 2) {
    typename K::UnitA a0[M], a1[M];
#pragma unroll
    for (int m = 0; m < M; ++m) pair(m, u, a0[m], a1[m]);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const auto b0 = s.template unit<K>();
      const auto b1 = s.template unit<K>();
#pragma unroll
      for (int m = 0; m < M; ++m) K::mma16(acc[m][n], a0[m], a1[m], b0, b1);
    }
  }
  if constexpr (Units % 2 == 1) {
    typename K::UnitA a[M];
#pragma unroll
    for (int m = 0; m < M; ++m) one(m, Units - 1, a[m]);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const auto b = s.template unit<K>();
#pragma unroll
      for (int m = 0; m < M; ++m) K::mma8(acc[m][n], a[m], b);
    }
  }
}

// Makes an operand's words registers of their own: else they share those of a load or store that
// wants them in another order, and the compiler moves them into place before every single product.
// `nothing` is zero, which the compiler must not know.
template <typename UnitA>
__device__ __forceinline__ void detach(UnitA& a, std::uint32_t nothing) {
#pragma unroll
  for (int w = 0; w < static_cast<int>(sizeof(a.r) / sizeof(a.r[0])); ++w) a.r[w] ^= nothing;
}

// Units in global or shared memory: 16-bit ones in pairs of 16 bytes a lane. Paired: words of two
// neighbouring units side by side, as operands over both of them want it. 32-bit ones: the words of
// a half side by side.
template <typename K, int Units, bool Paired>
__device__ __forceinline__ void load_units(typename K::UnitA (&u)[Units], const char* p, int lane) {
  if constexpr (K::kWords == 4) {
#pragma unroll
    for (int i = 0; i < Units; ++i) {
      const uint4 v = reinterpret_cast<const uint4*>(p)[i * 32 + lane];
      u[i] = {{v.x, v.z, v.y, v.w}};
    }
  } else {
#pragma unroll
    for (int i = 0; i + 1 < Units; i += 2) {
      const uint4 v = reinterpret_cast<const uint4*>(p)[i / 2 * 32 + lane];
      u[i] = {{v.x, Paired ? v.z : v.y}};
      u[i + 1] = {{Paired ? v.y : v.z, v.w}};
    }
    if constexpr (Units % 2 == 1) {
      const uint2 v = reinterpret_cast<const uint2*>(p)[(Units - 1) * 32 + lane];
      u[Units - 1] = {{v.x, v.y}};
    }
  }
}

template <typename K, int Units, bool Paired>
__device__ __forceinline__ void store_units(const typename K::UnitA* u, char* p, int lane) {
  if constexpr (K::kWords == 4) {
#pragma unroll
    for (int i = 0; i < Units; ++i) {
      reinterpret_cast<uint4*>(p)[i * 32 + lane] =
          make_uint4(u[i].r[0], u[i].r[2], u[i].r[1], u[i].r[3]);
    }
  } else {
#pragma unroll
    for (int i = 0; i + 1 < Units; i += 2) {
      const auto &a = u[i], &b = u[i + 1];
      reinterpret_cast<uint4*>(p)[i / 2 * 32 + lane] =
          Paired ? make_uint4(a.r[0], b.r[0], a.r[1], b.r[1])
                 : make_uint4(a.r[0], a.r[1], b.r[0], b.r[1]);
    }
    if constexpr (Units % 2 == 1) {
      reinterpret_cast<uint2*>(p)[(Units - 1) * 32 + lane] =
          make_uint2(u[Units - 1].r[0], u[Units - 1].r[1]);
    }
  }
}

// Rows g + 8 * to of paired units of q or v, from rows g + 8 * from of `lane` of a block.
template <int Units>
__device__ __forceinline__ void load_half(UnitA2 (&u)[Units], int to, const char* block, int from,
                                          int lane) {
#pragma unroll
  for (int i = 0; i < Units; i += 2) {
    const uint2 pair = reinterpret_cast<const uint2*>(block)[i * 32 + 2 * lane + from];
    u[i].r[to] = pair.x;
    u[i + 1].r[to] = pair.y;
  }
}
// The other way round.
template <int Units>
__device__ __forceinline__ void store_half(const UnitA2 (&u)[Units], int from, char* block, int to,
                                           int lane) {
#pragma unroll
  for (int i = 0; i < Units; i += 2) {
    reinterpret_cast<uint2*>(block)[i * 32 + 2 * lane + to] =
        make_uint2(u[i].r[from], u[i + 1].r[from]);
  }
}

// In the narrow network, with 16 bits, q and v are in memory without their padding: of the last
// unit, 8 bytes a lane, there is what lanes have that hold channels, for q the first two of each
// four, for v, which is transposed, the first half. v of windows of 4 is paired as q is, so that a
// rolled window takes whole words from its four blocks.
template <typename K, int Units>
constexpr bool kCompact = K::kWords == 2 && Units == layout_of(60).group_units;

template <bool V>
__device__ __forceinline__ bool holds_channels(int lane) {
  return V ? lane < 16 : (lane & 3) < 2;
}
template <bool V>
__device__ __forceinline__ int compact_place(int lane) {
  return V ? lane : lane / 4 * 2 + (lane & 3);
}
// What a lane has of the padding: of v a channel of ones, of keys kReferenceUnit and 1.
template <typename K, bool V>
__device__ __forceinline__ std::uint32_t padding_word(int lane) {
  if constexpr (V) return lane / 4 == 4 ? K::pack(1, 1) : 0U;
  return (lane & 3) == 2 ? K::pack(kReferenceUnit, 1) : 0U;
}

template <typename K, bool Paired, bool V>
__device__ __forceinline__ void load_compact(UnitA2 (&u)[3], const char* p, int lane) {
  const uint4 v = reinterpret_cast<const uint4*>(p)[lane];
  u[0] = {{v.x, Paired ? v.z : v.y}};
  u[1] = {{Paired ? v.y : v.z, v.w}};
  const std::uint32_t padding = padding_word<K, V>(lane);
  uint2 last = make_uint2(padding, padding);
  if (holds_channels<V>(lane)) {
    last = reinterpret_cast<const uint2*>(p + 512)[compact_place<V>(lane)];
  }
  u[2] = {{last.x, last.y}};
}
template <bool Paired, bool V>
__device__ __forceinline__ void store_compact(const UnitA2* u, char* p, int lane) {
  const auto &a = u[0], &b = u[1];
  reinterpret_cast<uint4*>(p)[lane] = Paired ? make_uint4(a.r[0], b.r[0], a.r[1], b.r[1])
                                             : make_uint4(a.r[0], a.r[1], b.r[0], b.r[1]);
  if (holds_channels<V>(lane)) {
    reinterpret_cast<uint2*>(p + 512)[compact_place<V>(lane)] = make_uint2(u[2].r[0], u[2].r[1]);
  }
}

// Rows g + 8 * to of three paired units of q or v, from rows g + 8 * from of `lane` of a block.
template <typename K, bool V>
__device__ __forceinline__ void load_half(UnitA2 (&u)[3], int to, const char* block, int from,
                                          int lane) {
  const uint2 pair = reinterpret_cast<const uint2*>(block)[2 * lane + from];
  u[0].r[to] = pair.x;
  u[1].r[to] = pair.y;
  u[2].r[to] = padding_word<K, V>(lane);
  if (holds_channels<V>(lane)) {
    u[2].r[to] =
        reinterpret_cast<const std::uint32_t*>(block + 512)[2 * compact_place<V>(lane) + from];
  }
}
// The other way round, of whole operands.
__device__ __forceinline__ void store_half(const UnitA2 (&u)[3], int from, char* block, int to,
                                           int lane) {
  reinterpret_cast<uint2*>(block)[2 * lane + to] = make_uint2(u[0].r[from], u[1].r[from]);
  reinterpret_cast<std::uint32_t*>(block + 512)[2 * lane + to] = u[2].r[from];
}

// All threads of the block copy `Bytes`, a multiple of 16.
template <int Bytes, int Threads>
__device__ __forceinline__ void copy_async(char* shared, const char* global, int thread) {
#pragma unroll
  for (int i = 0; i < Bytes; i += Threads * 16) {
    if (i + Threads * 16 <= Bytes || i + thread * 16 < Bytes) {
      cp_async16(shared + i + thread * 16, global + i + thread * 16);
    }
  }
}

}  // namespace elan::cuda
