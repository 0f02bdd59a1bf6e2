// The GMSA of gmsa_narrow.cuh on Hopper's own instructions: windows of 8 and 16 and project_out are
// products of a whole warpgroup, whose warps have the four blocks of two windows of 8, one after
// the other.

#include "cuda/kernels/gmsa_hopper_narrow.cuh"

namespace elan::cuda {
namespace {

using namespace hopper_narrow;

constexpr int kM = 2;
// In shared memory: q and v of a window group, and the references that were found for it.
constexpr int kReferences = 2 * kWindowCores, kPlace = kReferences + 16 * kReferenceBytes;
// Of a window of 4 a block's q and v are side by side, as operands of mma.sync.
constexpr int kWhole = static_cast<int>(group_operand_bytes(kL, 2));

// Thread blocks walk over windows of 16, the pictures of a batch below one another.
struct WalkArgs : GmsaArgs {
  int step_y, step_x;  // in windows
};

#if ELAN_HOPPER

// Found: a pair before found the references of these queries.
template <bool F16, typename S, bool Found>
__global__ __launch_bounds__(kNarrowThreads,
                             2) void gmsa_hopper_narrow_kernel(const __grid_constant__ WalkArgs p) {
  using K = Codec16<F16>;
  ELAN_DYNAMIC_SHARED(shared);
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  char* const window16 = shared + kNarrowOutBytes;
  char* const window8 = window16 + kPlace;
  char* const window4 = window8 + kPlace;
  const int across = p.grid.width / 4;
  const std::uint32_t nothing = static_cast<std::uint32_t>(p.grid.width) >> 24;
  const auto y = stream_at<S, 60>(p.y, p.grid);
  const auto x = stream_at<S, 60>(p.x, p.grid);

  // A warp brings two blocks side by side of the row warp / 2.
  const CoreCopies copies(lane);
  const int brought = (warp / 2 * across + warp % 2 * 2) * kBlock;
  const auto bring = [&](char* to, auto group, int y, int x) {
    constexpr int kGroupAt = decltype(group)::value * kGroup;
    const std::size_t from =
        static_cast<std::size_t>(static_cast<unsigned>((y * across + x) * 4)) * kBlock;
    const char *q = p.q + from + brought, *v = p.v + from + brought;
    if constexpr (decltype(group)::value > 0) {
      copies.bring(shared_address(to) + warp * 2 * kBlockCores, q + kGroupAt, v + kGroupAt, lane);
      if (Found && lane < 8) {
        cp_async16(
            to + kReferences + warp * 2 * kReferenceBytes + lane * 16,
            q + (lane >> 2) * kBlock + lane % 4 * 16 + references_at(decltype(group)::value));
      }
    } else {
      const std::uint32_t at = shared_address(to) + warp * 4 * kWhole;
      const int piece = lane * 16;
      cp_async_at<16, 0, 0>(at + piece, q + piece);
      cp_async_at<16, kWhole, 0>(at + piece, v + piece);
      cp_async_at<16, 2 * kWhole, kBlock>(at + piece, q + piece);
      cp_async_at<16, 3 * kWhole, kBlock>(at + piece, v + piece);
      // The last units: 8 lanes for each.
      const bool is_v = (lane & 8) != 0;
      const int last = (lane & 7) * 16, b = lane >> 4;
      cp_async_at<16, 512, 512>(at + b * 2 * kWhole + (is_v ? kWhole + last : 2 * last),
                                (is_v ? v : q) + b * kBlock + last);
    }
    cp_async_commit();
  };
  using Of4 = std::integral_constant<int, 0>;
  using Of8 = std::integral_constant<int, 1>;
  using Of16 = std::integral_constant<int, 2>;

  copy_async<kNarrowOutBytes, kNarrowThreads>(shared, p.weights, thread);
  pad_cores<K, kNarrowThreads>(window16, thread);
  pad_cores<K, kNarrowThreads>(window8, thread);
  pad_window<K, kNarrowThreads>(window4, thread);
  wait_for_previous();
  const int windows = p.grid.width / 16, rows = p.grid.height / 16 * p.grid.batch;
  int next_y = static_cast<int>(blockIdx.x) / windows;
  int next_x = static_cast<int>(blockIdx.x) - next_y * windows;
  bring(window16, Of16{}, next_y, next_x);
  bring(window8, Of8{}, next_y, next_x);

  const int warpgroup = __shfl_sync(~0U, warp / 4, 0);
  // The warp's first block; the second is two further.
  const int by = warp / 2, bx = warp % 2, first = by * 4 + bx;
  const int block_of_warp = by * across + bx;
  const int pixel_of_lane = (by * 4 + (g >> 2)) * p.grid.width + bx * 4 + (g & 3);
  const CoreSlab<kTiles> weights(shared_address(shared));
  // What was brought last but one is there, and nobody is in the group before any more.
  const auto arrive = [&] {
    cp_async_wait<1>();
    publish_stores();
    __syncthreads();
  };
  while (next_y < rows) {
    const int pixel = (next_y * p.grid.width + next_x) * 16 + pixel_of_lane;
    const int block = (next_y * across + next_x) * 4 + block_of_warp;
    UnitA2 o[kM][kUnits];
    // With the keys of Steps times two blocks.
    const auto attend_all = [&](const char* window, const CorePair(&keys)[kM], auto steps,
                                auto step, auto group) {
      constexpr int kSteps = decltype(steps)::value, kStep = decltype(step)::value;
      UnitA2 q[kM][kGU];
      uint2 terms[kM];
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        const int own = first + 2 * m;
        load_core_queries(q[m], window + own * kBlockCores, lane);
        if constexpr (Found) {
          const char* found = window + kReferences + own * kReferenceBytes;
          terms[m] = reinterpret_cast<const uint2*>(found)[g];
        }
      }
      if constexpr (!Found) compute_references<F16, kSteps, kStep>(terms, q, keys, lane);
      Attention<kGU> a[kM];
#pragma unroll
      for (int m = 0; m < kM; ++m) start_from<K>(a[m], q[m], lane, terms[m]);
      attend_cores<F16, kSteps, kStep>(a, q, keys);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        if (!Found && p.leave_references) {
          leave_terms(terms[m],
                      p.references + static_cast<std::size_t>(block + 2 * m) * kBlock +
                          references_at(decltype(group)::value),
                      lane);
        }
        finish<K>(a[m], lane, 1);
        encode<K>(a[m], o[m] + decltype(group)::value * kGU, p.input);
      }
    };

