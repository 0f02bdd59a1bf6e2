// The GMSA of gmsa_hopper.cu with project_out in 8 bits; attention is that of fp16, or in 8 bits,
// too. What it leaves is also written as the integers that the next LFE reads.

#include "cuda/kernels/attention_int8.cuh"
#include "cuda/kernels/gmsa_hopper.cuh"

namespace elan::cuda {
namespace {

using namespace hopper;

constexpr int kThreads = 256, kTiles = kInt8Tiles;
static_assert(kGU == kTiles);

#if ELAN_HOPPER

// Attention in 8 bits: what project_out takes of a warp's block.
struct Int8Attention {
  const GmsaArgs& p;
  const QueryBlock& place;
  std::uint32_t window, window_full;
  int lane;

  __device__ __forceinline__ void bring_window() const {
    if (lane == 0) barrier_expect(window_full, 32 * kInt8GroupBytes);
    __syncwarp();
    const int b = lane % 16, is_v = lane / 16;
    const std::size_t from =
        place.at(place.window_y + b / 4, place.window_x + b % 4) * kInt8Block + 2 * kInt8GroupBytes;
    copy_bulk(window + lane * kInt8GroupBytes, (is_v != 0 ? p.v : p.q) + from, kInt8GroupBytes,
              window_full);
  }

  __device__ __forceinline__ void load_queries(Int8Half (&q)[2], const char* block) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) load_half(q[h], block, h, lane);
  }

  __device__ __forceinline__ void attend_small(ByteUnits* o) const {
    const std::size_t own = place.at(place.y, place.x) * kInt8Block;
    const int s = p.shifted ? 1 : 0;
    const int wy = ((place.y - s) & ~1) + s, wx = ((place.x - s) & ~1) + s;
    const auto block = [&](int b) {
      return place.at(wy + b / 2, wx + b % 2) * kInt8Block + kInt8GroupBytes;
    };
    Int8Half q[2], q8[2], keys[4][2];
    load_queries(q, p.q + own);
    const auto fetch = [&] {
      load_queries(q8, p.q + own + kInt8GroupBytes);
#pragma unroll
      for (int b = 0; b < 4; ++b) load_queries(keys[b], p.q + block(b));
    };
    int sums[kInt8Tiles][4];
    if (!p.shifted) {
      Int8Values v[1];
      load_values(v[0], p.v + own, lane);
      fetch();  // long before its use
      attend_int8<1>(sums, q, {{q[0], q[1]}}, v, p.power[0]);
    } else {
      attend_quarters_int8(
          sums, q, p.q, p.v,
          [&](int dy, int dx) { return place.at(place.y + dy, place.x + dx) * kInt8Block; },
          p.power[0], lane);
      fetch();
    }
    Int8Values v[4];
#pragma unroll
    for (int b = 0; b < 4; ++b) load_values(v[b], p.v + block(b), lane);
    finish_int8(sums, o, p.value[0], p.input.factor, lane);
    attend_int8<4>(sums, q8, keys, v, p.power[1]);
    finish_int8(sums, o + kInt8GroupUnits, p.value[1], p.input.factor, lane);
  }

  __device__ __forceinline__ void attend_large(ByteUnits* o) const {
    int sums[kInt8Tiles][4];
    attend_window_int8(sums, window + place.in_window / 4 * 4 * kInt8GroupBytes, window,
                       window + 16 * kInt8GroupBytes, p.power[2]);
    finish_int8(sums, o + 2 * kInt8GroupUnits, p.value[2], p.input.factor, lane);
  }
};

// The same with operands of fp16.
template <typename E>
struct Fp16Attention {
  const GmsaArgs& p;
  const QueryBlock& place;
  std::uint32_t window, window_full;
  int lane;

  __device__ __forceinline__ void bring_window() const {
    hopper::bring_window(p, place, window, window_full, lane);
  }
  static __device__ __forceinline__ void done(const Attention<kGU>& a, ByteUnits* o) {
#pragma unroll
    for (int i = 0; i < kGU / 2; ++i) {
      o[i] = encode<E>(a.out[2 * i], a.out[2 * i + 1], 1);
    }
  }
  __device__ __forceinline__ void attend_small(ByteUnits* o) const {
    cuda::attend_small<CodecFp16, kGU, kBlock, kGroup>(
        p, place, lane, p.input.factor, [&](Attention<kGU>& a, auto group) {
          done(a, o + decltype(group)::value * kInt8GroupUnits);
        });
  }
  __device__ __forceinline__ void attend_large(ByteUnits* o, const char* units) const {
    Attention<kGU> a;
    attend_window<true, 4>(a, window + place.in_window / 4 * 4 * kGroup, window, window + kWindow,
                           units + place.in_window * kGroup, lane, p.input.factor, [] {});
    done(a, o + 2 * kInt8GroupUnits);
  }
};

#endif

