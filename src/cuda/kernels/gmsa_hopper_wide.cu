// The GMSA of gmsa.cuh on Hopper's own instructions, for 180 channels with operands of 32 bits:
// windows of 16 and project_out as in gmsa_hopper.cu, one thread block a multiprocessor.

#include "cuda/kernels/gmsa.cuh"
#include "cuda/kernels/wide.cuh"

namespace elan::cuda {
namespace {

constexpr ChannelLayout kL = layout_of(180);
constexpr int kU = kL.units, kGU = kL.group_units, kThreads = 256;
constexpr int kGroup = static_cast<int>(group_bytes(kL, 4));
constexpr std::size_t kBlock = block_bytes(kL, 4);
constexpr int kWindow = 16 * kGroup;  // q or v of a window of 16

#if ELAN_HOPPER

// The 256 keys of a window, 32 at a time, for the warpgroup's 64 queries. q and v: the window in
// shared memory, as the LFE left it; own: the warpgroup's queries there.
template <typename K>
__device__ __forceinline__ void attend_window(UnitA4* o, std::uint32_t own, std::uint32_t q_window,
                                              std::uint32_t v_window, int lane) {
  constexpr int kStep = 2 * kGroup;
  Attention<kGU> a;
  start<K>(a, reinterpret_cast<UnitA4(&)[kGU]>(*o), lane);
#pragma unroll 1
  for (int i = 0; i < 8; ++i) {
    float s[4][4];
    wgmma_fence();
    multiply_shared<K, kGU>(s, own, kWideQueryCores, q_window + i * kStep, kWideQueryCores, false);
    wgmma_commit();
    wgmma_wait<0>(s);
    soften(a, s);
    UnitA4 weights[4];
#pragma unroll
    for (int n = 0; n < 4; ++n) weights[n] = K::encode(s[n]);
    wgmma_fence();
    sum_products<K>(a.out, true, [&](float(&d)[kGU][4], bool add) {
      multiply_units<K, 4>(d, weights, v_window + i * kStep, kWideValueCores, add);
    });
  }
  finish<K>(a, lane, 1);
  encode<K>(a, o, {});
}

#endif

template <typename K>
__global__ __launch_bounds__(kThreads,
                             1) void gmsa_wide_kernel(const __grid_constant__ GmsaArgs p) {
#if ELAN_HOPPER
  ELAN_DYNAMIC_SHARED(shared);
  __shared__ __align__(8) std::uint64_t barriers[1 + kHopperOutSlabs];
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  const QueryBlock place(p.grid, p.shifted, warp);
  const std::uint32_t window = shared_address(shared);
  const std::uint32_t window_full = shared_address(barriers);
  // The first slabs of weights have places of their own, the last comes where the window was.
  const auto slab_at = [&](int s) {
    return s < kWideOutStages ? window + 2 * kWindow + s * kWideOutBytes : window;
  };
  const auto bring_slab = [&](int s) {
    const std::uint32_t full = window_full + 8 * (1 + s);
    barrier_expect(full, kWideOutBytes);
    copy_bulk(slab_at(s), p.weights + s * kWideOutBytes, kWideOutBytes, full);
  };

  if (thread == 0) {
    for (int i = 0; i < 1 + kHopperOutSlabs; ++i) barrier_init(window_full + 8 * i, 1);
    barrier_init_fence();
  }
  __syncthreads();
  wait_for_previous();
  if (warp == 0) {
    if (lane == 0) barrier_expect(window_full, 2 * kWindow);
    __syncwarp();
    const int b = lane % 16, is_v = lane / 16;
    const std::size_t from =
        place.at(place.window_y + b / 4, place.window_x + b % 4) * kBlock + 2 * kGroup;
    copy_bulk(window + is_v * kWindow + b * kGroup, (is_v != 0 ? p.v : p.q) + from, kGroup,
              window_full);
    if (lane == 0) {
      for (int s = 0; s < kWideOutStages; ++s) bring_slab(s);
    }
    __syncwarp();
  }

  UnitA4 o[kWindowGroups * kGU];
  const std::uint32_t nothing = static_cast<std::uint32_t>(p.grid.width) >> 24;
  attend_small<K, kGU, kBlock, kGroup>(
      p, place, lane, 1,
      [&](Attention<kGU>& a, auto group) { encode<K>(a, o + decltype(group)::value * kGU, {}); },
      nothing);
  barrier_wait(window_full, 0);
  attend_window<K>(o + 2 * kGU, window + place.in_window / 4 * 4 * kGroup, window, window + kWindow,
                   lane);
  __syncthreads();  // nobody reads the window any more
  if (thread == 0) bring_slab(kHopperOutSlabs - 1);

  const int y0 = place.y * 4 + (g >> 2), x0 = place.x * 4 + (g & 3);
  const std::size_t row0 =
      (place.first * 16 + static_cast<std::size_t>(y0) * p.grid.width + x0) * (8 * kU);
  const std::size_t row1 = row0 + 2 * static_cast<std::size_t>(p.grid.width) * (8 * kU);
  const auto* y = static_cast<const float*>(p.y);
  auto* x = static_cast<float*>(p.x);
#pragma unroll 1
  for (int slab = 0; slab < kHopperOutSlabs; ++slab) {
    const int first = slab * kHopperOutTiles;
    float acc[kHopperOutTiles][4];
    RowPair<float, kU, kHopperOutTiles> residual;
    residual.fetch(first, y + row0, y + row1, t);
    barrier_wait(window_full + 8 * (1 + slab), 0);
    wgmma_fence();
    multiply_units<K, kWindowGroups * kGU>(acc, o, slab_at(slab), slab_cores(kHopperOutTiles),
                                           false);
    wgmma_commit();
    wgmma_wait<0>(acc);
    add_bias<K, kU>(acc, first, p, t);
    residual.add(acc);
    store_rows<kU>(acc, first, x + row0, x + row1, t);
  }
#else
  __trap();
#endif
}

}  // namespace

void prepare_gmsa_hopper_wide() {
  for (const auto kernel : {&gmsa_wide_kernel<CodecTf32>, &gmsa_wide_kernel<CodecFp32>}) {
    allow_shared(reinterpret_cast<const void*>(kernel));
  }
}

void launch_gmsa_hopper_wide(Operand operand, const GmsaArgs& a, cudaStream_t stream) {
  const int tiles = a.grid.width / 16 * (a.grid.height / 8) * a.grid.batch;
  launch_kernel(
      operand == Operand::tf32 ? &gmsa_wide_kernel<CodecTf32> : &gmsa_wide_kernel<CodecFp32>,
      dim3(static_cast<unsigned>(tiles)), kThreads, static_cast<std::size_t>(a.shape.shared_bytes),
      stream, a);
}

}  // namespace elan::cuda
