// A tile of the stream in shared memory, as operands, and the ring of weight slabs beside it.
#pragma once

#include <type_traits>

#include "cuda/kernels/codec.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/launch.cuh"

namespace elan::cuda {

// Four and two neighbouring channels of the stream as memory holds them: FP32 or FP16 (S).
template <typename S>
using Quad = std::conditional_t<std::is_same_v<S, float>, float4, uint2>;
template <typename S>
using Duo = std::conditional_t<std::is_same_v<S, float>, float2, std::uint32_t>;

__device__ __forceinline__ float2 widen(float2 v) {
  return v;
}
__device__ __forceinline__ float2 widen(std::uint32_t v) {
  return __half22float2(*reinterpret_cast<const __half2*>(&v));
}
__device__ __forceinline__ float4 widen(float4 v) {
  return v;
}
__device__ __forceinline__ float4 widen(uint2 v) {
  const float2 a = widen(v.x), b = widen(v.y);
  return make_float4(a.x, a.y, b.x, b.y);
}
__device__ __forceinline__ float4 lower_half(float2 v) {
  return make_float4(v.x, v.y, 0, 0);
}
__device__ __forceinline__ uint2 lower_half(std::uint32_t v) {
  return make_uint2(v, 0);
}
__device__ __forceinline__ void narrow(float4& to, float a, float b, float c, float d) {
  to = make_float4(a, b, c, d);
}
__device__ __forceinline__ void narrow(uint2& to, float a, float b, float c, float d) {
  to = make_uint2(pack_half(a, b), pack_half(c, d));
}
__device__ __forceinline__ void narrow(float2& to, float a, float b) {
  to = make_float2(a, b);
}
__device__ __forceinline__ void narrow(std::uint32_t& to, float a, float b) {
  to = pack_half(a, b);
}

// BX x BY blocks of 4 x 4 pixels, brought by `Threads` threads.
template <typename K, int C, int BX, int BY, int Threads>
struct PictureTile {
  static constexpr ChannelLayout kLayout = layout_of(C);
  static constexpr int kRow = tile_row_pixels(BX);
  static constexpr int kPitch = tile_pitch(kLayout, K::kTileBytes / K::kPlanes);
  static constexpr int kPlane = tile_plane_bytes(kLayout, BX, BY, K::kTileBytes / K::kPlanes);
  static constexpr int kBytes = kPlane * K::kPlanes;
  static constexpr int kChunks = 2 * kLayout.units;  // of 4 channels
  static constexpr int kWidth = 4 * BX + 2, kHeight = 4 * BY + 2;
  static constexpr int kBlocksX = BX, kBlocksY = BY;
  static constexpr int kThreads = Threads;
  static constexpr int kSlices = (kWidth * kHeight * kChunks + kThreads - 1) / kThreads;
  // What load_pair() needs beside the address: tf32's second row, or the second plane.
  static constexpr int kExtra = K::kPlanes == 1 && K::kTileBytes == 4 ? 2 * kRow * kPitch : kPlane;
};

// Where a tile lies: its first pixel, in picture `image` of the batch.
struct TileOrigin {
  int image, y, x;
};

template <int BX, int BY>
__device__ __forceinline__ TileOrigin tile_origin(int tile, const Grid& g) {
  const int across = g.width / (4 * BX), down = g.height / (4 * BY);
  const int image = tile / (across * down), r = tile - image * across * down;
  return {image, r / across * (4 * BY), r % across * (4 * BX)};
}

// Outside the picture the hidden layer is zero, not relu(bias): of a lane's rows of operands g is
// pixel (x, y), g + 8 the one two rows of the picture below.
template <int Units, typename UnitA>
__device__ __forceinline__ void clear_outside(UnitA* hidden, const Grid& g, int x, int y) {
  const bool in_x = x >= 0 && x < g.width;
  const bool in0 = in_x && y >= 0 && y < g.height;
  const bool in1 = in_x && y + 2 >= 0 && y + 2 < g.height;
#pragma unroll
  for (int n = 0; n < Units; ++n) keep_rows(hidden[n], in0, in1);
}

// A thread's way through a tile: in slice i it has the 4 channels `chunk` of pixel (row, column).
// The next slice is kThreads chunks on.
template <typename T>
struct TileWalk {
  int chunk, column, row;
  __device__ __forceinline__ explicit TileWalk(int thread)
      : chunk(thread % T::kChunks),
        column(thread / T::kChunks % T::kWidth),
        row(thread / T::kChunks / T::kWidth) {}
  __device__ __forceinline__ void next() {
    constexpr int kPixels = T::kThreads / T::kChunks;
    chunk += T::kThreads % T::kChunks;
    column += kPixels % T::kWidth;
    if (chunk >= T::kChunks) {
      chunk -= T::kChunks;
      ++column;
    }
    row += kPixels / T::kWidth;
    if (column >= T::kWidth) {
      column -= T::kWidth;
      ++row;
    }
  }
};

// Where the chunk that a thread is at comes from; null outside the picture or the tile. Channel
// chunk c is read at the pixel displaced by taps[c] = (dy + 1) * 4 + dx + 1. `image` is the stream
// of one picture.
template <typename T, typename Q>
__device__ __forceinline__ const Q* chunk_at(const TileWalk<T>& walk, const Q* image, TileOrigin o,
                                             const Grid& g, const int* taps) {
  const int tap = taps[walk.chunk];
  const int y = o.y + walk.row - 2 + (tap >> 2), x = o.x + walk.column - 2 + (tap & 3);
  const bool inside = walk.row < T::kHeight &&
                      static_cast<unsigned>(y) < static_cast<unsigned>(g.height) &&
                      static_cast<unsigned>(x) < static_cast<unsigned>(g.width);
  return inside ? image + static_cast<std::size_t>(y * g.width + x) * T::kChunks + walk.chunk
                : nullptr;
}

// Fetches the next `Count` slices of a tile (one chunk of every thread each), zeros outside.
template <typename T, typename Q, int Count>
__device__ __forceinline__ void fetch_slices(Q (&v)[Count], TileWalk<T> walk, const Q* image,
                                             TileOrigin o, const Grid& g, const int* taps) {
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    const Q* from = chunk_at(walk, image, o, g, taps);
    v[i] = Q{};
    if (from != nullptr) v[i] = __ldg(from);
    walk.next();
  }
}

