// The picture from the stream: 3x3 convolution to 3 * scale^2 channels, pixel shuffle, mean, crop,
// rounding and conversion to the caller's samples; notes any result that is not a finite number.

#include "cuda/kernels/head.cuh"

namespace elan::cuda {
namespace {

// Operands here are FP16 whatever the body computes in: made smaller, the stream may reach four
// million, which is for bodies in tf32 and bf16 as good as FP32's range, and two terms are still
// exact to 2e-6.
constexpr float kShrink = 1.F / 64;
template <typename K>
struct Shrunk : K {
  static __device__ __forceinline__ void store4(char* row, int plane, int channel, float4 v) {
    K::store4(row, plane, channel,
              make_float4(v.x * kShrink, v.y * kShrink, v.z * kShrink, v.w * kShrink));
  }
};

// Tensor cores round sums toward zero. Those of one tap are short enough for that: they are added
// up in registers.
template <typename K>
struct OfTap : K {};
template <>
struct OfTap<CodecFp32> : CodecFp32 {
  static __device__ __forceinline__ void mma8(float (&c)[4], const UnitA& a, const UnitB& b) {
    chain8(c, a, b);
  }
  static __device__ __forceinline__ void mma16(float (&c)[4], const UnitA& a0, const UnitA& a1,
                                               const UnitB& b0, const UnitB& b1) {
    chain16(c, a0, a1, b0, b1);
  }
};

// The results of M blocks a warp, times unscale, as samples: through shared memory, so that rows of
// the output are written from left to right.
template <int N, int M, int WY>
__device__ __forceinline__ void write_picture(const float (*acc)[N][4], char* shared,
                                              const TailArgs& p, float unscale, TileOrigin o,
                                              int thread) {
  constexpr int kScale = N == 2 ? 2 : N == 4 ? 3 : 4;
  constexpr int kStride = 8 * N + 1;
  const int lane = thread & 31, wx = thread / 32 % 4, wy = thread / 128;
  float* values = reinterpret_cast<float*>(shared);
  bool finite = true;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const float2 b = __ldg(reinterpret_cast<const float2*>(p.bias + n * 8) + (lane & 3));
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float v = acc[m][n][i] * unscale + (i % 2 == 0 ? b.x : b.y);
        finite = finite && isfinite(v);
        const int token = (lane >> 2) + i / 2 * 8;
        const int pixel = ((wy * M + m) * 4 + token / 4) * 16 + wx * 4 + token % 4;
        values[pixel * kStride + n * 8 + 2 * (lane & 3) + i % 2] = v;
      }
    }
  }
  if (!finite) *p.not_finite = 1;
  __syncthreads();

  // Lanes go along a row, which is another one for each warp.
  constexpr int kRowSamples = 16 * kScale * 3, kRows = 4 * WY * M * kScale;
#pragma unroll
  for (int first = 0; first < kRowSamples; first += 32) {
    const int k = first + lane, column = k / 3, colour = k % 3, x = o.x * kScale + column;
    if (k >= kRowSamples || x >= p.output_width) continue;
    const float* from =
        values + column / kScale * kStride + colour * kScale * kScale + column % kScale;
    const float mean = p.mean[colour];
    for (int row = thread / 32; row < kRows; row += 4 * WY) {
      const int y = o.y * kScale + row;
      if (y >= p.output_height) break;
      const auto at =
          ((static_cast<std::size_t>(o.image) * p.output_height + y) * p.output_width + x) * 3 +
          colour;
      store_sample(p.output, p.sample, at,
                   from[row / kScale * 16 * kStride + row % kScale * kScale] + mean);
    }
  }
}

