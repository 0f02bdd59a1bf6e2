// The GMSA of gmsa_narrow.cuh on Hopper's own instructions: windows of 8 and 16 and project_out are
// products of a whole warpgroup, whose warps have the blocks of one window of 8, M = 0, 1 for each
// of the two.

#include "cuda/kernels/gmsa_hopper_narrow.cuh"
#include "cuda/kernels/gmsa_narrow.cuh"

namespace elan::cuda {
namespace {

using namespace hopper_narrow;

constexpr int kWarps = kNarrowThreads / 32, kM = 2;
// In shared memory: q and v of a window group, and the references that were found for it.
constexpr int kReferences = 2 * kWindowCores, kPlace = kReferences + 16 * kReferenceBytes;

template <bool F16, typename S>
__global__ __launch_bounds__(kNarrowThreads,
                             2) void gmsa_hopper_narrow_kernel(const __grid_constant__ GmsaArgs p) {
#if ELAN_HOPPER
  using K = Codec16<F16>;
  constexpr bool kAhead = false;  // registers for residuals fetched early

  ELAN_DYNAMIC_SHARED(shared);
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  char* const window16 = shared + kNarrowOutBytes;
  char* const window8 = window16 + kPlace;
  char* const window4 = window8 + kPlace;
  const int windows = p.grid.width / 16 * (p.grid.height / 16) * p.grid.batch;
  const int across = p.grid.width / 4;
  const std::uint32_t nothing = static_cast<std::uint32_t>(p.grid.width) >> 24;
  const auto y = stream_at<S, 60>(p.y, p.grid);
  const auto x = stream_at<S, 60>(p.x, p.grid);

  // Those of windows of 4 are operands of mma.sync.
  const auto bring = [&](char* to, int group, const BigWindow& place) {
    const int lane = thread_now() & 31, warp = thread_now() >> 5;
    const auto at = [&](int b) {
      return static_cast<unsigned>((place.y + b / 4) * across + place.x + b % 4) * kBlock;
    };
    const char *q = p.q + group * kGroup, *v = p.v + group * kGroup;
    if (group == 0) {
      bring_window<kWarps>(to, q, v, warp, lane, at);
    } else {
      bring_cores(shared_address(to), q, v, warp, lane, at);
      if (p.find_references && lane < 8) {
        const int b = 2 * warp + lane / 4, piece = lane % 4 * 16;
        cp_async16(to + kReferences + b * kReferenceBytes + piece,
                   p.references + at(b) + references_at(group) + piece);
      }
    }
    cp_async_commit();
  };

  copy_async<kNarrowOutBytes, kNarrowThreads>(shared, p.weights, thread);
  pad_cores<K, kNarrowThreads>(window16, thread);
  pad_cores<K, kNarrowThreads>(window8, thread);
  pad_window<K, kNarrowThreads>(window4, thread);
  wait_for_previous();
  int index = static_cast<int>(blockIdx.x);
  BigWindow next(p.grid, index);
  bring(window16, 2, next);
  bring(window8, 1, next);

  const int warpgroup = warp / 4;
  const int by = warp / 2, bx = warp % 2;  // the first block; the second is two further
  const auto number = [&](int m) { return by * 4 + bx + 2 * m; };
  const CoreSlab<kTiles> weights(shared_address(shared));
  // What was brought last but one is there, and nobody is in the group before any more.
  const auto arrive = [&] {
    cp_async_wait<1>();
    publish_stores();
    __syncthreads();
  };
  while (index < windows) {
    const BigWindow place = next;
    index += static_cast<int>(gridDim.x);
    UnitA2 o[kM][kUnits];
    const auto attend_all = [&](const char* window, const std::uint32_t(&keys)[kM], int steps,
                                int step, auto group) {
      UnitA2 q[kM][kGU];
      Attention<kGU> a[kM];
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        hopper_narrow::load_queries(q[m], window + number(m) * kBlockCores, lane);
        const char* terms = window + kReferences + number(m) * kReferenceBytes;
        begin_softmax<K>(a[m], q[m], p,
                         p.find_references ? reinterpret_cast<const uint2*>(terms)[g] : uint2{},
                         lane);
      }
      hopper_narrow::attend<F16>(a, q, keys, steps, step, lane);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        if (p.leave_references) {
          const int block = (place.y + by) * across + place.x + bx + 2 * m;
          leave_references<K>(a[m],
                              p.references + static_cast<unsigned>(block) * kBlock +
                                  references_at(decltype(group)::value),
                              lane);
        }
        finish<K>(a[m], lane, 1);
        encode<K>(a[m], o[m] + decltype(group)::value * kGU, p.input);
      }
    };

