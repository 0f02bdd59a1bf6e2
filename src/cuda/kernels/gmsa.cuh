// x = y + project_out(attention(q, v)): three groups of windows of 4, 8 and 16 pixels, rolled by
// half a window in shifted ELABs, softmax(q q^T) v with logits and sums in FP32 registers.
//
// A warp has the queries of one block of 4 x 4 pixels and walks over the blocks of keys of its
// window; no matrix of weights is ever stored. Windows of 8 and 16 consist of whole blocks even
// when rolled; a rolled window of 4 takes quarters of four blocks, so there the keys are the 3 x 3
// blocks around, and what lies in other windows is left out.
//
// q comes multiplied by sqrt(log2(e)), so that weights are powers of 2. With operands of 16 bits
// they are taken relative to the query's own logit, |q|^2, whose weight is so small that others
// are beyond the range of FP16 but rarely: only then is the reference raised. The first
// padding channel of v is 1, so that the sum of the weights is one more result of the product with
// v. In the narrow network the first two of q are numbers, too: there a query has minus its
// reference, so that the product comes out relative to it. Its windows of 4, rolled or not, are
// blocks multiplied with themselves, relative to the largest logit, and so are, with windows of 8,
// those of 180 channels on Hopper (gmsa_hopper.cu). With 32 bits the reference is the largest logit
// so far, and sums are kept apart.
#pragma once

#include <math_constants.h>

#include "cuda/kernels/split.cuh"

namespace elan::cuda {

// The running softmax of 16 queries: rows g (0) and g + 8 (1).
template <int U>
struct Attention {
  float out[U][4];
  float top[2], sum[2];  // sum: 32-bit operands only
};

// The largest number in row g + 8 * r of Tiles accumulators.
template <int Tiles>
__device__ __forceinline__ float largest(const float (&s)[Tiles][4], int r) {
  float m = s[0][2 * r];
#pragma unroll
  for (int i = 0; i < Tiles; ++i) m = fmaxf(m, fmaxf(s[i][2 * r], s[i][2 * r + 1]));
  m = fmaxf(m, __shfl_xor_sync(~0U, m, 1));
  return fmaxf(m, __shfl_xor_sync(~0U, m, 2));
}

// Logits of 8 * Tiles more keys become their weights; what was summed before shrinks as the maximum
// grows.
template <int U, int Tiles>
__device__ __forceinline__ void soften(Attention<U>& a, float (&s)[Tiles][4]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float m = a.top[r];
#pragma unroll
    for (int i = 0; i < Tiles; ++i) m = fmaxf(m, fmaxf(s[i][2 * r], s[i][2 * r + 1]));
    m = fmaxf(m, __shfl_xor_sync(~0U, m, 1));
    m = fmaxf(m, __shfl_xor_sync(~0U, m, 2));
    const float shrink = exp2_fast(a.top[r] - m);
    a.top[r] = m;
    a.sum[r] *= shrink;
#pragma unroll
    for (int n = 0; n < U; ++n) {
      a.out[n][2 * r] *= shrink;
      a.out[n][2 * r + 1] *= shrink;
    }
#pragma unroll
    for (int i = 0; i < Tiles; ++i) {
      s[i][2 * r] = exp2_fast(s[i][2 * r] - m);
      s[i][2 * r + 1] = exp2_fast(s[i][2 * r + 1] - m);
      a.sum[r] += s[i][2 * r] + s[i][2 * r + 1];
    }
  }
}

// Whether references travel in the padding of q; else products start from them.
template <typename K, int U>
constexpr bool kReferenceInPadding = K::kWords == 2 && U == layout_of(60).group_units;

// Minus a reference as a query's padding has it: the keys have kReferenceUnit and 1 there.
template <typename K>
__device__ __forceinline__ std::uint32_t reference_terms(float top) {
  const float units = K::unpack(K::pack(top * (1 / kReferenceUnit), 0)).x;
  return K::pack(-units, fmaf(units, kReferenceUnit, -top));
}

// What those terms make of it.
template <typename K>
__device__ __forceinline__ float reference_of(std::uint32_t terms) {
  const float2 t = K::unpack(terms);
  return -fmaf(t.x, kReferenceUnit, t.y);
}

// Puts the terms of rows g and g + 8 where the padding begins: in the middle of the last unit.
template <typename K, int U>
__device__ __forceinline__ void set_padding(typename K::UnitA (&q)[U], int lane, uint2 terms) {
  if constexpr (kReferenceInPadding<K, U>) {
    if ((lane & 3) == 2) q[U - 1] = {{terms.x, terms.y}};
  }
}

// The weights of 16-bit operands: powers of s. Returns all their bits.
template <typename K, int Tiles>
__device__ __forceinline__ std::uint32_t exponentiate(const float (&s)[Tiles][4],
                                                      typename K::UnitA (&p)[Tiles]) {
  std::uint32_t bits = 0;
#pragma unroll
  for (int i = 0; i < Tiles; ++i) {
    const float c[4] = {exp2_fast(s[i][0]), exp2_fast(s[i][1]), exp2_fast(s[i][2]),
                        exp2_fast(s[i][3])};
    p[i] = K::encode(c);
    bits |= p[i].r[0] | p[i].r[1];
  }
  return bits;
}

