// The GMSA of gmsa.cuh on Hopper's own instructions, for 180 channels in 16 bits: project_out, too,
// is a product of a whole warpgroup with weights brought by bulk copies.

#include "cuda/kernels/gmsa_hopper.cuh"

namespace elan::cuda {
namespace {

using namespace hopper;

constexpr int kThreads = 256;

template <bool F16, typename S>
__global__ __launch_bounds__(kThreads,
                             2) void gmsa_hopper_kernel(const __grid_constant__ GmsaArgs p) {
#if ELAN_HOPPER
  using K = Codec16<F16>;
  ELAN_DYNAMIC_SHARED(shared);
  __shared__ __align__(8) std::uint64_t barriers[1 + kHopperOutSlabs];
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  const QueryBlock place(p.grid, p.shifted, warp);
  const std::uint32_t window = shared_address(shared);
  const std::uint32_t window_full = shared_address(barriers);
  // The first slabs of weights have places of their own, the last comes where the window was.
  const auto slab_at = [&](int s) {
    return s < kHopperOutStages ? window + 2 * kWindow + s * kHopperOutBytes : window;
  };
  const auto bring_slab = [&](int s) {
    const std::uint32_t full = window_full + 8 * (1 + s);
    barrier_expect(full, kHopperOutBytes);
    copy_bulk(slab_at(s), p.weights + s * kHopperOutBytes, kHopperOutBytes, full);
  };

  if (thread == 0) {
    for (int i = 0; i < 1 + kHopperOutSlabs; ++i) barrier_init(window_full + 8 * i, 1);
    barrier_init_fence();
  }
  __syncthreads();
  wait_for_previous();
  if (warp == 0) {
    bring_window(p, place, window, window_full, lane);
    if (lane == 0) {
      for (int s = 0; s < kHopperOutStages; ++s) bring_slab(s);
    }
    __syncwarp();
  }

  UnitA2 o[kWindowGroups * kGU];
  const auto done = [&](Attention<kGU>& a, auto group) {
    encode<K>(a, o + decltype(group)::value * kGU, p.input);
  };
  if (p.shifted) {
    attend_small<K, kGU, kBlock, kGroup>(p, place, lane, 1, done);
  } else {
    // A window of 4 is the block itself; all of it, and the queries of windows of 8, come at once.
    const std::size_t own = place.at(place.y, place.x) * kBlock;
    UnitA2 q4[kGU], v4[kGU], q8[kGU];
    load_units<K, kGU, true>(q4, p.q + own, lane);
    load_units<K, kGU, false>(v4, p.v + own, lane);
    load_units<K, kGU, true>(q8, p.q + own + kGroup, lane);
    {
      Attention<kGU> a;
      attend_itself<K>(a, q4, v4, lane, 0);
      finish<K>(a, lane, 1);
      done(a, std::integral_constant<int, 0>{});
    }
    attend_windows8<K, kGU, kBlock, kGroup>(p, place, q8, {}, lane, 1, done);
  }
  barrier_wait(window_full, 0);
  {
    Attention<kGU> a;
    attend_window<F16>(a, window + place.in_window / 4 * 4 * kGroup, window, window + kWindow,
                       shared + place.in_window * kGroup, lane, 1);
    done(a, std::integral_constant<int, 2>{});
  }
  const int y0 = place.y * 4 + (g >> 2), x0 = place.x * 4 + (g & 3);
  const std::size_t pixel0 = place.first * 16 + static_cast<std::size_t>(y0) * p.grid.width + x0;
  const std::size_t pixel1 = pixel0 + 2 * static_cast<std::size_t>(p.grid.width);
  const auto y = stream_at<S, 180>(p.y, p.grid);
  const auto x = stream_at<S, 180>(p.x, p.grid);
  const auto from0 = at_pixel<180>(y, pixel0), from1 = at_pixel<180>(y, pixel1);
  const auto to0 = at_pixel<180>(x, pixel0), to1 = at_pixel<180>(x, pixel1);
  // The residual of a slab is fetched while the one before is stored, where registers are enough.
  constexpr bool kAhead = std::is_same_v<S, __half>;
  RowPair<S, kU, kHopperOutTiles> residual;
  if constexpr (kAhead) residual.fetch(0, from0, from1, t);
  __syncthreads();  // nobody reads the window any more
  if (thread == 0) bring_slab(kHopperOutSlabs - 1);

#pragma unroll 1
  for (int slab = 0; slab < kHopperOutSlabs; ++slab) {
    const int first = slab * kHopperOutTiles;
    float acc[kHopperOutTiles][4];
    barrier_wait(window_full + 8 * (1 + slab), 0);
    const CoreSlab<kHopperOutTiles> weights(slab_at(slab));
    wgmma_fence();
#pragma unroll
    for (int u = 0; u < kWindowGroups * kGU; u += 2) {
      wgmma<F16>(acc, o[u], o[u + 1], weights.unit(u), u > 0);
    }
    wgmma_commit();
    if constexpr (!kAhead) residual.fetch(first, from0, from1, t);
    wgmma_wait<0>(acc);
    residual.add(acc);
    if (kAhead && slab + 1 < kHopperOutSlabs) {
      residual.fetch(first + kHopperOutTiles, from0, from1, t);
    }
    store_rows<kU>(acc, first, to0, to1, t);
  }
#else
  __trap();
#endif
}

using GmsaKernel = void (*)(GmsaArgs);
// fp16 by the format of its streams, then bf16.
constexpr GmsaKernel kKernels[] = {
    &gmsa_hopper_kernel<true, float>, &gmsa_hopper_kernel<true, __half>,
    &gmsa_hopper_kernel<true, Split>, &gmsa_hopper_kernel<false, float>};

}  // namespace

void prepare_gmsa_hopper() {
  for (const GmsaKernel kernel : kKernels) {
    cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                         cudaFuncAttributeMaxDynamicSharedMemorySize, hopper_gmsa_shared_bytes());
  }
}

void launch_gmsa_hopper(Operand operand, const GmsaArgs& a, cudaStream_t stream) {
  const GmsaKernel kernel = kKernels[operand == Operand::bf16 ? 3 : static_cast<int>(a.format)];
  const int tiles = a.grid.width / 16 * (a.grid.height / 8) * a.grid.batch;
  launch_kernel(kernel, dim3(static_cast<unsigned>(tiles)), kThreads,
                static_cast<std::size_t>(a.shape.shared_bytes), stream, a);
}

}  // namespace elan::cuda