template <typename E, bool Bytes>
__global__ __launch_bounds__(kThreads,
                             2) void gmsa_int8_kernel(const __grid_constant__ GmsaArgs p) {
#if ELAN_HOPPER
  constexpr int kWeightBytes = kInt8OutSlabs * kInt8SlabBytes;
  constexpr int kColumnBytes = kInt8OutSlabs * kTiles * kInt8ColumnBytes;
  constexpr int kWindowBytes = Bytes ? 16 * kInt8GroupBytes : kWindow;
  ELAN_DYNAMIC_SHARED(shared);
  __shared__ __align__(8) std::uint64_t barriers[2];
  __shared__ int places[kMaxChunks];  // of a pixel's chunks in a row of a block on its way out
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  const QueryBlock place(p.grid, p.shifted, warp);
  const std::uint32_t window = shared_address(shared), weights = window + 2 * kWindowBytes;
  const std::uint32_t window_full = shared_address(barriers), weights_full = window_full + 8;

  if (thread == 0) {
    barrier_init(window_full, 1);
    barrier_init(weights_full, 1);
    barrier_init_fence();
    barrier_expect(weights_full, kWeightBytes + kColumnBytes);
    copy_bulk(weights, p.weights, kWeightBytes, weights_full);
    copy_bulk(weights + kWeightBytes, p.columns, kColumnBytes, weights_full);
  }
  if (thread < kMaxChunks) {
    places[thread] = int8_chunk_plane(thread) * (4 * kInt8PlaneBytes) + int8_chunk_byte(thread);
  }
  __syncthreads();
  wait_for_previous();
  using Attend = std::conditional_t<Bytes, Int8Attention, Fp16Attention<E>>;
  const Attend attention{p, place, window, window_full, lane};
  if (warp == 0) attention.bring_window();

  ByteUnits o[kInt8Units];
  attention.attend_small(o);

  const int y0 = place.y * 4 + (g >> 2), x0 = place.x * 4 + (g & 3);
  const std::size_t row0 =
      (place.first * 16 + static_cast<std::size_t>(y0) * p.grid.width + x0) * (8 * kU);
  const std::size_t row1 = row0 + 2 * static_cast<std::size_t>(p.grid.width) * (8 * kU);
  const __half* y = static_cast<const __half*>(p.y);
  __half* x = static_cast<__half*>(p.x);
  // A slab's residual is fetched long before its use.
  RowPair<__half, kU, kTiles> residual;
  residual.fetch(0, y + row0, y + row1, t);
  barrier_wait(window_full, 0);
  if constexpr (Bytes) {
    attention.attend_large(o);
  } else {
    attention.attend_large(o, shared);
  }
  __syncthreads();  // nobody reads the window any more: it takes the integers

  char* const rows = shared + warp * (4 * kInt8OutRow);
  char* const pixel = rows + (g >> 2) * kInt8OutRow + (g & 3) * kInt8PlaneBytes;
  const float4* columns =
      reinterpret_cast<const float4*>(shared + 2 * kWindowBytes + kWeightBytes) + t;
  barrier_wait(weights_full, 0);
#pragma unroll 1
  for (int slab = 0; slab < kInt8OutSlabs; ++slab) {
    const int first = slab * kTiles;
    typename E::Sum acc[kTiles][4];
    multiply(acc, o, weights + slab * kInt8SlabBytes, false);
    RowPair<__half, kU, kTiles> next;
    if (slab + 1 < kInt8OutSlabs) next.fetch(first + kTiles, y + row0, y + row1, t);
    wgmma_wait<0>(acc);
    float out[kTiles][4];
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      apply(out[n], acc[n], columns[(first + n) * 4]);
    }
    residual.add(out);
    residual = next;
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
    if (p.integers == nullptr) continue;
#pragma unroll
    for (int i = 0; i < kTiles / 2; ++i) {
      const int tile = first + 2 * i;
      const ByteUnits q = encode<E>(out[2 * i], out[2 * i + 1], p.next_factor);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        char* to = pixel + h * 2 * kInt8OutRow;
        if (tile + 1 < kU) {
          *reinterpret_cast<std::uint32_t*>(to + places[2 * tile + t]) = q.r[h];
        } else if (tile < kU) {  // two channels a lane, of which the last four are padding
          const std::uint32_t other = __shfl_down_sync(~0U, q.r[h], 1);
          if (t == 0) {
            *reinterpret_cast<std::uint32_t*>(to + places[2 * tile]) =
                __byte_perm(q.r[h], other, 0x5410);
          }
        }
      }
    }
  }
  if (p.integers == nullptr) return;
  __syncwarp();
  // Each plane's 4 rows of 4 pixels, 128 bytes each.
  const int image = static_cast<int>(place.first) / (place.across * place.down);
  const int width = p.grid.width + 2 * kInt8Ring, height = p.grid.height + 2 * kInt8Ring;
  const int line = image * height + place.y * 4 + kInt8Ring + lane / 8;
  char* to = p.integers +
             (static_cast<std::size_t>(line) * kInt8Planes * width + place.x * 4 + kInt8Ring) *
                 kInt8PlaneBytes +
             lane % 8 * 16;
  const char* from = rows + lane / 8 * kInt8OutRow + lane % 8 * 16;
#pragma unroll
  for (int plane = 0; plane < kInt8Planes; ++plane) {
    *reinterpret_cast<uint4*>(to + plane * width * kInt8PlaneBytes) =
        *reinterpret_cast<const uint4*>(from + plane * (4 * kInt8PlaneBytes));
  }
#else
  __trap();
#endif
}

}  // namespace

void prepare_gmsa_int8() {
  const auto allow = [](auto kernel, bool bytes) {
    cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                         cudaFuncAttributeMaxDynamicSharedMemorySize,
                         int8_gmsa_shared_bytes(bytes));
  };
  allow(&gmsa_int8_kernel<Int8, false>, false);
  allow(&gmsa_int8_kernel<Int8, true>, true);
  allow(&gmsa_int8_kernel<Fp8, false>, false);
}

void launch_gmsa_int8_hopper(Operand operand, const GmsaArgs& a, cudaStream_t stream) {
  const int tiles = a.grid.width / 16 * (a.grid.height / 8) * a.grid.batch;
  launch_kernel(operand == Operand::fp8 ? &gmsa_int8_kernel<Fp8, false>
                : a.int8_attention      ? &gmsa_int8_kernel<Int8, true>
                                        : &gmsa_int8_kernel<Int8, false>,
                dim3(static_cast<unsigned>(tiles)), kThreads,
                static_cast<std::size_t>(int8_gmsa_shared_bytes(a.int8_attention)), stream, a);
}

}  // namespace elan::cuda