template <typename K, int C, int N, int WY>
__global__ __launch_bounds__(128 * WY) void tail_kernel(const __grid_constant__ TailArgs p) {
  using T = PictureTile<K, C, 4, WY, 128 * WY>;
  using UnitA = typename K::UnitA;
  constexpr int kU = layout_of(C).units;
  constexpr int kSlab = tail_slab_bytes(layout_of(C), N, K::kWords / 2);

  ELAN_DYNAMIC_SHARED(shared);
  __shared__ int taps[kMaxChunks];
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int wx = warp % 4, wy = warp / 4;
  const std::uint32_t tile_address = shared_address(shared);
  if (thread < kMaxChunks) taps[thread] = 5;  // no displacement
  SlabRing<kSlab, kSlab, T::kThreads> ring(shared + T::kBytes, p.weights, 9, 9, kTailStages,
                                           thread);
  __syncthreads();
  wait_for_previous();
  const TileOrigin o = tile_origin<4, WY>(static_cast<int>(blockIdx.x), p.grid);
  TileWalk<T> walk(thread);
  if (p.format == StreamFormat::split) {
    load_tile<Shrunk<K>, T>(0, walk, shared, stream_at<Split, C>(p.x, p.grid), o, p.grid, taps);
  } else {
    load_tile<Shrunk<K>, T>(0, walk, shared, stream_at<float, C>(p.x, p.grid), o, p.grid, taps);
  }
  const std::uint32_t base = K::lane_base(lane, [&](int r) {
    return static_cast<std::uint32_t>(((wy * 4 + r / 4 + 1) * T::kRow + wx * 4 + r % 4 + 1) *
                                      T::kPitch);
  });

  float acc[N][4] = {};
#pragma unroll 1
  for (int tap = 0; tap < 9; ++tap) {
    const char* slab = ring.next();
    const std::uint32_t at = base + ((tap / 3 - 1) * T::kRow + tap % 3 - 1) * T::kPitch;
    float part[1][N][4] = {};
    multiply<OfTap<K>, N, kU>(
        part, slab, lane,
        [&](int, int u, UnitA& a0, UnitA& a1) {
          K::load_pair(a0, a1, tile_address, at, T::kExtra, u);
        },
        [&](int, int u, UnitA& a) { K::load_one(a, tile_address, at, T::kExtra, u); });
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) acc[n][i] += part[0][n][i];
    }
  }
  cp_async_wait<0>();
  __syncthreads();

  write_picture<N, 1, WY>(&acc, shared, p, p.unscale / kShrink, o, thread);
}

// FP16 pixels and weights in two terms.
struct CodecFineWeights : CodecFp16 {
  using UnitB = UnitB2;
  static constexpr int kWords = 4;  // twice those of a UnitB
  static __device__ __forceinline__ void mma8(float (&c)[4], const UnitA& a, const UnitB& b) {
    mma8_f16(c, a.r[0], a.r[1], b.r[1]);
    mma8_f16(c, a.r[0], a.r[1], b.r[0]);
  }
  static __device__ __forceinline__ void mma16(float (&c)[4], const UnitA& a0, const UnitA& a1,
                                               const UnitB& b0, const UnitB& b1) {
    mma16_f16(c, a0.r[0], a0.r[1], a1.r[0], a1.r[1], b0.r[1], b1.r[1]);
    mma16_f16(c, a0.r[0], a0.r[1], a1.r[0], a1.r[1], b0.r[0], b1.r[0]);
  }
};

// A tile of the stream of FP16 with the head of the same pixels, rounded as the stream would be.
template <typename T, int C, int Rows, int Columns>
__device__ __forceinline__ void add_head(char* tile, const __half* x, const HeadArgs& p,
                                         const char* slabs, const float (&patch)[Rows][Columns][3],
                                         TileOrigin o, int thread) {
  constexpr int kUnits = layout_of(C).units, kPixels = T::kWidth * T::kHeight;
  constexpr int kRows = T::kHeight - 1;  // the last has no room
  const int lane = thread & 31, g = lane >> 2, t = lane & 3;
  const HeadOperand operand(Columns, t);
#pragma unroll 1
  for (int first = thread / 32 * 16; first < kPixels; first += T::kThreads / 2) {
    const __half* from[2];
    const float* colours[2];
    __half* to[2];
    bool inside[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      // The last sixteen may be fewer: the others go where rows of the tile have room.
      const int extra = first + g + 8 * h - kPixels, i = extra < 0 ? extra + kPixels : 0;
      const int row = i / T::kWidth, column = i % T::kWidth;
      static_assert(kRows * (T::kRow - T::kWidth) >= 15 - (kPixels - 1) % 16);
      const int py = o.y - 1 + row, px = o.x - 1 + column;
      inside[h] = py >= 0 && py < p.grid.height && px >= 0 && px < p.grid.width;
      const auto pixel =
          (static_cast<std::size_t>(o.image) * p.grid.height + (inside[h] ? py : o.y)) *
              p.grid.width +
          (inside[h] ? px : o.x);
      from[h] = at_pixel<C>(x, pixel);
      colours[h] = patch[row][column];
      const int place =
          extra < 0 ? row * T::kRow + column : extra % kRows * T::kRow + T::kWidth + extra / kRows;
      to[h] = reinterpret_cast<__half*>(tile + place * T::kPitch);
    }
    UnitA4 a[kHeadUnits];
    operand.load(a, colours[0], colours[1]);
#pragma unroll
    for (int slab = 0; slab < head_slabs(layout_of(C)); ++slab) {
      RowPair<__half, kUnits, kHeadTiles> own;
      own.fetch(slab * kHeadTiles, from[0], from[1], t);
      float acc[kHeadTiles][4];
      const uint4* words = reinterpret_cast<const uint4*>(slabs + slab * kHeadSlabBytes) + lane;
      multiply_head(
          acc, a, [&](int i) { return words[i * 32]; }, p.column_bias + slab * kHeadTiles * 8,
          p.unscale, t);
      own.add(acc);
#pragma unroll
      for (int n = 0; n < kHeadTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) acc[n][i] = inside[i / 2] ? acc[n][i] : 0;
      }
      store_rows<kUnits>(acc, slab * kHeadTiles, to[0], to[1], t);
    }
  }
}