    const std::size_t two_rows = 2 * static_cast<std::size_t>(p.grid.width);
    const auto from0 = at_pixel<60>(y, static_cast<unsigned>(pixel)),
               from1 = at_pixel<60>(from0, two_rows);
    const auto to0 = at_pixel<60>(x, static_cast<unsigned>(pixel)),
               to1 = at_pixel<60>(to0, two_rows);
    arrive();
    bring(window4, Of4{}, next_y, next_x);
    // Residuals, the first 128 bytes a pixel: two rows of two blocks, for each g.
    prefetch_line(tile_source(at_pixel<60>(from0, (t & 1) * two_rows + t / 2 * 8)));
    next_y += p.step_y;
    next_x += p.step_x;
    if (next_x >= windows) {
      next_x -= windows;
      ++next_y;
    }
    {
      const CorePair all(shared_address(window16));
      const CorePair keys[kM] = {all, all};
      attend_all(window16, keys, std::integral_constant<int, 8>{},
                 std::integral_constant<int, 2 * kBlockCores>{}, Of16{});
    }

    arrive();
    if (next_y < rows) {
      bring(window16, Of16{}, next_y, next_x);
    } else {
      cp_async_commit();
    }
    {
      const std::uint32_t row = shared_address(window8) + warpgroup * 8 * kBlockCores;
      const CorePair keys[kM] = {CorePair(row), CorePair(row + 2 * kBlockCores)};
      attend_all(window8, keys, std::integral_constant<int, 2>{},
                 std::integral_constant<int, 4 * kBlockCores>{}, Of8{});
    }

    arrive();
    if (next_y < rows) {
      bring(window8, Of8{}, next_y, next_x);
    } else {
      cp_async_commit();
    }
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      RowPair<S, kL.units, kTiles> residual;
      residual.fetch(0, at_pixel<60>(from0, 8 * m), at_pixel<60>(from1, 8 * m), t);
      {
        const char* s = window4 + (first + 2 * m) * 2 * kWhole;
        UnitA2 q[kGU], v[kGU];
        load_units<K, kGU, true>(q, s, lane);
        load_units<K, kGU, true>(v, s + kWhole, lane);
        Attention<kGU> a;
        attend_itself<K>(a, q, v, lane, nothing);
        finish<K>(a, lane, 1);
        encode<K>(a, o[m], p.input);
      }
      float acc[kTiles][4];
      residual.start(acc);
      project_out<F16>(acc, o[m], weights);
      store_rows<kL.units>(acc, 0, at_pixel<60>(to0, 8 * m), at_pixel<60>(to1, 8 * m), t);
    }
  }
  cp_async_wait<0>();
}

#else

template <bool F16, typename S, bool Found>
__global__ void gmsa_hopper_narrow_kernel(const __grid_constant__ WalkArgs) {
  __trap();
}

#endif

using GmsaKernel = void (*)(WalkArgs);
// fp16 by the format of its streams, then bf16; those for pairs that find references.
template <bool Found>
constexpr GmsaKernel kKernels[] = {&gmsa_hopper_narrow_kernel<true, float, Found>,
                                   &gmsa_hopper_narrow_kernel<true, __half, Found>,
                                   &gmsa_hopper_narrow_kernel<true, Split, Found>,
                                   &gmsa_hopper_narrow_kernel<false, float, Found>};

}  // namespace

void prepare_gmsa_hopper_narrow() {
  for (const GmsaKernel kernel : kKernels<false>) {
    allow_shared(reinterpret_cast<const void*>(kernel));
  }
  for (const GmsaKernel kernel : kKernels<true>) {
    allow_shared(reinterpret_cast<const void*>(kernel));
  }
}

void launch_gmsa_hopper_narrow(Operand operand, const GmsaArgs& a, cudaStream_t stream) {
  const int i = operand == Operand::bf16 ? 3 : static_cast<int>(a.format);
  const int windows = a.grid.width / 16;
  const WalkArgs args{a, a.shape.walkers / windows, a.shape.walkers % windows};
  launch_kernel(a.find_references ? kKernels<true>[i] : kKernels<false>[i],
                dim3(static_cast<unsigned>(a.shape.walkers)), kNarrowThreads,
                narrow_gmsa_shared_bytes(true), stream, args);
}

}  // namespace elan::cuda