// Stores them; moves `walk` on.
template <typename K, typename T, typename Q, int Count>
__device__ __forceinline__ void store_slices(const Q (&v)[Count], TileWalk<T>& walk, char* tile,
                                             const Rounding& rounding) {
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    if (walk.row < T::kHeight) {
      K::store4(tile + (walk.row * T::kRow + walk.column) * T::kPitch, T::kPlane, walk.chunk * 4,
                round_to_operand<K>(widen(v[i]), rounding));
    }
    walk.next();
  }
}

template <typename T, typename S>
__device__ __forceinline__ const Quad<S>* tile_image(const S* x, TileOrigin o, const Grid& g) {
  return reinterpret_cast<const Quad<S>*>(x) +
         static_cast<std::size_t>(o.image) * g.height * g.width * T::kChunks;
}

// A tile of FP16 operands from a stream of FP16, with nothing in between: asynchronous copies.
// steps[c] is where chunk c is found, in chunks from the pixel that it goes to.
template <typename T>
__device__ __forceinline__ void copy_tile(TileWalk<T> walk, std::uint32_t tile, const __half* x,
                                          TileOrigin o, const Grid& g, const int* taps,
                                          const int* steps) {
  constexpr int kChunks = T::kChunks, kWidth = T::kWidth;
  constexpr int kWhole = kWidth * T::kHeight * kChunks / T::kThreads;  // slices of all threads
  const uint2* image = tile_image<T>(x, o, g);
  std::uint32_t to = tile + (walk.row * T::kRow + walk.column) * T::kPitch + walk.chunk * 8;
  const bool inner =
      o.x >= 2 && o.y >= 2 && o.x + kWidth <= g.width && o.y + T::kHeight <= g.height;
  if (inner) {
    constexpr bool kSameChunk = T::kThreads % kChunks == 0;
    constexpr int kPixels = T::kThreads / kChunks, kRest = T::kThreads % kChunks;
    static_assert(kPixels < kWidth);
    // Relative to this, 32 bits are enough.
    image += static_cast<std::size_t>((o.y - 1) * g.width + o.x - 1) * kChunks;
    int from = (walk.row * g.width + walk.column) * kChunks;
    const int new_row = (g.width - kWidth) * kChunks;
    const int own_step = steps[walk.chunk];
    const auto copy = [&] {
      cp_async8(to, image + (from + (kSameChunk ? own_step : steps[walk.chunk])), true);
    };
#pragma unroll 3
    for (int s = 0; s < kWhole; ++s) {
      copy();
      from += kPixels * kChunks;
      to += kPixels * T::kPitch + kRest * 8;
      walk.column += kPixels;
      if constexpr (!kSameChunk) {
        walk.chunk += kRest;
        if (walk.chunk >= kChunks) {
          walk.chunk -= kChunks;
          ++walk.column;
          from += kChunks;
          to += T::kPitch - kChunks * 8;
        }
      }
      if (walk.column >= kWidth) {
        walk.column -= kWidth;
        ++walk.row;
        from += new_row;
        to += (T::kRow - kWidth) * T::kPitch;
      }
    }
    if (kWhole < T::kSlices && walk.row < T::kHeight) copy();
    return;
  }
#pragma unroll 1
  for (int s = 0; s < T::kSlices; ++s) {
    const uint2* from = chunk_at(walk, image, o, g, taps);
    if (walk.row < T::kHeight) {
      cp_async8(tile + (walk.row * T::kRow + walk.column) * T::kPitch + walk.chunk * 8,
                from != nullptr ? from : image, from != nullptr);
    }
    walk.next();
  }
}

