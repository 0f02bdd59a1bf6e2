// Products of the tail on a stream of FP16, and the skip around the body there.
//
// The weights are the left operand, 16 results each (pack_rows()), and the pixels the right one, so
// that the words of either come from memory side by side as the instruction wants them.
//
// The skip: the head and the last convolution, one after the other, are a convolution of 5 x 5
// pixels with 3 colours (pack_tail.cc), a product of numbers in two FP16 terms each.
#pragma once

#include "cuda/kernels/head.cuh"

namespace elan::cuda {

// Of a lane: results g (0, 1) and g + 8 (2, 3) of pixels 2t and 2t + 1, for 16 * n.. results and
// 8 * p.. pixels.
template <int N, int P>
using PixelSums = float[P][N / 2][4];

// sums += weights * pixels, of 8 * Units k. pair(p, u, b) gives the words of units u and u + 1 of
// the pixels, one(p, b) that of an odd last unit; with two terms of the pixels four words instead
// of two, the second terms behind.
template <int N, int Units, int WeightTerms, int PixelTerms, int P, typename Pair, typename One>
__device__ __forceinline__ void multiply_pixels(PixelSums<N, P>& sums, const char* slab, int lane,
                                                Pair pair, One one) {
  WordStream words(slab, lane);
#pragma unroll
  for (int u = 0; u + 1 < Units; u += 2) {
    std::uint32_t b[P][2 * PixelTerms];
#pragma unroll
    for (int p = 0; p < P; ++p) pair(p, u, b[p]);
#pragma unroll
    for (int n = 0; n < N / 2; ++n) {
#pragma unroll
      for (int term = 0; term < WeightTerms; ++term) {
        std::uint32_t a[4];
#pragma unroll
        for (std::uint32_t& w : a) w = words.next();
#pragma unroll
        for (int p = 0; p < P; ++p) {
          if (PixelTerms > 1 && term == 0) {
            mma16_f16(sums[p][n], a[0], a[1], a[2], a[3], b[p][2], b[p][3]);
          }
          mma16_f16(sums[p][n], a[0], a[1], a[2], a[3], b[p][0], b[p][1]);
        }
      }
    }
  }
  if constexpr (Units % 2 == 1) {
    static_assert(PixelTerms == 1);
    std::uint32_t b[P];
#pragma unroll
    for (int p = 0; p < P; ++p) one(p, b[p]);
#pragma unroll
    for (int n = 0; n < N / 2; ++n) {
#pragma unroll
      for (int term = 0; term < WeightTerms; ++term) {
        const std::uint32_t a0 = words.next(), a1 = words.next();
#pragma unroll
        for (int p = 0; p < P; ++p) mma8_f16(sums[p][n], a0, a1, b[p]);
      }
    }
  }
}

// The picture around a tile whose first pixel is `o`, a ring of two, to `patch`: of a pixel the
// first terms of its colours and of 1, for the bias, and then the second ones. Behind it zeros, a
// pixel's surroundings.
template <int TileY>
__device__ __forceinline__ void load_skip_patch(uint4* patch, const HeadArgs& p, TileOrigin o,
                                                int thread, int threads) {
  constexpr int kWidth = skip_patch_width(), kPixels = skip_patch_rows(TileY) * kWidth;
  for (int i = thread; i < kPixels; i += threads) {
    const float3 v = load_pixel(p, o.image, o.y - 2 + i / kWidth, o.x - 2 + i % kWidth);
    uint4 terms;
    split_half(v.x, v.y, terms.x, terms.z);
    split_half(v.z, 1, terms.y, terms.w);
    patch[i] = terms;
  }
  for (int i = thread; i < kSkipZeros; i += threads) patch[kPixels + i] = make_uint4(0, 0, 0, 0);
}

// sums = what the skip adds to the last convolution's results, before those are times its
// `unscale`, of 2 * M times 8 pixels: two rows of four, from row y and column x of the picture on,
// `row` and `column` of the tile whose patch it is.
template <int TileY, int N, int P>
__device__ __forceinline__ void start_from_skip(PixelSums<N, P>& sums, const TailArgs& args,
                                                const uint4* patch, int row, int column, int y,
                                                int x, int lane) {
  constexpr int kWidth = skip_patch_width();
  const int g = lane >> 2, t = lane & 3;
  const int own_y = y + (g >> 2), own_x = x + (g & 3);
  const uint4* const own = patch + (row + (g >> 2)) * kWidth + column + (g & 3);
  // Kinds of rows and columns that the warp has; pixels of another kind have zeros around them.
  const auto kind_of = [](int i, int size) { return i == 0 ? 0 : i + 1 == size ? 2 : 1; };
  const auto each_kind = [](int i, int count, int size, auto f) {
    const int last = i + count == size ? 2 : 1;
#pragma unroll 1
    for (int kind = i == 0 ? 0 : 1; kind <= last; ++kind) f(kind);
  };
  each_kind(y, 2 * P, args.grid.height, [&](int kind_y) {
    each_kind(x, 4, args.grid.width, [&](int kind_x) {
      const bool is_column = kind_of(own_x, args.grid.width) == kind_x;
      const uint4* from[P];
#pragma unroll
      for (int p = 0; p < P; ++p) {
        const bool mine = is_column && kind_of(own_y + 2 * p, args.grid.height) == kind_y;
        from[p] = mine ? own + 2 * p * kWidth : patch + skip_patch_rows(TileY) * kWidth;
      }
      multiply_pixels<N, 2 * kSkipSteps, 2, 2>(
          sums, args.skip_weights + skip_kind(kind_y, kind_x) * skip_slab_bytes(N), lane,
          [&](int p, int u, std::uint32_t(&b)[4]) {
            const SkipPixel at = skip_pixel(u / 2, t);
            const uint4 terms = from[p][at.y * kWidth + at.x];
            b[0] = terms.x;
            b[1] = terms.y;
            b[2] = terms.z;
            b[3] = terms.w;
          },
          [](int, std::uint32_t&) {});
    });
  });
#pragma unroll
  for (int p = 0; p < P; ++p) {
#pragma unroll
    for (int n = 0; n < N / 2; ++n) {
#pragma unroll
      for (float& v : sums[p][n]) v *= args.skip_scale;
    }
  }
}

}  // namespace elan::cuda
