// Attention in 8 bits on Hopper, for 180 channels: the integers of docs/quantization.md. Scores are
// products of bytes, their powers are integers up to 255, exact with respect to the largest of all
// scores of a row: those of windows of 4 and 8 are in registers at once, those of windows of 16 are
// computed twice.
//
// Of a block of 4 x 4 pixels and a window group, a lane holds of q (rows g and g + 8) the words of
// four units of 16 channels, as operand of queries and of keys alike, and of v, transposed, one
// word for each tile of 8 channels: tokens 2t, 2t + 8, 2t + 1, 2t + 9 of channel g.
#pragma once

#include <climits>

#include "cuda/kernels/gmsa.cuh"
#include "cuda/kernels/int8.cuh"

namespace elan::cuda {

constexpr int kInt8GroupUnits = kInt8Tiles / 2;  // of 16 channels of a window group
constexpr int kInt8Half = kInt8GroupBytes / 2;   // q: 8 tokens; v: four tiles
constexpr int kInt8Block = kWindowGroups * kInt8GroupBytes;

// Of a row half h of a block's q.
struct Int8Half {
  std::uint32_t r[kInt8GroupUnits];
};
// v of a block.
struct Int8Values {
  std::uint32_t r[kInt8Tiles];
};

__device__ __forceinline__ void load_words(std::uint32_t* to, const char* from, int lane) {
  const uint4 v = reinterpret_cast<const uint4*>(from)[lane];
  to[0] = v.x;
  to[1] = v.y;
  to[2] = v.z;
  to[3] = v.w;
}
__device__ __forceinline__ void load_half(Int8Half& q, const char* block, int h, int lane) {
  load_words(q.r, block + h * kInt8Half, lane);
}
__device__ __forceinline__ void load_values(Int8Values& v, const char* block, int lane) {
  load_words(v.r, block, lane);
  load_words(v.r + 4, block + kInt8Half, lane);
}

// s = scores of 16 queries with 8 keys.
__device__ __forceinline__ void score(int (&s)[4], const Int8Half (&q)[2], const Int8Half& k) {
  s[0] = s[1] = s[2] = s[3] = 0;
#pragma unroll
  for (int u = 0; u < kInt8GroupUnits; u += 2) {
    mma32_s8(s, {q[0].r[u], q[1].r[u], q[0].r[u + 1], q[1].r[u + 1]}, {k.r[u], k.r[u + 1]});
  }
}

// The largest score of rows g and g + 8 so far, in all lanes of the row.
template <int Tiles>
__device__ __forceinline__ void find_tops(int (&top)[2], const int (&s)[Tiles][4]) {
#pragma unroll
  for (int i = 0; i < Tiles; ++i) {
#pragma unroll
    for (int r = 0; r < 2; ++r) top[r] = max(top[r], max(s[i][2 * r], s[i][2 * r + 1]));
  }
}
__device__ __forceinline__ void share_tops(int (&top)[2]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    top[r] = max(top[r], __shfl_xor_sync(~0U, top[r], 1));
    top[r] = max(top[r], __shfl_xor_sync(~0U, top[r], 2));
  }
}

// The power of a score, in the lowest byte. The number added leaves no bits below one.
__device__ __forceinline__ std::uint32_t power(int s, int top, float k) {
  return __float_as_uint(fmaf(255, exp2_fast(__fmul_rn(k, __int2float_rn(s - top))), 12582912.F));
}
// Of row r: keys 2t and 2t + 1 of two tiles in the order in which v has its tokens.
__device__ __forceinline__ std::uint32_t power_pair(const int (&s)[4], int r, int top, float k) {
  return __byte_perm(power(s[2 * r], top, k), power(s[2 * r + 1], top, k), 0x4040);
}
__device__ __forceinline__ std::uint32_t powers(const int (&s0)[4], const int (&s1)[4], int r,
                                                int top, float k) {
  return __byte_perm(power_pair(s0, r, top, k), power_pair(s1, r, top, k), 0x5140);
}

template <int Tiles>
__device__ __forceinline__ void clear(int (&c)[Tiles][4]) {
#pragma unroll
  for (int n = 0; n < Tiles; ++n) c[n][0] = c[n][1] = c[n][2] = c[n][3] = 0;
}

// Sums over keys become the operand of project_out. The first padding channel of v is 1, so that
// the sum of the powers is one more result.
__device__ __forceinline__ void finish_int8(const int (&sums)[kInt8Tiles][4], ByteUnits* to,
                                            float value, float factor, int lane) {
  float out[kInt8Tiles][4];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int all = __shfl_sync(~0U, sums[kInt8Tiles - 1][2 * r], (lane & 28) + 2);
    const float scale = __fdiv_rn(value, __int2float_rn(all));
#pragma unroll
    for (int n = 0; n < kInt8Tiles; ++n) {
      out[n][2 * r] = __int2float_rn(sums[n][2 * r]) * scale;
      out[n][2 * r + 1] = __int2float_rn(sums[n][2 * r + 1]) * scale;
    }
  }
#pragma unroll
  for (int i = 0; i < kInt8GroupUnits; ++i) {
    to[i] = encode<Int8>(out[2 * i], out[2 * i + 1], factor);
  }
}

