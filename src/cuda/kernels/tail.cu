// The picture from the stream: 3x3 convolution to 3 * scale^2 channels, pixel shuffle, mean, crop,
// rounding and conversion to the caller's samples; notes any result that is not a finite number.

#include "cuda/kernels/samples.cuh"
#include "cuda/kernels/split.cuh"

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
  allow_next();
  if (thread < kMaxChunks) taps[thread] = 5;  // no displacement
  SlabRing<kSlab, kSlab, T::kThreads> ring(shared + T::kBytes, p.weights, 9, 9, kTailStages,
                                           thread);
  __syncthreads();
  wait_for_previous();
  const TileOrigin o = tile_origin<4, WY>(static_cast<int>(blockIdx.x), p.grid);
  TileWalk<T> walk(thread);
  if (p.format == StreamFormat::fp16) {
    load_tile<Shrunk<K>, T>(0, walk, shared, stream_at<__half, C>(p.x, p.grid), o, p.grid, taps);
  } else if (p.format == StreamFormat::split) {
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

  // Through shared memory, so that rows of the output are written from left to right.
  constexpr int kStride = 8 * N + 1;
  const float unscale = p.unscale / kShrink;
  float* values = reinterpret_cast<float*>(shared);
  bool finite = true;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const float2 b = __ldg(reinterpret_cast<const float2*>(p.bias + n * 8) + (lane & 3));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float v = acc[n][i] * unscale + (i % 2 == 0 ? b.x : b.y);
      finite = finite && isfinite(v);
      const int token = (lane >> 2) + i / 2 * 8;
      const int pixel = (wy * 4 + token / 4) * 16 + wx * 4 + token % 4;
      values[pixel * kStride + n * 8 + 2 * (lane & 3) + i % 2] = v;
    }
  }
  if (!finite) *p.not_finite = 1;
  __syncthreads();

  const int s = p.scale, row_samples = 16 * s * 3, rows = 4 * WY * s;
  for (int i = thread; i < rows * row_samples; i += T::kThreads) {
    const int row = i / row_samples, k = i % row_samples;
    const int column = k / 3, colour = k % 3;
    const int y = o.y * s + row, x = o.x * s + column;
    if (y >= p.output_height || x >= p.output_width) continue;
    const int pixel = row / s * 16 + column / s;
    const float v =
        values[pixel * kStride + colour * s * s + row % s * s + column % s] + p.mean[colour];
    const auto at =
        ((static_cast<std::size_t>(o.image) * p.output_height + y) * p.output_width + x) * 3 +
        colour;
    store_sample(p.output, p.sample, at, v);
  }
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

template <typename F>
void with_kernel(int channels, Operand operand, int scale, int tile_y, F f) {
  if (operand == Operand::fp16) {
    with_shape<CodecFp16>(channels, scale, tile_y, f);
  } else {
    with_shape<CodecFp32>(channels, scale, tile_y, f);
  }
}

}  // namespace

void launch_tail(int channels, Operand operand, const TailArgs& a, cudaStream_t stream) {
  with_kernel(channels, operand, a.scale, a.shape.tile_y, [&]<typename K, int C, int N, int WY>() {
    const int tiles = a.grid.width / 16 * (a.grid.height / (4 * WY)) * a.grid.batch;
    launch_kernel(&tail_kernel<K, C, N, WY>, dim3(static_cast<unsigned>(tiles)), 128 * WY,
                  static_cast<std::size_t>(a.shape.shared_bytes), stream, a);
  });
}

void prepare_tail(int most_shared) {
  for (const Operand operand : {Operand::fp16, Operand::fp32}) {
    for (const int channels : {60, 180}) {
      for (const int scale : {2, 3, 4}) {
        for (const int tile_y : {1, 2}) {
          with_kernel(channels, operand, scale, tile_y, [&]<typename K, int C, int N, int WY>() {
            // 256 bytes are static.
            cudaFuncSetAttribute(reinterpret_cast<const void*>(&tail_kernel<K, C, N, WY>),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, most_shared - 256);
          });
        }
      }
    }
  }
}

}  // namespace elan::cuda