// On a stream of FP16, with the skip: thread blocks walk over tiles, warps have M blocks each.
template <typename K, int C, int N, int WY, int M>
__global__ __launch_bounds__(128 * WY, C == 60 ? 2 : 1) void tail_half_kernel(
    const __grid_constant__ TailArgs p) {
  using T = PictureTile<CodecFp16, C, 4, WY * M, 128 * WY>;
  using UnitA = typename K::UnitA;
  constexpr int kU = layout_of(C).units, kHead = tail_head_bytes(layout_of(C));
  constexpr int kSlab = tail_slab_bytes(layout_of(C), N, K::kWords / 2);
  constexpr int kPatchBytes = tail_patch_bytes(WY * M);

  ELAN_DYNAMIC_SHARED(shared);
  __shared__ int taps[kMaxChunks];
  char* const slabs = shared + T::kBytes;
  auto& patch = *reinterpret_cast<float(*)[T::kHeight + 2][T::kWidth + 2][3]>(slabs + kHead);
  static_assert(sizeof patch == kPatchBytes);
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int wx = warp % 4, wy = warp / 4;
  const std::uint32_t tile_address = shared_address(shared);
  const __half* x = stream_at<__half, C>(p.x, p.grid);
  if (thread < kMaxChunks) taps[thread] = 5;  // no displacement
  if (kHead > 0 && p.skip) copy_async<kHead, T::kThreads>(slabs, p.head.slabs, thread);
  SlabRing<kSlab, kSlab, T::kThreads> ring(slabs + kHead + kPatchBytes, p.weights, 9, 9,
                                           p.shape.stages, thread);
  cp_async_wait<0>();
  __syncthreads();
  wait_for_previous();

  std::uint32_t base[M];
#pragma unroll
  for (int m = 0; m < M; ++m) {
    base[m] = K::lane_base(lane, [&](int r) {
      return static_cast<std::uint32_t>(
          (((wy * M + m) * 4 + r / 4 + 1) * T::kRow + wx * 4 + r % 4 + 1) * T::kPitch);
    });
  }
  const int tiles = p.grid.width / 16 * (p.grid.height / (4 * WY * M)) * p.grid.batch;
#pragma unroll 1
  for (int tile = static_cast<int>(blockIdx.x); tile < tiles; tile += static_cast<int>(gridDim.x)) {
    const TileOrigin o = tile_origin<4, WY * M>(tile, p.grid);
    if (p.skip) {
      load_patch(patch, p.head, o.image, o.y - 2, o.x - 2, thread, T::kThreads);
      __syncthreads();
      add_head<T, C>(shared, x, p.head, kHead > 0 ? slabs : p.head.slabs, patch, o, thread);
    } else {
      TileWalk<T> walk(thread);
      load_tile<CodecFp16, T>(0, walk, shared, x, o, p.grid, taps);
    }
    __syncthreads();

    float acc[M][N][4] = {};
#pragma unroll 1
    for (int tap = 0; tap < 9; ++tap) {
      const char* slab = ring.next();
      const std::uint32_t at = ((tap / 3 - 1) * T::kRow + tap % 3 - 1) * T::kPitch;
      multiply<K, N, kU>(
          acc, slab, lane,
          [&](int m, int u, UnitA& a0, UnitA& a1) {
            K::load_pair(a0, a1, tile_address, base[m] + at, 0, u);
          },
          [&](int m, int u, UnitA& a) { K::load_one(a, tile_address, base[m] + at, 0, u); });
    }
    __syncthreads();
    write_picture<N, M, WY>(acc, shared, p, p.unscale, o, thread);
    __syncthreads();
  }
  cp_async_wait<0>();
}