// Raises the references of rows that have a weight from 2 on; returns all references' terms. Each
// row is on its own: what becomes of it does not depend on the others of its warp.
template <typename K, int U, int Tiles>
__device__ __forceinline__ uint2 raise(Attention<U>& a, float (&s)[Tiles][4]) {
  std::uint32_t terms[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float most = largest(s, r);
    // (A reference is the sum of its terms already, so it stays what it is if not raised.)
    terms[r] = reference_terms<K>(most < 1 ? a.top[r] : a.top[r] + most + K::kHeadroom);
    const float top = reference_of<K>(terms[r]);
    const float raised = top - a.top[r], shrink = exp2_fast(-raised);
    a.top[r] = top;
#pragma unroll
    for (int n = 0; n < U; ++n) {
      a.out[n][2 * r] *= shrink;
      a.out[n][2 * r + 1] *= shrink;
    }
#pragma unroll
    for (int i = 0; i < Tiles; ++i) {
      s[i][2 * r] -= raised;
      s[i][2 * r + 1] -= raised;
    }
  }
  return make_uint2(terms[0], terms[1]);
}

// Whether a weight is 2 or more: one bit of the exponent tells.
__device__ __forceinline__ bool overflows(std::uint32_t bits) {
  return __any_sync(~0U, (bits & 0x40004000U) != 0) != 0;
}

// The same as soften() for operands of 16 bits: s is relative to the reference, and so are later
// logits of the queries q if that is raised.
template <typename K, int U, int M, int Tiles>
__device__ __forceinline__ void weigh(Attention<U> (&a)[M], typename K::UnitA (&q)[M][U],
                                      float (&s)[M][Tiles][4], typename K::UnitA (&p)[M][Tiles],
                                      int lane) {
  std::uint32_t bits[M], all = 0;
#pragma unroll
  for (int m = 0; m < M; ++m) all |= bits[m] = exponentiate<K>(s[m], p[m]);
  if (!overflows(all)) return;
#pragma unroll
  for (int m = 0; m < M; ++m) {
    if (M > 1 && !overflows(bits[m])) continue;
    set_padding<K, U>(q[m], lane, raise<K>(a[m], s[m]));
    exponentiate<K>(s[m], p[m]);
  }
}

// One block of queries whose logits start from their reference. `raised`: whether that happened
// before, and so is likely to happen again.
template <typename K, int U, int Tiles>
__device__ __forceinline__ void weigh(Attention<U>& a, float (&s)[Tiles][4],
                                      typename K::UnitA (&p)[Tiles], bool& raised) {
  if (!raised) {
    raised = overflows(exponentiate<K>(s, p));
    if (!raised) return;
  }
  raise<K>(a, s);
  exponentiate<K>(s, p);
}

// What logits start from.
template <typename K, int U>
__device__ __forceinline__ void clear(float (&c)[4], const Attention<U>& a) {
  constexpr bool kRelative = K::kWords == 2 && !kReferenceInPadding<K, U>;
  c[0] = c[1] = kRelative ? -a.top[0] : 0.F;
  c[2] = c[3] = kRelative ? -a.top[1] : 0.F;
}

// c += the logits of the keys in half h of a block.
template <typename K, int U>
__device__ __forceinline__ void add_logits(float (&c)[4], const typename K::UnitA (&q)[U],
                                           const typename K::UnitA (&k)[U], int h) {
#pragma unroll
  for (int u = 0; u + 1 < U; u += 2) {
    K::mma16(c, q[u], q[u + 1], K::half_of(k[u], h), K::half_of(k[u + 1], h));
  }
  if constexpr (U % 2 == 1) K::mma8(c, q[U - 1], K::half_of(k[U - 1], h));
}

// q, or v, of a block from memory, or as whole operands from shared memory.
template <typename K, int U, bool Whole, bool Paired, bool V>
__device__ __forceinline__ void load_block(typename K::UnitA (&u)[U], const char* p, int lane) {
  if constexpr (kCompact<K, U> && !Whole) {
    load_compact<K, Paired, V>(u, p, lane);
  } else {
    load_units<K, U, Paired>(u, p, lane);
  }
}

