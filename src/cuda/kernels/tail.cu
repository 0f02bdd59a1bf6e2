// The picture from the stream: 3x3 convolution to 3 * scale^2 channels, pixel shuffle, mean, crop,
// rounding and conversion to the caller's samples; notes any result that is not a finite number.

#include "cuda/kernels/skip.cuh"

namespace elan::cuda {
namespace {

// On streams of FP32 and split ones. Operands are FP16 whatever the body computes in: made smaller,
// the stream may reach four million, which is for bodies in tf32 and bf16 as good as FP32's range,
// and two terms are still exact to 2e-6.
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

// Bytes of a tile's results, `stride` floats a pixel.
constexpr int sample_bytes(int tile_y, int stride) {
  return 64 * tile_y * stride * static_cast<int>(sizeof(float));
}

// Results as samples: through shared memory, so that rows of the output are written from left to
// right. each(f) calls f(pixel, result, sum) for what this thread has of the tile's pixels, 16 in a
// row; sums are times unscale. Stride: floats of a pixel, with which few threads meet in a bank.
template <int N, int TileY, int Threads, int Stride, typename Each>
__device__ __forceinline__ void write_picture(Each each, char* shared, const TailArgs& p,
                                              float unscale, TileOrigin o, int thread) {
  constexpr int kScale = N == 2 ? 2 : N == 4 ? 3 : 4;
  const int lane = thread & 31;
  float* values = reinterpret_cast<float*>(shared);
  bool finite = true;
  each([&](int pixel, int result, float sum) {
    const float v = sum * unscale + __ldg(p.bias + result);
    finite = finite && isfinite(v);
    values[pixel * Stride + result] = v;
  });
  if (!finite) *p.not_finite = 1;
  __syncthreads();

  // Lanes go along a row, which is another one for each warp.
  constexpr int kRowSamples = 16 * kScale * 3, kRows = 4 * TileY * kScale;
#pragma unroll
  for (int first = 0; first < kRowSamples; first += 32) {
    const int k = first + lane, column = k / 3, colour = k % 3, x = o.x * kScale + column;
    if (k >= kRowSamples || x >= p.output_width) continue;
    const float* from =
        values + column / kScale * Stride + colour * kScale * kScale + column % kScale;
    const float mean = p.mean[colour];
    for (int row = thread / 32; row < kRows; row += Threads / 32) {
      const int y = o.y * kScale + row;
      if (y >= p.output_height) break;
      const auto at =
          ((static_cast<std::size_t>(o.image) * p.output_height + y) * p.output_width + x) * 3 +
          colour;
      store_sample(p.output, p.sample, at,
                   from[row / kScale * 16 * Stride + row % kScale * kScale] + mean);
    }
  }
}

template <typename K, int C, int N, int WY>
__global__ __launch_bounds__(128 * WY) void tail_kernel(const __grid_constant__ TailArgs p) {
  using T = PictureTile<K, C, 4, WY, 128 * WY>;
  constexpr int kStride = 8 * N + 1;
  static_assert(sample_bytes(WY, kStride) <= T::kBytes);
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

  write_picture<N, WY, T::kThreads, kStride>(
      [&](auto f) {
        const int g = lane >> 2, t = lane & 3;
#pragma unroll
        for (int n = 0; n < N; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int y = wy * 4 + (g >> 2) + i / 2 * 2, x = wx * 4 + (g & 3);
            f(y * 16 + x, n * 8 + 2 * t + i % 2, acc[n][i]);
          }
        }
      },
      shared, p, p.unscale / kShrink, o, thread);
}

// What TileWalk needs, in pieces of 16 bytes.
template <typename T>
struct TilePieces {
  static constexpr int kChunks = T::kLayout.units, kWidth = T::kWidth, kHeight = T::kHeight;
  static constexpr int kThreads = T::kThreads;
};
// A tile of the stream as it is, zeros outside of the picture.
template <typename T>
__device__ __forceinline__ void copy_pixels(std::uint32_t tile, const __half* x, TileOrigin o,
                                            const Grid& g, int thread) {
  const uint4* image = reinterpret_cast<const uint4*>(x) +
                       static_cast<std::size_t>(o.image) * g.height * g.width * T::kLayout.units;
#pragma unroll 1
  for (TileWalk<TilePieces<T>> walk(thread); walk.row < T::kHeight; walk.next()) {
    const int py = o.y - 1 + walk.row, px = o.x - 1 + walk.column;
    const bool there = static_cast<unsigned>(py) < static_cast<unsigned>(g.height) &&
                       static_cast<unsigned>(px) < static_cast<unsigned>(g.width);
    const std::size_t from =
        there ? static_cast<std::size_t>(py * g.width + px) * T::kLayout.units + walk.chunk : 0;
    cp_async16_or_zeros(tile + (walk.row * T::kRow + walk.column) * T::kPitch + walk.chunk * 16,
                        image + from, there);
  }
}

// On a stream of FP16, with the skip: thread blocks walk over tiles, warps have M blocks each.
// Terms: of the weights.
template <int Terms, int C, int N, int WY, int M>
__global__ __launch_bounds__(128 * WY, C == 60 ? 2 : 1) void tail_half_kernel(
    const __grid_constant__ TailArgs p) {
  using T = PictureTile<CodecFp16, C, 4, WY * M, 128 * WY>;
  constexpr int kStride = 8 * N + 4;
  static_assert(sample_bytes(WY * M, kStride) <= T::kBytes + skip_patch_bytes(WY * M));
  constexpr int kU = layout_of(C).units, P = 2 * M;  // 8 pixels at a time
  constexpr int kSlab = tail_slab_bytes(layout_of(C), N, Terms);

  ELAN_DYNAMIC_SHARED(shared);
  uint4* const patch = reinterpret_cast<uint4*>(shared + T::kBytes);
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int wx = warp % 4, row = warp / 4 * M * 4, column = wx * 4;
  const int g = lane >> 2, t = lane & 3;
  const std::uint32_t tile_address = shared_address(shared);
  const __half* x = stream_at<__half, C>(p.x, p.grid);
  SlabRing<kSlab, kSlab, T::kThreads> ring(shared + T::kBytes + skip_patch_bytes(WY * M), p.weights,
                                           9, 9, p.shape.stages, thread);

  // ldmatrix: two units of 8 pixels, then those of the 8 below them.
  const int unit = lane >> 3 & 1;
  const std::uint32_t pixel =
      tile_address +
      ((row + 1 + lane / 16 * 2 + (lane >> 2 & 1)) * T::kRow + column + 1 + (lane & 3)) * T::kPitch;
  const int tiles = p.grid.width / 16 * (p.grid.height / (4 * WY * M)) * p.grid.batch;
  bool first = true;
#pragma unroll 1
  for (int tile = static_cast<int>(blockIdx.x); tile < tiles; tile += static_cast<int>(gridDim.x)) {
    const TileOrigin o = tile_origin<4, WY * M>(tile, p.grid);
    // The skip needs the picture alone: the first tile has it while the body ends.
    if (!first) copy_pixels<T>(tile_address, x, o, p.grid, thread);
    PixelSums<N, P> sums = {};
    if (p.skip) {
      load_skip_patch<WY * M>(patch, p.head, o, thread, T::kThreads);
      __syncthreads();
      start_from_skip<WY * M, N>(sums, p, patch, row, column, o.y + row, o.x + column, lane);
    }
    if (first) {
      wait_for_previous();
      copy_pixels<T>(tile_address, x, o, p.grid, thread);
    }
    first = false;
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();

#pragma unroll 1
    for (int tap = 0; tap < 9; ++tap) {
      const char* slab = ring.next();
      const std::uint32_t at = pixel + ((tap / 3 - 1) * T::kRow + tap % 3 - 1) * T::kPitch;
      // The words of 16 pixels' units u and, if there is one, u + 1.
      const auto load = [&](int block, int u, std::uint32_t(&r)[4]) {
        ldmatrix4(r, at + block * 4 * T::kRow * T::kPitch + (u + (u + 1 < kU ? unit : 0)) * 16);
      };
      std::uint32_t r[M][4];
      multiply_pixels<N, kU, Terms, 1>(
          sums, slab, lane,
          [&](int i, int u, std::uint32_t(&b)[2]) {
            if (i % 2 == 0) load(i / 2, u, r[i / 2]);
            b[0] = r[i / 2][i % 2 * 2];
            b[1] = r[i / 2][i % 2 * 2 + 1];
          },
          [&](int i, std::uint32_t& b) {
            if (i % 2 == 0) load(i / 2, kU - 1, r[i / 2]);
            b = r[i / 2][i % 2 * 2];
          });
    }
    __syncthreads();
    write_picture<N, WY * M, T::kThreads, kStride>(
        [&](auto f) {
#pragma unroll
          for (int i = 0; i < P; ++i) {
#pragma unroll
            for (int n = 0; n < N / 2; ++n) {
#pragma unroll
              for (int j = 0; j < 4; ++j) {
                const int token = 2 * t + j % 2;  // of 8
                const int to = (row + 2 * i + token / 4) * 16 + column + token % 4;
                f(to, n * 16 + g + j / 2 * 8, sums[i][n][j]);
              }
            }
          }
        },
        shared, p, p.unscale, o, thread);
    __syncthreads();
  }
  cp_async_wait<0>();
}

// Calls f.template operator()<K, C, N, WY>().
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
    constexpr int kTerms = std::is_same_v<K, CodecFp16> ? 1 : 2;
    if constexpr (C == 60) {
      if (tile_y == 4) return f(&tail_half_kernel<kTerms, C, N, 2, 2>, 256);
    }
    f(&tail_half_kernel<kTerms, C, N, WY, 1>, 128 * WY);
  };
  if (operand == Operand::fp16) {
    with_shape<CodecFp16>(channels, scale, tile_y, call);
  } else {
    with_shape<CodecFp32>(channels, scale, tile_y, call);
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