// Calls f.template operator()<K, C, N, WY>(), the shape that a tile on a stream of FP32 has.
template <typename K, int C, int WY, typename F>
void with_tiles(int scale, F f) {
  if (scale == 2) {
    f.template operator()<K, C, 2, WY>();
  } else if (scale == 3) {
    f.template operator()<K, C, 4, WY>();
  } else {
    f.template operator()<K, C, 6, WY>();
  }
}

template <typename K, typename F>
void with_shape(int channels, int scale, int tile_y, F f) {
  if (channels == 180) {
    tile_y == 2 ? with_tiles<K, 180, 2>(scale, f) : with_tiles<K, 180, 1>(scale, f);
  } else {
    tile_y == 2 ? with_tiles<K, 60, 2>(scale, f) : with_tiles<K, 60, 1>(scale, f);
  }
}

// f(kernel, threads)
template <typename F>
void with_kernel(int channels, Operand operand, int scale, int tile_y, F f) {
  const auto call = [&]<typename K, int C, int N, int WY>() {
    f(&tail_kernel<K, C, N, WY>, 128 * WY);
  };
  if (operand == Operand::fp16) {
    with_shape<CodecFp16>(channels, scale, tile_y, call);
  } else {
    with_shape<CodecFp32>(channels, scale, tile_y, call);
  }
}

// The same on a stream of FP16.
template <typename F>
void with_half_kernel(int channels, Operand operand, int scale, int tile_y, F f) {
  const auto call = [&]<typename K, int C, int N, int WY>() {
    if constexpr (C == 60) {
      if (tile_y == 4) return f(&tail_half_kernel<K, C, N, 2, 2>, 256);
    }
    f(&tail_half_kernel<K, C, N, WY, 1>, 128 * WY);
  };
  if (operand == Operand::fp16) {
    with_shape<CodecFp16>(channels, scale, tile_y, call);
  } else {
    with_shape<CodecFineWeights>(channels, scale, tile_y, call);
  }
}

}  // namespace

void launch_tail(int channels, Operand operand, const TailArgs& a, cudaStream_t stream) {
  const int tile_y = a.shape.tile_y;
  const auto launch = [&](int blocks) {
    return [&a, stream, blocks](auto* kernel, int threads) {
      launch_kernel(kernel, dim3(static_cast<unsigned>(blocks)), threads,
                    static_cast<std::size_t>(a.shape.shared_bytes), stream, a);
    };
  };
  if (a.format == StreamFormat::fp16) {
    with_half_kernel(channels, operand, a.scale, tile_y, launch(a.shape.blocks));
  } else {
    const int tiles = a.grid.width / 16 * (a.grid.height / (4 * tile_y)) * a.grid.batch;
    with_kernel(channels, operand, a.scale, tile_y, launch(tiles));
  }
}

void prepare_tail() {
  const auto allow = [](auto* kernel, int) { allow_shared(reinterpret_cast<const void*>(kernel)); };
  for (const Operand operand : {Operand::fp16, Operand::fp32}) {
    for (const int channels : {60, 180}) {
      for (const int scale : {2, 3, 4}) {
        for (const int tile_y : {1, 2, 4}) {
          if (tile_y < 4) with_kernel(channels, operand, scale, tile_y, allow);
          if (tile_y < 4 || channels == 60) {
            with_half_kernel(channels, operand, scale, tile_y, allow);
          }
        }
      }
    }
  }
}

}  // namespace elan::cuda