// A window of `Blocks` whole blocks, 1 or 4.
template <int Blocks>
__device__ __forceinline__ void attend_int8(int (&sums)[kInt8Tiles][4], const Int8Half (&q)[2],
                                            const Int8Half (&keys)[Blocks][2],
                                            const Int8Values (&values)[Blocks], float k) {
  int s[2 * Blocks][4], top[2] = {INT_MIN, INT_MIN};
#pragma unroll
  for (int i = 0; i < 2 * Blocks; ++i) score(s[i], q, keys[i / 2][i % 2]);
  find_tops(top, s);
  share_tops(top);
  clear(sums);
#pragma unroll
  for (int b = 0; b < Blocks; b += 2) {
    std::uint32_t e[4];
#pragma unroll
    for (int i = 0; i < (Blocks == 1 ? 2 : 4); ++i) {
      const int tile = 2 * (b + i / 2);
      e[i] = powers(s[tile], s[tile + 1], i % 2, top[i % 2], k);
    }
#pragma unroll
    for (int n = 0; n < kInt8Tiles; ++n) {
      if constexpr (Blocks == 1) {
        mma16_u8(sums[n], {e[0], e[1]}, values[0].r[n]);
      } else {
        mma32_u8(sums[n], {e[0], e[1], e[2], e[3]}, {values[b].r[n], values[b + 1].r[n]});
      }
    }
  }
}

// A rolled window of 4: see attend_quarters().
template <typename At>
__device__ __forceinline__ void attend_quarters_int8(int (&sums)[kInt8Tiles][4],
                                                     const Int8Half (&q)[2], const char* keys,
                                                     const char* values, At at, float k, int lane) {
  const bool query_right = (lane & 8) != 0, key_right = (lane & 1) != 0;
  const int mine = query_right == key_right ? 1 : query_right ? 2 : 0;
  int s[2][4], top[2] = {INT_MIN, INT_MIN};
#pragma unroll
  for (int dy = -1; dy <= 1; ++dy) {
#pragma unroll
    for (int h = dy < 0 ? 1 : 0; h < (dy > 0 ? 1 : 2); ++h) {
      const int row = dy + h, tile = dy == 0 ? 1 - h : dy > 0 ? 1 : 0;
#pragma unroll
      for (int b = 0; b < 3; ++b) {
        Int8Half key;
        load_half(key, keys + at(dy, b - 1), h, lane);
        int c[4];
        score(c, q, key);
        if (b == 0 || mine == b) {
          s[tile][2 * row] = c[2 * row];
          s[tile][2 * row + 1] = c[2 * row + 1];
        }
      }
    }
  }
  find_tops(top, s);
  share_tops(top);
  // In the places of tokens of the upper half (tile 1) or the lower half of a block.
  std::uint32_t upper[2], lower[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    upper[r] = __byte_perm(power_pair(s[1], r, top[r], k), 0, 0x4140);
    lower[r] = __byte_perm(power_pair(s[0], r, top[r], k), 0, 0x1404);
  }
  clear(sums);
#pragma unroll
  for (int b = 0; b < 3; ++b) {
    Int8Values above, own, below;
    load_values(above, values + at(-1, b - 1), lane);
    load_values(own, values + at(0, b - 1), lane);
    load_values(below, values + at(1, b - 1), lane);
    const auto weight = [&](std::uint32_t e) { return mine == b ? e : 0U; };
#pragma unroll
    for (int n = 0; n < kInt8Tiles; ++n) {
      mma32_u8(sums[n], {weight(lower[0]), 0U, weight(upper[0]), weight(lower[1])},
               {above.r[n], own.r[n]});
      mma16_u8(sums[n], {0U, weight(upper[1])}, below.r[n]);
    }
  }
}

#if ELAN_HOPPER

// The 256 keys of a window in shared memory, 64 at a time, for the warpgroup's 64 queries, `own`.
__device__ __forceinline__ void attend_window_int8(int (&sums)[kInt8Tiles][4], std::uint32_t own,
                                                   std::uint32_t q_window, std::uint32_t v_window,
                                                   float k) {
  constexpr int kStep = 4 * kInt8GroupBytes;  // of 64 keys
  const auto multiply = [&](int(&s)[8][4], int step) {
    wgmma_fence();
#pragma unroll
    for (int u = 0; u < kInt8GroupUnits; u += 2) {
      wgmma_shared_s8(s, core_descriptor(own + u * 128, 128, kInt8Half),
                      core_descriptor(q_window + step * kStep + u * 128, 128, kInt8Half), u > 0);
    }
    wgmma_commit();
    wgmma_wait<0>(s);
  };
  int top[2] = {INT_MIN, INT_MIN};
#pragma unroll 1
  for (int i = 0; i < 4; ++i) {
    int s[8][4];
    multiply(s, i);
    find_tops(top, s);
  }
  share_tops(top);
#pragma unroll 1
  for (int i = 0; i < 4; ++i) {
    int s[8][4];
    multiply(s, i);
    std::uint32_t e[2][4];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      e[j / 4][j % 4] = powers(s[j / 2 * 2], s[j / 2 * 2 + 1], j % 2, top[j % 2], k);
    }
    wgmma_fence();
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      wgmma_u8(
          sums, e[j],
          core_descriptor(v_window + i * kStep + j * 2 * kInt8GroupBytes, kInt8GroupBytes, 128),
          i + j > 0);
    }
    wgmma_commit();
    wgmma_wait<0>(sums);
  }
}

#endif

}  // namespace elan::cuda