template <typename T>
__device__ __forceinline__ int step_to(int chunk, int tap, int width) {
  return (((tap >> 2) - 1) * width + (tap & 3) - 1) * T::kChunks + chunk;
}

// For each chunk c, how far a pixel's own value lies from the pixel's place in the tile: bytes.
template <typename T>
__device__ __forceinline__ int way_back(int chunk, int tap) {
  return -(((tap >> 2) - 1) * T::kRow + (tap & 3) - 1) * T::kPitch + chunk * 8;
}

// acc = scale * the stream at the pixels of rows g and g + 8 of a block, from a tile of FP16; `own`
// is the place of row g's pixel, back[c] = way_back(c). Columns as in column_channel().
template <typename T, int N>
__device__ __forceinline__ void start_from_tile(float (&acc)[N][4], const char* own,
                                                const int* back, float scale, int t) {
#pragma unroll
  for (int i = 0; i < (N + 1) / 2; ++i) {
    const bool two = 2 * i + 1 < N;
    const int at = two ? back[4 * i + t] : back[4 * i + t / 2] + t % 2 * 4;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const char* p = own + at + h * 2 * T::kRow * T::kPitch;
      if (two) {
        const float4 v = widen(*reinterpret_cast<const uint2*>(p));
        acc[2 * i][2 * h] = v.x * scale;
        acc[2 * i][2 * h + 1] = v.y * scale;
        acc[2 * i + 1 < N ? 2 * i + 1 : 0][2 * h] = v.z * scale;
        acc[2 * i + 1 < N ? 2 * i + 1 : 0][2 * h + 1] = v.w * scale;
      } else {
        const float2 v = widen(*reinterpret_cast<const std::uint32_t*>(p));
        acc[2 * i][2 * h] = v.x * scale;
        acc[2 * i][2 * h + 1] = v.y * scale;
      }
    }
  }
}

// All slices from `first` on.
template <typename K, typename T, typename S>
__device__ __forceinline__ void load_tile(int first, TileWalk<T>& walk, char* tile, const S* x,
                                          TileOrigin o, const Grid& g, const int* taps,
                                          const Rounding& rounding = {}) {
  constexpr int kBatch = 6;
  const Quad<S>* image = tile_image<T>(x, o, g);
#pragma unroll 1
  for (int s = first; s < T::kSlices; s += kBatch) {
    Quad<S> v[kBatch];
    fetch_slices<T>(v, walk, image, o, g, taps);
    store_slices<K, T>(v, walk, tile, rounding);
  }
}

// Rows g and g + 8 of N tiles of the stream, in the columns of column_channel(): 4 channels a lane.
// `first`, the first tile, is even.
template <typename S, int Units, int N>
struct RowPair {
  Quad<S> v[2][(N + 1) / 2];

