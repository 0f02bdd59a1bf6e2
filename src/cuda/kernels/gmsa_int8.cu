// The GMSA of gmsa_hopper.cu with project_out in 8 bits; attention is that of fp16. What it leaves
// is also written as the integers that the next LFE reads.

#include "cuda/kernels/gmsa_hopper.cuh"
#include "cuda/kernels/int8.cuh"

namespace elan::cuda {
namespace {

using namespace hopper;

constexpr int kThreads = 256, kTiles = kInt8Tiles;
static_assert(kGU == kTiles);

__global__ __launch_bounds__(kThreads,
                             2) void gmsa_int8_kernel(const __grid_constant__ GmsaArgs p) {
#if ELAN_HOPPER
  using K = CodecFp16;
  ELAN_DYNAMIC_SHARED(shared);
  __shared__ __align__(8) std::uint64_t barriers[2];
  __shared__ int ways[kMaxChunks];
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  const QueryBlock place(p.grid, p.shifted, warp);
  const std::uint32_t window = shared_address(shared), weights = window + 2 * kWindow;
  const std::uint32_t window_full = shared_address(barriers), weights_full = window_full + 8;

  allow_next();
  if (thread == 0) {
    barrier_init(window_full, 1);
    barrier_init(weights_full, 1);
    barrier_init_fence();
    barrier_expect(weights_full, kInt8OutSlabs * kInt8SlabBytes);
    copy_bulk(weights, p.weights, kInt8OutSlabs * kInt8SlabBytes, weights_full);
  }
  // From a pixel of the integers to where its own channels are read.
  if (thread < kMaxChunks) {
    ways[thread] =
        thread * 4 - (p.chunk_y[thread] * (p.grid.width + 2) + p.chunk_x[thread]) * kInt8Pitch;
  }
  __syncthreads();
  wait_for_previous();
  if (warp == 0) bring_window(p, place, window, window_full, lane);

  Int8Units o[kInt8Units];
  const auto done = [&](Attention<kGU>& a, auto group) {
#pragma unroll
    for (int i = 0; i < kGU / 2; ++i) {
      o[decltype(group)::value * kGU / 2 + i] = quantize_int8(a.out[2 * i], a.out[2 * i + 1], 1);
    }
  };
  attend_small<K, kGU, kBlock, kGroup>(p, place, lane, p.input.factor, done);
  barrier_wait(window_full, 0);
  {
    Attention<kGU> a;
    attend_window<true>(a, window + place.in_window / 4 * 4 * kGroup, window, window + kWindow,
                        shared + place.in_window * kGroup, lane, p.input.factor);
    done(a, std::integral_constant<int, 2>{});
  }

  const int y0 = place.y * 4 + (g >> 2), x0 = place.x * 4 + (g & 3);
  const std::size_t row0 =
      (place.first * 16 + static_cast<std::size_t>(y0) * p.grid.width + x0) * (8 * kU);
  const std::size_t row1 = row0 + 2 * static_cast<std::size_t>(p.grid.width) * (8 * kU);
  const __half* y = static_cast<const __half*>(p.y);
  __half* x = static_cast<__half*>(p.x);
  const int image = static_cast<int>(place.first) / (place.across * place.down);
  const int width = p.grid.width + 2;
  char* integers = p.integers;
  if (integers != nullptr) {
    integers += (static_cast<std::size_t>(image * (p.grid.height + 2) + y0 + 1) * width + x0 + 1) *
                kInt8Pitch;
  }
  barrier_wait(weights_full, 0);
#pragma unroll 1
  for (int slab = 0; slab < kInt8OutSlabs; ++slab) {
    const int first = slab * kTiles;
    int acc[kTiles][4];
    multiply_int8(acc, o, weights + slab * kInt8SlabBytes, false);
    RowPair<__half, kU, kTiles> residual;
    residual.fetch(first, y + row0, y + row1, t);
    wgmma_wait<0>(acc);
    float out[kTiles][4];
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      apply_int8(out[n], acc[n],
                 __ldg(reinterpret_cast<const float4*>(p.columns) + (first + n) * 4 + t));
    }
    residual.add(out);
    // x is what is stored of it.
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float2 v = widen(pack_half(out[n][2 * h], out[n][2 * h + 1]));
        out[n][2 * h] = v.x;
        out[n][2 * h + 1] = v.y;
      }
    }
    store_rows<kU>(out, first, x + row0, x + row1, t);
    if (integers == nullptr) continue;
#pragma unroll
    for (int i = 0; i < kTiles / 2; ++i) {
      const int tile = first + 2 * i;
      const Int8Units q = quantize_int8(out[2 * i], out[2 * i + 1], p.next_factor);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        char* to = integers + h * 2 * width * kInt8Pitch;
        if (tile + 1 < kU) {
          *reinterpret_cast<std::uint32_t*>(to + ways[2 * tile + t]) = q.r[h];
        } else if (tile < kU) {  // two channels a lane
          const std::uint32_t other = __shfl_down_sync(~0U, q.r[h], 1);
          if (t % 2 == 0) {
            *reinterpret_cast<std::uint32_t*>(to + ways[2 * tile + t / 2]) =
                __byte_perm(q.r[h], other, 0x5410);
          }
        }
      }
    }
  }
#else
  __trap();
#endif
}

}  // namespace

void prepare_gmsa_int8() {
  cudaFuncSetAttribute(reinterpret_cast<const void*>(&gmsa_int8_kernel),
                       cudaFuncAttributeMaxDynamicSharedMemorySize, int8_gmsa_shared_bytes());
}

void launch_gmsa_int8_hopper(const GmsaArgs& a, cudaStream_t stream) {
  const int tiles = a.grid.width / 16 * (a.grid.height / 8) * a.grid.batch;
  launch_kernel(&gmsa_int8_kernel, dim3(static_cast<unsigned>(tiles)), kThreads,
                static_cast<std::size_t>(a.shape.shared_bytes), stream, a);
}

}  // namespace elan::cuda