// Adds `Blocks` key blocks for M blocks of queries. q and v of block b are at keys[b] and
// values[b], as load_block() has them; mask(b, tile, row) tells whether keys 8 * tile.. of block b
// are seen by queries g + 8 * row (Masked only).
template <typename K, int U, int M, int Blocks, bool Masked, bool Whole, typename Mask>
__device__ __forceinline__ void attend(Attention<U> (&a)[M], typename K::UnitA (&q)[M][U],
                                       const char* const (&keys)[Blocks],
                                       const char* const (&values)[Blocks], int lane, Mask mask) {
  using UnitA = typename K::UnitA;
  float s[M][2 * Blocks][4];
#pragma unroll
  for (int b = 0; b < Blocks; ++b) {
    UnitA k[U];
    load_block<K, U, Whole, true, false>(k, keys[b], lane);
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        clear<K>(s[m][2 * b + h], a[m]);
        add_logits<K, U>(s[m][2 * b + h], q[m], k, h);
      }
    }
  }
  if constexpr (Masked) {
#pragma unroll
    for (int i = 0; i < M * 2 * Blocks; ++i) {
      float(&c)[4] = s[i / (2 * Blocks)][i % (2 * Blocks)];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        if (!mask(i % (2 * Blocks) / 2, i % 2, r)) c[2 * r] = c[2 * r + 1] = -CUDART_INF_F;
      }
    }
  }
  UnitA p[M][2 * Blocks];
  if constexpr (K::kWords == 2) {
    weigh<K>(a, q, s, p, lane);
  } else {
#pragma unroll
    for (int m = 0; m < M; ++m) {
      soften(a[m], s[m]);
#pragma unroll
      for (int i = 0; i < 2 * Blocks; ++i) p[m][i] = K::encode(s[m][i]);
    }
  }
#pragma unroll
  for (int b = 0; b < Blocks; ++b) {
    UnitA v[U];
    load_block<K, U, Whole, false, true>(v, values[b], lane);
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
      for (int n = 0; n < U; ++n) {
        K::mma16(a[m].out[n], p[m][2 * b], p[m][2 * b + 1], K::half_of(v[n], 0),
                 K::half_of(v[n], 1));
      }
    }
  }
}

template <typename K, int U, int Blocks, bool Masked, bool Whole, typename Mask>
__device__ __forceinline__ void attend(Attention<U>& a, typename K::UnitA (&q)[U],
                                       const char* const (&keys)[Blocks],
                                       const char* const (&values)[Blocks], int lane, Mask mask) {
  using UnitA = typename K::UnitA;
  attend<K, U, 1, Blocks, Masked, Whole>(reinterpret_cast<Attention<U>(&)[1]>(a),
                                         reinterpret_cast<UnitA(&)[1][U]>(q), keys, values, lane,
                                         mask);
}

// Starts from the references that a pair before found for the same queries: their terms, for rows g
// and g + 8.
template <typename K, int U>
__device__ __forceinline__ void start_from(Attention<U>& a, typename K::UnitA (&q)[U], int lane,
                                           uint2 terms) {
#pragma unroll
  for (int n = 0; n < U; ++n) a.out[n][0] = a.out[n][1] = a.out[n][2] = a.out[n][3] = 0;
  a.top[0] = reference_of<K>(terms.x);
  a.top[1] = reference_of<K>(terms.y);
  set_padding<K, U>(q, lane, terms);
}

// Leaves them: those of a row are where `references` has row g.
template <typename K, int U>
__device__ __forceinline__ void leave_references(const Attention<U>& a, char* references,
                                                 int lane) {
  if ((lane & 3) == 0) {
    reinterpret_cast<uint2*>(references)[lane / 4] =
        make_uint2(reference_terms<K>(a.top[0]), reference_terms<K>(a.top[1]));
  }
}

template <typename K, int U>
__device__ __forceinline__ void start(Attention<U>& a, typename K::UnitA (&q)[U], int lane) {
#pragma unroll
  for (int n = 0; n < U; ++n) a.out[n][0] = a.out[n][1] = a.out[n][2] = a.out[n][3] = 0;
  a.sum[0] = a.sum[1] = 0;
  a.top[0] = a.top[1] = -CUDART_INF_F;
  if constexpr (K::kWords == 2) {
    // The diagonal of the block's product with itself: of row g in the lane that has column g % 8.
    float c[2][4] = {};
    std::uint32_t terms[2];
    set_padding<K, U>(q, lane, make_uint2(0, 0));
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      add_logits<K, U>(c[h], q, q, h);
      const float own = (lane & 4) != 0 ? c[h][2 * h + 1] : c[h][2 * h];
      terms[h] =
          reference_terms<K>(__shfl_sync(~0U, own, (lane & 28) + (lane >> 3)) + K::kHeadroom);
      a.top[h] = reference_of<K>(terms[h]);
    }
    set_padding<K, U>(q, lane, make_uint2(terms[0], terms[1]));
  }
}

// A window of 4 of 16-bit operands that is a block: queries and keys are the same, and all logits
// are there at once.
template <typename K, int U>
__device__ __forceinline__ void attend_itself(Attention<U>& a, const typename K::UnitA (&k)[U],
                                              const typename K::UnitA (&v)[U], int lane,
                                              std::uint32_t nothing) {
  typename K::UnitA q[U], p[2];
#pragma unroll
  for (int u = 0; u < U; ++u) {
    q[u] = k[u];
    detach(q[u], nothing);
  }
  set_padding<K, U>(q, lane, make_uint2(0, 0));
  float s[2][4] = {};
#pragma unroll
  for (int h = 0; h < 2; ++h) add_logits<K, U>(s[h], q, k, h);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float top = largest(s, r);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      s[h][2 * r] -= top;
      s[h][2 * r + 1] -= top;
    }
  }
  exponentiate<K>(s, p);
