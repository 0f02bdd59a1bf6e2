// Streams in all their formats: places in them, and numbers kept in two terms.
//
// The first term is the number rounded to FP16, an operand; first terms are together, as a stream
// of FP16 would be. What it is off by is one more number of FP16, of which the upper byte is kept:
// 14 bits in all. These bytes are behind the first terms, a word for 4 channels, in the order in
// which the lanes that have a pixel's row of accumulators ask for them (rest_byte()).
#pragma once

#include "cuda/kernels/tile.cuh"

namespace elan::cuda {

struct Split {};

// A place in such a stream.
template <typename Half>
struct SplitPlace {
  using Byte = std::conditional_t<std::is_const_v<Half>, const char, char>;
  Half* first;
  Byte* rest;
};

// The stream of so many pixels at x, of units of 8 channels.
template <typename S, typename Void>
__device__ __forceinline__ auto stream_at(Void* x, std::size_t pixels, int units) {
  using Term = std::conditional_t<std::is_same_v<S, Split>, __half, S>;
  using Number = std::conditional_t<std::is_const_v<Void>, const Term, Term>;
  auto* const numbers = static_cast<Number*>(x);
  if constexpr (std::is_same_v<S, Split>) {
    using Place = SplitPlace<Number>;
    return Place{numbers, reinterpret_cast<typename Place::Byte*>(numbers + pixels * (8 * units))};
  } else {
    return numbers;
  }
}
template <typename S, int C, typename Void>
__device__ __forceinline__ auto stream_at(Void* x, const Grid& g) {
  constexpr int kUnits = layout_of(C).units;
  return stream_at<S>(x, static_cast<std::size_t>(g.width) * g.height * g.batch, kUnits);
}

template <int C, typename T>
__device__ __forceinline__ T* at_pixel(T* stream, std::size_t pixel) {
  return stream + pixel * (8 * layout_of(C).units);
}
template <int C, typename T>
__device__ __forceinline__ SplitPlace<T> at_pixel(SplitPlace<T> stream, std::size_t pixel) {
  constexpr int kRest = rest_bytes(layout_of(C).units);
  return {at_pixel<C>(stream.first, pixel), stream.rest + pixel * kRest};
}

// What a tile is brought from.
template <typename T>
__device__ __forceinline__ T* tile_source(T* stream) {
  return stream;
}
template <typename T>
__device__ __forceinline__ T* tile_source(SplitPlace<T> stream) {
  return stream.first;
}

// The rests of 4 numbers, rounded, as a word, and the second terms that they stand for.
__device__ __forceinline__ std::uint32_t pack_rest(float a, float b, float c, float d) {
  constexpr std::uint32_t kHalfUnit = 0x00800080U;
  std::uint32_t first, ab, cd;
  split_half(a, b, first, ab);
  split_half(c, d, first, cd);
  return __byte_perm(ab + kHalfUnit, cd + kHalfUnit, 0x7531);
}
__device__ __forceinline__ float2 lower_rest(std::uint32_t word) {
  return widen(__byte_perm(word, 0, 0x1404));
}
__device__ __forceinline__ float2 upper_rest(std::uint32_t word) {
  return widen(__byte_perm(word, 0, 0x3424));
}

// The word of channels 4 * quad to 4 * quad + 3 of a pixel whose bytes are at `rest`. Of an odd
// unit's channels a lane has two, so their words are half empty.
__device__ __forceinline__ std::uint32_t load_rest(const char* rest, int quad, int units) {
  const auto word = [&](int channel) {
    return *reinterpret_cast<const std::uint32_t*>(rest + rest_byte(units, channel));
  };
  if (quad < units / 2 * 4) return word(4 * quad);
  return word(4 * quad) | word(4 * quad + 2) << 16;
}
__device__ __forceinline__ void store_rest(char* rest, int quad, int units, std::uint32_t v) {
  const auto word = [&](int channel) {
    return reinterpret_cast<std::uint32_t*>(rest + rest_byte(units, channel));
  };
  if (quad < units / 2 * 4) {
    *word(4 * quad) = v;
  } else {
    *word(4 * quad) = v & 0xffffU;
    *word(4 * quad + 2) = v >> 16;
  }
}
__device__ __forceinline__ float4 add_rest(float4 v, std::uint32_t rest) {
  const float2 a = lower_rest(rest), b = upper_rest(rest);
  return make_float4(v.x + a.x, v.y + a.y, v.z + b.x, v.w + b.y);
}

// The same channels of a pixel as numbers.
template <typename S>
__device__ __forceinline__ float4 load_quad(const S* stream, std::size_t pixel, int quad,
                                            int units) {
  return widen(reinterpret_cast<const Quad<S>*>(stream)[pixel * (2 * units) + quad]);
}
template <typename T>
__device__ __forceinline__ float4 load_quad(SplitPlace<T> stream, std::size_t pixel, int quad,
                                            int units) {
  return add_rest(load_quad(stream.first, pixel, quad, units),
                  load_rest(stream.rest + pixel * rest_bytes(units), quad, units));
}
template <typename S>
__device__ __forceinline__ void store_quad(S* stream, std::size_t pixel, int quad, int units,
                                           float4 v) {
  narrow(reinterpret_cast<Quad<S>*>(stream)[pixel * (2 * units) + quad], v.x, v.y, v.z, v.w);
}
__device__ __forceinline__ void store_quad(SplitPlace<__half> stream, std::size_t pixel, int quad,
                                           int units, float4 v) {
  store_quad(stream.first, pixel, quad, units, v);
  store_rest(stream.rest + pixel * rest_bytes(units), quad, units, pack_rest(v.x, v.y, v.z, v.w));
}

// A tile with all of the numbers in it.
template <typename K, typename T>
__device__ __forceinline__ void load_tile(int first, TileWalk<T>& walk, char* tile,
                                          SplitPlace<const __half> x, TileOrigin o, const Grid& g,
                                          const int* taps) {
  constexpr int kBatch = 4, kUnits = T::kLayout.units;
  const uint2* image = tile_image<T>(x.first, o, g);
  const char* rest =
      x.rest + static_cast<std::size_t>(o.image) * g.height * g.width * rest_bytes(kUnits);
#pragma unroll 1
  for (int s = first; s < T::kSlices; s += kBatch) {
    float4 v[kBatch];
    TileWalk<T> at = walk;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const uint2* from = chunk_at(at, image, o, g, taps);
      v[i] = make_float4(0, 0, 0, 0);
      if (from != nullptr) {
        const std::size_t pixel = static_cast<std::size_t>(from - image) / T::kChunks;
        v[i] = add_rest(widen(__ldg(from)),
                        load_rest(rest + pixel * rest_bytes(kUnits), at.chunk, kUnits));
      }
      at.next();
    }
    store_slices<K, T>(v, walk, tile, Rounding{});
  }
}