  __device__ __forceinline__ void fetch(int first, const S* row0, const S* row1, int t) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const S* row = (h == 0 ? row0 : row1) + first * 8;
#pragma unroll
      for (int i = 0; i < (N + 1) / 2; ++i) {
        v[h][i] = Quad<S>{};
        if (first + 2 * i + 1 < Units) {
          v[h][i] = reinterpret_cast<const Quad<S>*>(row + i * 16)[t];
        } else if (first + 2 * i < Units) {
          v[h][i] = lower_half(reinterpret_cast<const Duo<S>*>(row + i * 16)[t]);
        }
      }
    }
  }

  // acc = the rows, or acc += the rows.
  __device__ __forceinline__ void start(float (&acc)[N][4]) const {
    each(acc, [](float& to, float w) { to = w; });
  }
  __device__ __forceinline__ void add(float (&acc)[N][4]) const {
    each(acc, [](float& to, float w) { to += w; });
  }

 private:
  template <typename F>
  __device__ __forceinline__ void each(float (&acc)[N][4], F f) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int i = 0; i < (N + 1) / 2; ++i) {
        const float4 w = widen(v[h][i]);
        f(acc[2 * i][2 * h], w.x);
        f(acc[2 * i][2 * h + 1], w.y);
        if (2 * i + 1 < N) {
          f(acc[2 * i + 1][2 * h], w.z);
          f(acc[2 * i + 1][2 * h + 1], w.w);
        }
      }
    }
  }
};

template <int Units, typename S, int N>
__device__ __forceinline__ void store_rows(const float (&acc)[N][4], int first, S* row0, S* row1,
                                           int t) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    S* row = (h == 0 ? row0 : row1) + first * 8;
#pragma unroll
    for (int i = 0; i < (N + 1) / 2; ++i) {
      const float* a = acc[2 * i] + 2 * h;
      if (2 * i + 1 < N && first + 2 * i + 1 < Units) {
        const float* b = acc[2 * i + 1 < N ? 2 * i + 1 : 0] + 2 * h;
        narrow(reinterpret_cast<Quad<S>*>(row + i * 16)[t], a[0], a[1], b[0], b[1]);
      } else if (first + 2 * i < Units) {
        narrow(reinterpret_cast<Duo<S>*>(row + i * 16)[t], a[0], a[1]);
      }
    }
  }
}

// Weight slabs on their way through shared memory. The blob holds `first` slabs of First bytes and
// then others of Second bytes; the block walks through all `steps` of them, again and again.
// Resident: it is known that all of them are in shared memory at once.
template <int First, int Second, int Threads, bool Resident = false>
class SlabRing {
 public:
  static constexpr int kStage = First > Second ? First : Second;

  __device__ SlabRing(char* shared, const char* blob, int first, int steps, int stages, int thread)
      : shared_(shared),
        blob_(blob),
        first_(first),
        steps_(steps),
        stages_(stages),
        thread_(thread) {
    if (resident()) {
      const int bytes = offset(steps_);
#pragma unroll 4
      for (int i = thread_ * 16; i < bytes; i += Threads * 16) cp_async16(shared_ + i, blob_ + i);
      cp_async_commit();
    } else {
      for (int i = 0; i + 1 < stages_; ++i) issue();
    }
  }

  // All slabs stay in shared memory: next() needs no barrier. Wait once before the first.
  __device__ bool resident() const { return Resident || stages_ == 0; }

  // The next slab; a barrier among all threads of the block unless resident.
  __device__ const char* next() {
    if (resident()) {
      const char* p = shared_ + offset(step_);
      if (++step_ == steps_) step_ = 0;
      return p;
    }
    if (stages_ > 2) {
      cp_async_wait<1>();
    } else {
      cp_async_wait<0>();
    }
    __syncthreads();
    issue();
    const char* p = shared_ + slot_ * kStage;
    if (++slot_ == stages_) slot_ = 0;
    return p;
  }

 private:
  __device__ int offset(int step) const {
    return step < first_ ? step * First : first_ * First + (step - first_) * Second;
  }
  __device__ void issue() {
    char* to = shared_ + issue_slot_ * kStage;
    if (issue_step_ < first_) {
      copy_async<First, Threads>(to, blob_ + issue_at_, thread_);
      issue_at_ += First;
    } else {
      copy_async<Second, Threads>(to, blob_ + issue_at_, thread_);
      issue_at_ += Second;
    }
    cp_async_commit();
    if (++issue_step_ == steps_) issue_step_ = issue_at_ = 0;
    if (++issue_slot_ == stages_) issue_slot_ = 0;
  }

  char* shared_;
  const char* blob_;
  int first_, steps_, stages_, thread_;
  int step_ = 0, slot_ = 0, issue_step_ = 0, issue_at_ = 0, issue_slot_ = 0;
};

}  // namespace elan::cuda