#pragma unroll
  for (int n = 0; n < U; ++n) {
    a.out[n][0] = a.out[n][1] = a.out[n][2] = a.out[n][3] = 0;
    K::mma16(a.out[n], p[0], p[1], K::half_of(v[n], 0), K::half_of(v[n], 1));
  }
}

// Divides the sums by those of the weights; results come out times `factor`.
template <typename K, int U>
__device__ __forceinline__ void finish(Attention<U>& a, int lane, float factor) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float l = a.sum[r];
    if constexpr (K::kWords == 2) {
      // The padding begins in the middle of the last unit.
      l = __shfl_sync(~0U, a.out[U - 1][2 * r], (lane & 28) + 2);
    } else {
      l += __shfl_xor_sync(~0U, l, 1);
      l += __shfl_xor_sync(~0U, l, 2);
    }
    const float inverse = K::kWords == 2 ? factor * reciprocal_fast(l) : factor / l;
#pragma unroll
    for (int n = 0; n < U; ++n) {
      a.out[n][2 * r] *= inverse;
      a.out[n][2 * r + 1] *= inverse;
    }
  }
}

template <typename K, int U>
__device__ __forceinline__ void encode(Attention<U>& a, typename K::UnitA* to,
                                       const Rounding& rounding) {
#pragma unroll
  for (int n = 0; n < U; ++n) {
    round_to_operand<K>(a.out[n], rounding);
    to[n] = K::encode(a.out[n]);
  }
}

// Where a warp's block of queries lies: tiles of 4 x `rows` blocks, 16 x 8 pixels where nothing
// else is said, are parts of the largest windows, which are rolled by 8 pixels if shifted.
struct QueryBlock {
  int across, down;        // blocks in a picture
  int y, x;                // of the queries
  int window_y, window_x;  // first block of their window of 16, perhaps outside by one period
  int tile_y;              // first row of blocks of the tile; its first column is window_x
  int in_window;           // number of the queries' block there
  std::size_t first;       // block of this picture

  // From the last tile on, whose q and v the LFE has just left in the caches; what this leaves
  // last is where the next LFE begins.
  __device__ __forceinline__ QueryBlock(const Grid& g, bool shifted, int warp)
      : QueryBlock(g, shifted, warp, static_cast<int>(gridDim.x - 1 - blockIdx.x), 2) {}
  __device__ __forceinline__ QueryBlock(const Grid& g, bool shifted, int warp, int tile, int rows)
      : across(g.width / 4), down(g.height / 4) {
    const int tiles_x = g.width / 16, tiles_y = g.height / (4 * rows);
    const int image = tile / (tiles_x * tiles_y), r = tile - image * tiles_x * tiles_y;
    const int roll = shifted ? 2 : 0, part = r / tiles_x % (4 / rows);
    window_y = (r / tiles_x - part) * rows + roll;
    window_x = r % tiles_x * 4 + roll;
    tile_y = window_y + part * rows;
    y = tile_y + warp / 4;
    x = window_x + warp % 4;
    y -= y >= down ? down : 0;
    x -= x >= across ? across : 0;
    in_window = (part * rows + warp / 4) * 4 + warp % 4;
    first = static_cast<std::size_t>(image) * down * across;
  }
  // Number of a block that may be one period outside.
  __device__ __forceinline__ std::size_t at(int by, int bx) const {
    by += by < 0 ? down : by >= down ? -down : 0;
    bx += bx < 0 ? across : bx >= across ? -across : 0;
    return static_cast<unsigned>(first) + static_cast<unsigned>(by * across + bx);
  }
};