// Rests of rows g and g + 8 of N tiles, the first of which a multiple of 4: words in a row.
template <int N>
struct RestPair {
  static constexpr int kWords = (N + 1) / 2;
  using Vector = std::conditional_t<kWords % 4 == 0, uint4, uint2>;
  static constexpr int kStep = static_cast<int>(sizeof(Vector) / 4);
  static_assert(kWords % kStep == 0);
  std::uint32_t word[2][kWords];

  template <int Units>
  __device__ __forceinline__ void fetch(int first, const char* row0, const char* row1, int t) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const char* row = h == 0 ? row0 : row1;
#pragma unroll
      for (int i = 0; i < kWords; i += kStep) {
        const Vector v = *reinterpret_cast<const Vector*>(row + rest_word(t, first / 2 + i));
        word[h][i] = v.x;
        word[h][i + 1] = v.y;
        if constexpr (kStep == 4) {
          word[h][i + 2] = v.z;
          word[h][i + 3] = v.w;
        }
      }
    }
  }
  __device__ __forceinline__ void add(float (&acc)[N][4]) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int n = 0; n < N; ++n) {
        const std::uint32_t w = word[h][n / 2];
        const float2 v = n % 2 == 0 ? lower_rest(w) : upper_rest(w);
        acc[n][2 * h] += v.x;
        acc[n][2 * h + 1] += v.y;
      }
    }
  }
};

template <int Units, int N>
struct RowPair<Split, Units, N> {
  RowPair<__half, Units, N> terms;
  RestPair<N> rest;

  template <typename T>
  __device__ __forceinline__ void fetch(int first, SplitPlace<T> row0, SplitPlace<T> row1, int t) {
    terms.fetch(first, row0.first, row1.first, t);
    rest.template fetch<Units>(first, row0.rest, row1.rest, t);
  }
  __device__ __forceinline__ void start(float (&acc)[N][4]) const {
    terms.start(acc);
    rest.add(acc);
  }
  __device__ __forceinline__ void add(float (&acc)[N][4]) const {
    terms.add(acc);
    rest.add(acc);
  }
};

template <int Units, int N>
__device__ __forceinline__ void store_rests(const float (&acc)[N][4], int first, char* row0,
                                            char* row1, int t) {
  using Rest = RestPair<N>;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    char* row = h == 0 ? row0 : row1;
    const auto word = [&](int i) {
      const float *a = acc[2 * i] + 2 * h, *b = acc[2 * i + 1 < N ? 2 * i + 1 : 0] + 2 * h;
      const bool two = 2 * i + 1 < N && first + 2 * i + 1 < Units;
      return pack_rest(a[0], a[1], two ? b[0] : 0.F, two ? b[1] : 0.F);
    };
#pragma unroll
    for (int i = 0; i < Rest::kWords; i += Rest::kStep) {
      auto* to = reinterpret_cast<typename Rest::Vector*>(row + rest_word(t, first / 2 + i));
      if constexpr (Rest::kStep == 4) {
        *to = make_uint4(word(i), word(i + 1), word(i + 2), word(i + 3));
      } else {
        *to = make_uint2(word(i), word(i + 1));
      }
    }
  }
}

template <int Units, int N>
__device__ __forceinline__ void store_rows(const float (&acc)[N][4], int first,
                                           SplitPlace<__half> row0, SplitPlace<__half> row1,
                                           int t) {
  store_rows<Units>(acc, first, row0.first, row1.first, t);
  store_rests<Units>(acc, first, row0.rest, row1.rest, t);
}

}  // namespace elan::cuda
