// A tile of the stream in shared memory, as operands, and the ring of weight slabs beside it.
#pragma once

#include "cuda/kernels/codec.cuh"
#include "cuda/kernels/kernels.h"
#include "cuda/kernels/launch.cuh"

namespace elan::cuda {

template <typename K, int C, int WX, int WY>
struct PictureTile {
  static constexpr ChannelLayout kLayout = layout_of(C);
  static constexpr int kRow = tile_row_pixels(WX);
  static constexpr int kPitch = tile_pitch(kLayout, K::kTileBytes / K::kPlanes);
  static constexpr int kPlane = tile_plane_bytes(kLayout, WX, WY, K::kTileBytes / K::kPlanes);
  static constexpr int kBytes = kPlane * K::kPlanes;
  static constexpr int kChunks = 2 * kLayout.units;  // of 4 channels
  static constexpr int kWidth = 4 * WX + 2, kHeight = 4 * WY + 2;
  static constexpr int kThreads = 32 * WX * WY;
  static constexpr int kSlices = (kWidth * kHeight * kChunks + kThreads - 1) / kThreads;
  // What load_pair() needs beside the address: tf32's second row, or the second plane.
  static constexpr int kExtra = K::kPlanes == 1 && K::kTileBytes == 4 ? 2 * kRow * kPitch : kPlane;
};

// Where a tile lies: its first pixel, in picture `image` of the batch.
struct TileOrigin {
  int image, y, x;
};

template <int WX, int WY>
__device__ __forceinline__ TileOrigin tile_origin(int tile, const Grid& g) {
  const int across = g.width / (4 * WX), down = g.height / (4 * WY);
  const int image = tile / (across * down), r = tile - image * across * down;
  return {image, r / across * (4 * WY), r % across * (4 * WX)};
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

// Fetches the next `Count` slices of a tile (one float4 of every thread each); channel chunk c is
// read at the pixel displaced by taps[c] = (dy + 1) * 4 + dx + 1, zero outside. `image` is the
// stream of one picture.
template <typename T, int Count>
__device__ __forceinline__ void fetch_slices(float4 (&v)[Count], TileWalk<T> walk,
                                             const float4* image, TileOrigin o, const Grid& g,
                                             const int* taps) {
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    const int tap = taps[walk.chunk];
    const int y = o.y + walk.row - 2 + (tap >> 2), x = o.x + walk.column - 2 + (tap & 3);
    const bool inside = walk.row < T::kHeight &&
                        static_cast<unsigned>(y) < static_cast<unsigned>(g.height) &&
                        static_cast<unsigned>(x) < static_cast<unsigned>(g.width);
    v[i] = make_float4(0, 0, 0, 0);
    if (inside)
      v[i] = __ldg(image + static_cast<std::size_t>(y * g.width + x) * T::kChunks + walk.chunk);
    walk.next();
  }
}

// Stores them; moves `walk` on.
template <typename K, typename T, int Count>
__device__ __forceinline__ void store_slices(const float4 (&v)[Count], TileWalk<T>& walk,
                                             char* tile) {
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    if (walk.row < T::kHeight) {
      K::store4(tile + (walk.row * T::kRow + walk.column) * T::kPitch, T::kPlane, walk.chunk * 4,
                v[i]);
    }
    walk.next();
  }
}

template <typename T>
__device__ __forceinline__ const float4* tile_image(const float* x, TileOrigin o, const Grid& g) {
  return reinterpret_cast<const float4*>(x) +
         static_cast<std::size_t>(o.image) * g.height * g.width * T::kChunks;
}

// All slices from `first` on.
template <typename K, typename T>
__device__ __forceinline__ void load_tile(int first, TileWalk<T>& walk, char* tile, const float* x,
                                          TileOrigin o, const Grid& g, const int* taps) {
  constexpr int kBatch = 6;
  const float4* image = tile_image<T>(x, o, g);
#pragma unroll 1
  for (int s = first; s < T::kSlices; s += kBatch) {
    float4 v[kBatch];
    fetch_slices<T>(v, walk, image, o, g, taps);
    store_slices<K, T>(v, walk, tile);
  }
}

// Rows g and g + 8 of N tiles of the stream, in the columns of column_channel(): 16 bytes a lane.
// `first`, the first tile, is even.
template <int Units, int N>
struct RowPair {
  float4 v[2][(N + 1) / 2];

  __device__ __forceinline__ void fetch(int first, const float* row0, const float* row1, int t) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float* row = (h == 0 ? row0 : row1) + first * 8;
#pragma unroll
      for (int i = 0; i < (N + 1) / 2; ++i) {
        if (first + 2 * i + 1 < Units) {
          v[h][i] = reinterpret_cast<const float4*>(row + i * 16)[t];
        } else if (first + 2 * i < Units) {
          const float2 r = reinterpret_cast<const float2*>(row + i * 16)[t];
          v[h][i] = make_float4(r.x, r.y, 0, 0);
        } else {
          v[h][i] = make_float4(0, 0, 0, 0);
        }
      }
    }
  }

  __device__ __forceinline__ void add(float (&acc)[N][4]) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
#pragma unroll
      for (int i = 0; i < (N + 1) / 2; ++i) {
        acc[2 * i][2 * h] += v[h][i].x;
        acc[2 * i][2 * h + 1] += v[h][i].y;
        if (2 * i + 1 < N) {
          acc[2 * i + 1][2 * h] += v[h][i].z;
          acc[2 * i + 1][2 * h + 1] += v[h][i].w;
        }
      }
    }
  }
};

template <int Units, int N>
__device__ __forceinline__ void store_rows(const float (&acc)[N][4], int first, float* row0,
                                           float* row1, int t) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float* row = (h == 0 ? row0 : row1) + first * 8;
#pragma unroll
    for (int i = 0; i < (N + 1) / 2; ++i) {
      const float* a = acc[2 * i] + 2 * h;
      if (2 * i + 1 < N && first + 2 * i + 1 < Units) {
        const float* b = acc[2 * i + 1 < N ? 2 * i + 1 : 0] + 2 * h;
        reinterpret_cast<float4*>(row + i * 16)[t] = make_float4(a[0], a[1], b[0], b[1]);
      } else if (first + 2 * i < Units) {
        reinterpret_cast<float2*>(row + i * 16)[t] = make_float2(a[0], a[1]);
      }
    }
  }
}

// Weight slabs on their way through shared memory. The blob holds `first` slabs of First bytes and
// then others of Second bytes; the block walks through all `steps` of them, again and again.
template <int First, int Second, int Threads>
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
    if (stages_ == 0) {
      const int bytes = offset(steps_);
#pragma unroll 4
      for (int i = thread_ * 16; i < bytes; i += Threads * 16) cp_async16(shared_ + i, blob_ + i);
      cp_async_commit();
    } else {
      for (int i = 0; i + 1 < stages_; ++i) issue();
    }
  }

  // All slabs stay in shared memory: next() needs no barrier. Wait once before the first.
  __device__ bool resident() const { return stages_ == 0; }

  // The next slab; a barrier among all threads of the block unless resident.
  __device__ const char* next() {
    if (stages_ == 0) {
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