// A rolled window of 4, operands of 16 bits. Queries in the upper half of their block see the lower
// half of the blocks above and the upper half of those beside, and so on: of three blocks in a row
// a lane's queries share their window with its keys in one only, so each lane takes its logits from
// there. What it has of the others' weights is zero.
template <typename K, int U, typename At>
__device__ __forceinline__ void attend_quarters(Attention<U>& a, const typename K::UnitA (&q)[U],
                                                const char* keys, const char* values, At at,
                                                int lane) {
  using UnitA = typename K::UnitA;
  const bool query_right = (lane & 8) != 0, key_right = (lane & 1) != 0;
  const int mine = query_right == key_right ? 1 : query_right ? 2 : 0;
  float s[2][4];
#pragma unroll
  for (int dy = -1; dy <= 1; ++dy) {
#pragma unroll
    for (int b = 0; b < 3; ++b) {
      UnitA k[U];
      load_units<K, U, true>(k, keys + at(dy, b - 1), lane);
#pragma unroll
      for (int h = dy < 0 ? 1 : 0; h < (dy > 0 ? 1 : 2); ++h) {
        float c[4];
        clear<K>(c, a);
        add_logits<K, U>(c, q, k, h);
        const int row = dy + h, tile = dy == 0 ? 1 - h : dy > 0 ? 1 : 0;
        if (b == 0 || mine == b) {
          s[tile][2 * row] = c[2 * row];
          s[tile][2 * row + 1] = c[2 * row + 1];
        }
      }
    }
  }
  UnitA p[2];
  bool raised = false;
  weigh<K>(a, s, p, raised);
#pragma unroll
  for (int dy = -1; dy <= 1; ++dy) {
#pragma unroll
    for (int b = 0; b < 3; ++b) {
      UnitA v[U];
      load_units<K, U, false>(v, values + at(dy, b - 1), lane);
      const auto weight = [&](int tile, int row) { return mine == b ? p[tile].r[row] : 0U; };
#pragma unroll
      for (int n = 0; n < U; ++n) {
        if (dy < 0) K::mma8(a.out[n], {{weight(0, 0), 0U}}, K::half_of(v[n], 1));
        if (dy > 0) K::mma8(a.out[n], {{0U, weight(1, 1)}}, K::half_of(v[n], 0));
        if (dy == 0) {
          K::mma16(a.out[n], {{weight(1, 0), 0U}}, {{0U, weight(0, 1)}}, K::half_of(v[n], 0),
                   K::half_of(v[n], 1));
        }
      }
    }
  }
}

// The queries of a block; `nothing` as in detach().
template <typename K, bool Whole, int U>
__device__ __forceinline__ void load_queries(typename K::UnitA (&q)[U], const char* from, int lane,
                                             std::uint32_t nothing) {
  load_block<K, U, Whole, true, false>(q, from, lane);
  if constexpr (std::is_same_v<K, CodecTf32> || kReferenceInPadding<K, U>) {
#pragma unroll
    for (int u = 0; u < U; ++u) detach(q[u], nothing);
  }
}

// Windows of 4 in the narrow network, 16 bits: the results of a warp's block come to
// results[warp]. Rolled ones are no block of pixels: 5 x 3 of them cover the tile.
template <typename K>
__device__ __forceinline__ void attend_windows4(const GmsaArgs& p, const QueryBlock& place,
                                                char* results, int warp, int lane,
                                                std::uint32_t nothing) {
  using UnitA = typename K::UnitA;
  constexpr ChannelLayout L = layout_of(60);
  constexpr int U = L.group_units, kResult = static_cast<int>(group_operand_bytes(L, 2));
  constexpr std::size_t kBlock = block_bytes(L, 2);
  const auto attend = [&](const UnitA(&q)[U], const UnitA(&v)[U], UnitA(&o)[U]) {
    Attention<U> a;
    attend_itself<K>(a, q, v, lane, nothing);
    finish<K>(a, lane, 1);
    encode<K>(a, o, p.input);
  };
  if (!p.shifted) {
    const std::size_t own = place.at(place.y, place.x) * kBlock;
    UnitA q[U], v[U], o[U];
    load_compact<K, true, false>(q, p.q + own, lane);
    load_compact<K, true, true>(v, p.v + own, lane);
    attend(q, v, o);
    return store_units<K, U, true>(o, results + warp * kResult, lane);
  }
  // A pixel is two rows and columns off: in the other half of its block, rows g ^ 2 of q.
  constexpr int kAcross = 5, kWindows = 15, kRounds = 2;
  const int right = lane >> 3 & 1;
  UnitA q[kRounds][U], v[kRounds][U];
#pragma unroll
  for (int i = 0; i < kRounds; ++i) {
    const int window = min(warp + 8 * i, kWindows - 1);
    const int y = place.tile_y + window / kAcross - 1, x = place.window_x + window % kAcross - 1;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      load_half<K, false>(q[i], h, p.q + place.at(y + h, x + right) * kBlock, 1 - h, lane ^ 8);
      load_half<K, true>(v[i], h, p.v + place.at(y + h, x + (lane & 1)) * kBlock, 1 - h, lane ^ 1);
    }
  }
#pragma unroll
  for (int i = 0; i < kRounds; ++i) {
    const int window = warp + 8 * i;
    UnitA o[U];
    attend(q[i], v[i], o);
    const int y = window / kAcross - 1, x = window % kAcross - 1 + right;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (y + h < 0 || y + h > 1 || x < 0 || x > 3 || window >= kWindows) continue;
      store_half(o, h, results + ((y + h) * 4 + x) * kResult, 1 - h, lane ^ 8);
    }
  }
}

// Where the references of the queries are in windows of 8 (group 1) and 16.
__device__ __forceinline__ char* references_of(const GmsaArgs& p, int group,
                                               const QueryBlock& place) {
  return p.references + place.at(place.y, place.x) * block_bytes(layout_of(60), 2) +
         references_at(group);
}