    arrive();
    bring(window4, 0, place);
    {
      const std::uint32_t all = shared_address(window16);
      attend_all(window16, {all, all}, 8, 2 * kBlockCores, std::integral_constant<int, 2>{});
    }

    arrive();
    if (index < windows) {
      next = BigWindow(p.grid, index);
      bring(window16, 2, next);
    } else {
      cp_async_commit();
    }
    {
      const std::uint32_t row = shared_address(window8) + warpgroup * 8 * kBlockCores;
      attend_all(window8, {row, row + 2 * kBlockCores}, 2, 4 * kBlockCores,
                 std::integral_constant<int, 1>{});
    }

    RowPair<S, kL.units, kTiles> residual[kM];
    const auto pixel = [&](int m) {  // of row g
      const int y0 = (place.y + by) * 4 + (g >> 2), x0 = (place.x + bx + 2 * m) * 4 + (g & 3);
      return static_cast<unsigned>(y0 * p.grid.width + x0);
    };
    const unsigned two_rows = 2 * static_cast<unsigned>(p.grid.width);
    const auto fetch_residual = [&](int m) {
      residual[m].fetch(0, at_pixel<60>(y, pixel(m)), at_pixel<60>(y, pixel(m) + two_rows), t);
    };
    if constexpr (kAhead) fetch_residual(0);
    arrive();
    if (index < windows) {
      bring(window8, 1, next);
    } else {
      cp_async_commit();
    }
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      const char* s = window4 + number(m) * 2 * kBlockCores;
      UnitA2 q[kGU], v[kGU];
      load_units<K, kGU, true>(q, s, lane);
      load_units<K, kGU, true>(v, s + kBlockCores, lane);
      Attention<kGU> a;
      attend_itself<K>(a, q, v, lane, nothing);
      finish<K>(a, lane, 1);
      encode<K>(a, o[m], p.input);
    }

#pragma unroll
    for (int m = 0; m < kM; ++m) {
      if constexpr (!kAhead) fetch_residual(m);
      float acc[kTiles][4];
      residual[m].start(acc);
      if (kAhead && m == 0) fetch_residual(1);
      project_out<F16>(acc, o[m], weights);
      store_rows<kL.units>(acc, 0, at_pixel<60>(x, pixel(m)), at_pixel<60>(x, pixel(m) + two_rows),
                           t);
    }
  }
  cp_async_wait<0>();
#else
  __trap();
#endif
}

using GmsaKernel = void (*)(GmsaArgs);
// fp16 by the format of its streams, then bf16.
constexpr GmsaKernel kKernels[] = {
    &gmsa_hopper_narrow_kernel<true, float>, &gmsa_hopper_narrow_kernel<true, __half>,
    &gmsa_hopper_narrow_kernel<true, Split>, &gmsa_hopper_narrow_kernel<false, float>};

}  // namespace

void prepare_gmsa_hopper_narrow() {
  for (const GmsaKernel kernel : kKernels) allow_shared(reinterpret_cast<const void*>(kernel));
}

void launch_gmsa_hopper_narrow(Operand operand, const GmsaArgs& a, cudaStream_t stream) {
  const GmsaKernel kernel = kKernels[operand == Operand::bf16 ? 3 : static_cast<int>(a.format)];
  launch_kernel(kernel, dim3(static_cast<unsigned>(a.shape.walkers)), kNarrowThreads,
                narrow_gmsa_shared_bytes(true), stream, a);
}

}  // namespace elan::cuda
