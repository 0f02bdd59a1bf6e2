// A tile of the stream in shared memory, as operands, and the ring of weight slabs beside it.
#pragma once

#include "cuda/kernels/codec.cuh"
#include "cuda/kernels/kernels.h"

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

// Fetches `Count` slices of a tile (one float4 of every thread each) from slice `first` on; channel
// chunk c is read at the pixel displaced by taps[c] = (dy + 1) * 4 + dx + 1, zero outside.
template <typename T, int Count>
__device__ __forceinline__ void fetch_slices(float4 (&v)[Count], int first, const float* x,
                                             TileOrigin o, const Grid& g, const int* taps,
                                             int thread) {
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    const int k = (first + i) * T::kThreads + thread;
    v[i] = make_float4(0, 0, 0, 0);
    if (k >= T::kWidth * T::kHeight * T::kChunks) continue;
    const int pixel = k / T::kChunks, c = k % T::kChunks;
    const int tap = taps[c];
    const int py = o.y + pixel / T::kWidth - 2 + (tap >> 2);
    const int px = o.x + pixel % T::kWidth - 2 + (tap & 3);
    if (py >= 0 && py < g.height && px >= 0 && px < g.width) {
      const auto at = (static_cast<std::size_t>(o.image) * g.height + py) * g.width + px;
      v[i] = __ldg(reinterpret_cast<const float4*>(x) + at * T::kChunks + c);
    }
  }
}

template <typename K, typename T, int Count>
__device__ __forceinline__ void store_slices(const float4 (&v)[Count], int first, char* tile,
                                             int thread) {
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    const int k = (first + i) * T::kThreads + thread;
    if (k >= T::kWidth * T::kHeight * T::kChunks) continue;
    const int pixel = k / T::kChunks, c = k % T::kChunks;
    char* row = tile + (pixel / T::kWidth * T::kRow + pixel % T::kWidth) * T::kPitch;
    K::store4(row, T::kPlane, c * 4, v[i]);
  }
}

template <typename K, typename T>
__device__ __forceinline__ void load_tile(int first, char* tile, const float* x, TileOrigin o,
                                          const Grid& g, const int* taps, int thread) {
  constexpr int kBatch = 6;
  for (int s = first; s < T::kSlices; s += kBatch) {
    float4 v[kBatch];
    fetch_slices<T>(v, s, x, o, g, taps, thread);
    store_slices<K, T>(v, s, tile, thread);
  }
}

// Weight slabs on their way through shared memory. The blob holds `first` slabs of First bytes and
// then others of Second bytes; the block walks through all `steps` of them, again and again.
template <int First, int Second>
class SlabRing {
 public:
  static constexpr int kStage = First > Second ? First : Second;

  __device__ SlabRing(char* shared, const char* blob, int first, int steps, int stages, int thread,
                      int threads)
      : shared_(shared), blob_(blob), first_(first), steps_(steps), stages_(stages),
        thread_(thread), threads_(threads) {
    if (stages_ == 0) {
      copy_async(shared_, blob_, offset(steps_), thread_, threads_);
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
    copy_async(shared_ + issue_slot_ * kStage, blob_ + offset(issue_step_),
               issue_step_ < first_ ? First : Second, thread_, threads_);
    cp_async_commit();
    if (++issue_step_ == steps_) issue_step_ = 0;
    if (++issue_slot_ == stages_) issue_slot_ = 0;
  }

  char* shared_;
  const char* blob_;
  int first_, steps_, stages_, thread_, threads_;
  int step_ = 0, slot_ = 0, issue_step_ = 0, issue_slot_ = 0;
};

}  // namespace elan::cuda