// Brings q and v of a group in the 16 blocks of a window of the narrow network, 16 bits, to `to`,
// where they become whole operands, q and v of a block side by side; at(block) is where it is.
template <int Warps, typename At>
__device__ __forceinline__ void bring_window(char* to, const char* q, const char* v, int warp,
                                             int lane, At at) {
  constexpr int kWhole = static_cast<int>(group_operand_bytes(layout_of(60), 2));
  static_assert(Warps == 8);
  const std::size_t from[2] = {at(warp), at(warp + Warps)};
  char* const blocks[2] = {to + warp * 2 * kWhole, to + (warp + Warps) * 2 * kWhole};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    cp_async16(blocks[i] + lane * 16, q + from[i] + lane * 16);
    cp_async16(blocks[i] + kWhole + lane * 16, v + from[i] + lane * 16);
  }
  // The last units: 8 lanes for each.
  const bool second = lane >= 16, is_v = (lane & 8) != 0;
  const int piece = (lane & 7) * 16;
  cp_async16((second ? blocks[1] : blocks[0]) + 512 + (is_v ? kWhole + piece : 2 * piece),
             (is_v ? v : q) + (second ? from[1] : from[0]) + 512 + piece);
}

// The padding of those operands, which stays.
template <typename K, int Threads>
__device__ __forceinline__ void pad_window(char* to, int thread) {
  constexpr int kWhole = static_cast<int>(group_operand_bytes(layout_of(60), 2));
#pragma unroll
  for (int i = thread; i < 16 * 16; i += Threads) {
    const bool is_v = (i & 8) != 0;
    const int piece = i & 7;
    char* const last =
        to + i / 16 * 2 * kWhole + 512 + (is_v ? kWhole + 128 + piece * 16 : piece * 32 + 16);
    // 16 bytes are two lanes.
    const std::uint32_t a =
        is_v ? padding_word<K, true>(16 + 2 * piece) : padding_word<K, false>(2);
    const std::uint32_t b = is_v ? a : 0;
    *reinterpret_cast<uint4*>(last) = make_uint4(a, a, b, b);
  }
}

// The references that a pair before found for the windows of a group, if there are any.
template <typename K, int U>
__device__ __forceinline__ uint2 find_references(const GmsaArgs& p, int group,
                                                 const QueryBlock& place, int lane) {
  if constexpr (kReferenceInPadding<K, U>) {
    if (p.find_references)
      return reinterpret_cast<const uint2*>(references_of(p, group, place))[lane / 4];
  }
  return {};
}

// Begins with the queries q, from `terms` if those were found; and ends.
template <typename K, int U>
__device__ __forceinline__ void begin_softmax(Attention<U>& a, typename K::UnitA (&q)[U],
                                              const GmsaArgs& p, uint2 terms, int lane) {
  if constexpr (kReferenceInPadding<K, U>) {
    if (p.find_references) return start_from<K>(a, q, lane, terms);
  }
  start<K>(a, q, lane);
}
template <typename K, int U>
__device__ __forceinline__ void end_softmax(const Attention<U>& a, const GmsaArgs& p, int group,
                                            const QueryBlock& place, int lane) {
  if constexpr (kReferenceInPadding<K, U>) {
    if (p.leave_references) leave_references<K>(a, references_of(p, group, place), lane);
  }
}

// Windows of 8 with the queries q: done(attention, 1), the number as a type.
template <typename K, int U, std::size_t kBlock, int kGroup, typename Done>
__device__ __forceinline__ void attend_windows8(const GmsaArgs& p, const QueryBlock& place,
                                                typename K::UnitA (&q)[U], uint2 terms, int lane,
                                                float factor, Done done) {
  Attention<U> a;
  begin_softmax<K>(a, q, p, terms, lane);
  const int s = p.shifted ? 1 : 0;
  const int wy = ((place.y - s) & ~1) + s, wx = ((place.x - s) & ~1) + s;
#pragma unroll 1
  for (int i = 0; i < 2; ++i) {
    const std::size_t b0 = place.at(wy + i, wx) * kBlock + kGroup,
                      b1 = place.at(wy + i, wx + 1) * kBlock + kGroup;
    attend<K, U, 2, false, false>(a, q, {p.q + b0, p.q + b1}, {p.v + b0, p.v + b1}, lane, 0);
  }
  end_softmax<K>(a, p, 1, place, lane);
  finish<K>(a, lane, factor);
  done(a, std::integral_constant<int, 1>{});
}

// The windows of 4 and 8, but for those above: done(attention, 0) and (attention, 1).
template <typename K, int U, std::size_t kBlock, int kGroup, typename Done>
__device__ __forceinline__ void attend_small(const GmsaArgs& p, const QueryBlock& place, int lane,
                                             float factor, Done done, std::uint32_t nothing = 0) {
  using UnitA = typename K::UnitA;
  const int g = lane >> 2, t = lane & 3;
  const std::size_t own = place.at(place.y, place.x) * kBlock;
  {  // windows of 4
    UnitA q[U];
    load_queries<K, false>(q, p.q + own, lane, nothing);
    Attention<U> a;
    start<K>(a, q, lane);
    if (!p.shifted) {
      attend<K, U, 1, false, false>(a, q, {p.q + own}, {p.v + own}, lane, 0);
    } else if constexpr (K::kWords == 2) {
      attend_quarters<K, U>(
          a, q, p.q, p.v,
          [&](int dy, int dx) { return place.at(place.y + dy, place.x + dx) * kBlock; }, lane);
    } else {
      // Keys of the row of blocks at dy; the own row first, where every query sees itself.
#pragma unroll 1
      for (int i = 0; i < 3; ++i) {
        const int dy = i == 2 ? 1 : -i;
        const std::size_t b0 = place.at(place.y + dy, place.x - 1) * kBlock,
                          b1 = place.at(place.y + dy, place.x) * kBlock,
                          b2 = place.at(place.y + dy, place.x + 1) * kBlock;
        const bool query_right = (g & 2) != 0, key_right = (t & 1) != 0;
        attend<K, U, 3, true, false>(
            a, q, {p.q + b0, p.q + b1, p.q + b2}, {p.v + b0, p.v + b1, p.v + b2}, lane,
            [&](int b, int tile, int row) {
              const bool y = dy + tile == row;
              const bool x = (b - 1) + (key_right ? 1 : 0) == (query_right ? 1 : 0);
              return y && x;
            });
      }
    }
    finish<K>(a, lane, factor);
    done(a, std::integral_constant<int, 0>{});
  }
  UnitA q[U];
  load_queries<K, false>(q, p.q + own + kGroup, lane, nothing);
  attend_windows8<K, U, kBlock, kGroup>(p, place, q, {}, lane, factor, done);
}

// In the narrow network in 16 bits project_out's accumulators start from the residual. Its bias is
// among the weights, for the channel that summed the softmax's and is 1 when divided by itself.
template <typename K, int U>
constexpr bool kBiasInWeights = kCompact<K, U> && !kRounds<K>;

// Else tiles [first, first + N) of project_out's result with its bias, before the residual.
template <typename K, int Units, int N>
__device__ __forceinline__ void add_bias(float (&acc)[N][4], int first, const GmsaArgs& p, int t) {
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const int column = (first + n) * 8;
    float2 b = make_float2(0, 0), scale = b;
    if (first + n < Units) {
      b = __ldg(reinterpret_cast<const float2*>(p.bias + column) + t);
      scale = column_scale<K>(p.scale, p.unscale, column, t);
    }
    apply(acc[n], acc[n], scale, b);
  }
}

template <typename K, typename S, int C, bool Staged>
__global__ __launch_bounds__(256, K::kWords == 2
                                      ? (C == 60 ? 3 : 2)
                                      : 1) void gmsa_kernel(const __grid_constant__ GmsaArgs p) {
  using UnitA = typename K::UnitA;
  constexpr ChannelLayout L = layout_of(C);
  constexpr int U = L.group_units, kAll = kWindowGroups * U, kN = L.out_tiles;
  constexpr int kW = K::kWords / 2;
  constexpr int kGroup = static_cast<int>(group_bytes(L, 2 * kW));
  constexpr int kWhole = static_cast<int>(group_operand_bytes(L, 2 * kW));
  constexpr std::size_t kBlock = block_bytes(L, 2 * kW);
  constexpr int kSlab = out_slab_bytes(L, kW);

  ELAN_DYNAMIC_SHARED(shared);
  // What windows of 4 give, see attend_windows4().
  __shared__ __align__(16) char results4[kCompact<K, U> ? 8 * kWhole : 8];
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  const QueryBlock place(p.grid, p.shifted, warp);

  SlabRing<kSlab, kSlab, 256, gmsa_stages(L) == 0> ring(
      shared + (Staged ? gmsa_window_bytes(L, 2 * kW) : 0), p.weights, L.out_slabs, L.out_slabs,
      gmsa_stages(L), thread);
  wait_for_previous();
  if constexpr (Staged && kCompact<K, U>) {
    bring_window<8>(shared, p.q + 2 * kGroup, p.v + 2 * kGroup, warp, lane, [&](int b) {
      return place.at(place.window_y + b / 4, place.window_x + b % 4) * kBlock;
    });
    pad_window<K, 256>(shared, thread);
    cp_async_commit();
  } else if constexpr (Staged) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int b = warp + 8 * i;
      const std::size_t at = place.at(place.window_y + b / 4, place.window_x + b % 4) * kBlock;
      char* to = shared + b * 2 * kGroup;
      copy_async<kGroup, 32>(to, p.q + at + 2 * kGroup, lane);
      copy_async<kGroup, 32>(to + kGroup, p.v + at + 2 * kGroup, lane);
    }
    cp_async_commit();
  }

  const std::uint32_t nothing = static_cast<std::uint32_t>(p.grid.width) >> 24;
  UnitA o[kAll];
  const std::size_t own = place.at(place.y, place.x) * kBlock;
  const auto keep = [&](Attention<U>& a, auto group) {
    encode<K>(a, o + decltype(group)::value * U, p.input);
  };
  if constexpr (kCompact<K, U>) {
    UnitA q[U];
    load_queries<K, false>(q, p.q + own + kGroup, lane, nothing);
    const uint2 terms = find_references<K, U>(p, 1, place, lane);
    attend_windows4<K>(p, place, results4, warp, lane, nothing);
    attend_windows8<K, U, kBlock, kGroup>(p, place, q, terms, lane, 1, keep);
  } else {
    attend_small<K, U, kBlock, kGroup>(p, place, lane, 1, keep, nothing);
  }

  const int y0 = place.y * 4 + (g >> 2), x0 = place.x * 4 + (g & 3);
  const std::size_t pixel0 = place.first * 16 + static_cast<std::size_t>(y0) * p.grid.width + x0;
  const std::size_t pixel1 = pixel0 + 2 * static_cast<std::size_t>(p.grid.width);
  const auto y = stream_at<S, C>(p.y, p.grid);
  const auto x = stream_at<S, C>(p.x, p.grid);
  const auto from0 = at_pixel<C>(y, pixel0), from1 = at_pixel<C>(y, pixel1);
  const auto to0 = at_pixel<C>(x, pixel0), to1 = at_pixel<C>(x, pixel1);
  // The residual of a slab is fetched while the one before is multiplied, and that of the only
  // slab, where registers are free, before the windows of 16.
  constexpr bool kEarly = L.out_slabs == 1 && std::is_same_v<S, __half>;
  RowPair<S, L.units, kN> residual;
  if constexpr (kEarly) residual.fetch(0, from0, from1, t);
  const uint2 terms = find_references<K, U>(p, 2, place, lane);
  {  // windows of 16
    UnitA q[U];
    Attention<U> a;
    if constexpr (Staged) {
      cp_async_wait<0>();
      __syncthreads();
      load_queries<K, true>(q, shared + place.in_window * 2 * kWhole, lane, nothing);
      begin_softmax<K>(a, q, p, terms, lane);
#pragma unroll 1
      for (int i = 0; i < 8; ++i) {
        const char* s = shared + i * 4 * kWhole;
        attend<K, U, 2, false, true>(a, q, {s, s + 2 * kWhole}, {s + kWhole, s + 3 * kWhole}, lane,
                                     0);
      }
    } else {
      load_queries<K, false>(q, p.q + own + 2 * kGroup, lane, nothing);
      begin_softmax<K>(a, q, p, terms, lane);
#pragma unroll 1
      for (int i = 0; i < 8; ++i) {
        const int by = place.window_y + i / 2, bx = place.window_x + i % 2 * 2;
        const std::size_t b0 = place.at(by, bx) * kBlock + 2 * kGroup,
                          b1 = place.at(by, bx + 1) * kBlock + 2 * kGroup;
        attend<K, U, 2, false, false>(a, q, {p.q + b0, p.q + b1}, {p.v + b0, p.v + b1}, lane, 0);
      }
      if (ring.resident()) {
        cp_async_wait<0>();
        __syncthreads();
      }
    }
    end_softmax<K>(a, p, 2, place, lane);
    finish<K>(a, lane, 1);
    encode<K>(a, o + 2 * U, p.input);
  }
  if constexpr (kCompact<K, U>) {
    load_units<K, U, true>(reinterpret_cast<UnitA(&)[U]>(o), results4 + warp * kWhole, lane);
  }

  if constexpr (!kEarly) residual.fetch(0, from0, from1, t);
#pragma unroll 1
  for (int slab = 0; slab < L.out_slabs; ++slab) {
    const char* weights = ring.next();
    float acc[1][kN][4] = {};
    if constexpr (kBiasInWeights<K, U>) residual.start(acc[0]);
    multiply<K, kN, kAll>(
        acc, weights, lane,
        [&](int, int u, UnitA& a0, UnitA& a1) {
          a0 = o[u];
          a1 = o[u + 1];
        },
        [&](int, int u, UnitA& a) { a = o[u]; });
    const int first = slab * kN;
    if constexpr (!kBiasInWeights<K, U>) {
      add_bias<K, L.units>(acc[0], first, p, t);
      residual.add(acc[0]);
    }
    store_rows<L.units>(acc[0], first, to0, to1, t);
    if (slab + 1 < L.out_slabs) residual.fetch(first + kN, from0, from1, t);
  }
  cp_async_wait<0>();
}

template <typename K, typename S, int C>
void launch_gmsa_channels(const GmsaArgs& a, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(a.grid.width / 16 * (a.grid.height / 8) * a.grid.batch);
  const auto shared = static_cast<std::size_t>(a.shape.shared_bytes);
  launch_kernel(a.shape.staged ? &gmsa_kernel<K, S, C, true> : &gmsa_kernel<K, S, C, false>,
                dim3(blocks), 256, shared, stream, a);
}

}  // namespace elan::cuda
