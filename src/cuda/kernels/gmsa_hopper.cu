// The GMSA of gmsa.cuh on Hopper's own instructions, for 180 channels in 16 bits: project_out, too,
// is a product of a whole warpgroup. Thread blocks, one a multiprocessor, walk over tiles with all
// weights beside them, and q and v come by bulk copies while what is before them is computed: of
// the window of 16; in unshifted ELABs into another place those of windows of 8, then of 4.

#include "cuda/kernels/gmsa_hopper.cuh"

namespace elan::cuda {
namespace {

using namespace hopper;

#if ELAN_HOPPER

// Rolled windows of 4, no blocks of pixels: 5 x (Rows + 1) of them cover the tile. Results of a
// warp's block come to results[warp], once `empty` lets them.
template <typename K, int Rows>
__device__ __forceinline__ void attend_rolled(const GmsaArgs& p, const QueryBlock& place,
                                              char* results, std::uint32_t empty, int parity,
                                              int warp, int lane, std::uint32_t nothing) {
  constexpr int kAcross = 5, kCount = kAcross * (Rows + 1), kWarps = 4 * Rows;
  const int right = lane >> 3 & 1;
  UnitA2 q[kGU], v[kGU];
  // A pixel is two rows and columns off: in the other half of its block, rows g ^ 2 of q.
  const auto fetch = [&](int window) {
    const int y = place.tile_y + window / kAcross - 1, x = place.window_x + window % kAcross - 1;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      load_half(q, h, p.q + place.at(y + h, x + right) * kBlock, 1 - h, lane ^ 8);
      load_half(v, h, p.v + place.at(y + h, x + (lane & 1)) * kBlock, 1 - h, lane ^ 1);
    }
  };
  fetch(warp);
#pragma unroll 1
  for (int window = warp; window < kCount; window += kWarps) {
    Attention<kGU> a;
    attend_itself<K>(a, q, v, lane, nothing);
    if (window + kWarps < kCount) fetch(window + kWarps);
    finish<K>(a, lane, 1);
    UnitA2 o[kGU];
    encode<K>(a, o, {});
    barrier_wait(empty, parity);
    const int y = window / kAcross - 1, x = window % kAcross - 1 + right;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (y + h < 0 || y + h >= Rows || x < 0 || x > 3) continue;
      store_half(o, h, results + ((y + h) * 4 + x) * kGroup, 1 - h, lane ^ 8);
    }
  }
}

// Brings 4 x 4 pixels, from `first` on, of Bytes each into L2.
template <int Bytes>
__device__ __forceinline__ void prefetch_pixels(const void* stream, std::size_t first, int width,
                                                int lane) {
  constexpr int kRow = 4 * Bytes, kLines = kRow <= 8 * 128 ? 8 : kRow <= 16 * 128 ? 16 : 32;
  const char* const from = static_cast<const char*>(stream) + first * Bytes;
#pragma unroll
  for (int i = lane; i < 4 * kLines; i += 32) {
    const auto row = std::size_t{static_cast<unsigned>(i / kLines * width)} * Bytes;
    prefetch_line(from + row + min(i % kLines * 128, kRow - 1));
  }
}
template <typename S>
__device__ __forceinline__ void prefetch_block(const GmsaArgs& p, const QueryBlock& place,
                                               int lane) {
  const std::size_t first =
      place.first * 16 + static_cast<unsigned>(place.y * p.grid.width + place.x) * 4;
  const int width = p.grid.width;
  if constexpr (std::is_same_v<S, Split>) {
    const SplitPlace<const __half> y = stream_at<S, 180>(p.y, p.grid);
    prefetch_pixels<16 * kU>(y.first, first, width, lane);
    prefetch_pixels<rest_bytes(kU)>(y.rest, first, width, lane);
  } else {
    prefetch_pixels<8 * kU* static_cast<int>(sizeof(S))>(p.y, first, width, lane);
  }
}

#endif

// Tiles of 4 x Rows blocks, a row for each warpgroup.
template <bool F16, typename S, int Rows, bool Shifted>
__global__ __launch_bounds__(128 * Rows,
                             1) void gmsa_hopper_kernel(const __grid_constant__ GmsaArgs p) {
#if ELAN_HOPPER
  using K = Codec16<F16>;
  constexpr int kWarps = 4 * Rows, kWeightBytes = kHopperOutSlabs * kHopperOutBytes;
  constexpr int kKeyTiles = 8;  // of windows of 16 at a time, as registers allow
  constexpr int kSmallRows = Rows == 1 ? 2 : Rows;  // of blocks, where windows of 8 are
  ELAN_DYNAMIC_SHARED(shared);
  __shared__ __align__(8) std::uint64_t barriers[5];
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  char* const window_at = shared + kWeightBytes;
  char* const small_at = window_at + 2 * kWindow;
  const std::uint32_t weights = shared_address(shared), window = weights + kWeightBytes,
                      small = window + 2 * kWindow;
  const std::uint32_t weights_full = shared_address(barriers), window_full = weights_full + 8,
                      window_empty = weights_full + 16, small_full = weights_full + 24,
                      small_empty = weights_full + 32;
  const std::uint32_t nothing = static_cast<std::uint32_t>(p.grid.width) >> 24;
  const auto leave = [&](std::uint32_t empty) {
    __syncwarp();
    if (lane == 0) barrier_arrive(empty);
  };
  const auto place_of = [&](int tile) { return QueryBlock(p.grid, Shifted, warp, tile, Rows); };
  const auto bring_small = [&](const QueryBlock& place, int group) {
    bring_blocks<kSmallRows>(p, place, group, place.tile_y & ~1, place.window_x, small, small_full,
                             lane);
  };

  if (thread == 0) {
    barrier_init(weights_full, 1);
    barrier_init(window_full, 1);
    barrier_init(window_empty, kWarps);
    barrier_init(small_full, Shifted ? kWarps : 1);
    barrier_init(small_empty, kWarps);
    barrier_init_fence();
    barrier_expect(weights_full, kWeightBytes);
    copy_bulk(weights, p.weights, kWeightBytes, weights_full);
  }
  __syncthreads();
  wait_for_previous();
  const int tiles = p.grid.width / 16 * (p.grid.height / (4 * Rows)) * p.grid.batch;
  int tile = tiles - 1 - static_cast<int>(blockIdx.x), parity = 0;
  if (warp == 0) {
    const QueryBlock place = place_of(tile);
    if constexpr (!Shifted) bring_small(place, 1);
    bring_window(p, place, window, window_full, lane);
  }

#pragma unroll 1
  for (; tile >= 0; tile -= static_cast<int>(gridDim.x), parity ^= 1) {
    const QueryBlock place = place_of(tile);
    // Of the warp's block among those of windows of 4 and 8.
    const int row = Rows == 1 && !Shifted ? place.in_window / 4 % 2 : warp / 4, column = warp % 4;
    const char* const own = small_at + (row * 4 + column) * kGroup;
    prefetch_block<S>(p, place, lane);
    UnitA2 o[kWindowGroups * kGU];
    const auto done = [&](Attention<kGU>& a, auto group) {
      encode<K>(a, o + decltype(group)::value * kGU, {});
    };
    if constexpr (Shifted) {
      // (A fresh barrier counts as passed.)
      attend_rolled<K, Rows>(p, place, small_at, small_empty, parity ^ 1, warp, lane, nothing);
      leave(small_full);
      const int y8 = ((place.y - 1) & ~1) + 1, x8 = ((place.x - 1) & ~1) + 1;
      std::size_t blocks[4];
#pragma unroll
      for (int b = 0; b < 4; ++b) blocks[b] = place.at(y8 + b / 2, x8 + b % 2) * kBlock + kGroup;
      Attention<kGU> a;
      attend_at_once<K>(
          a, p.q + place.at(place.y, place.x) * kBlock + kGroup,
          [&](int b) { return p.q + blocks[b]; }, [&](int b) { return p.v + blocks[b]; }, lane,
          nothing);
      finish<K>(a, lane, 1);
      done(a, std::integral_constant<int, 1>{});
    } else {
      barrier_wait(small_full, 0);
      const char* keys = small_at + (row / 2 * 8 + column / 2 * 2) * kGroup;
      const auto block = [&](int b) { return keys + (b / 2 * 4 + b % 2) * kGroup; };
      Attention<kGU> a;
      attend_at_once<K>(a, own, block, [&](int b) { return block(b) + kWindow; }, lane, nothing);
      finish<K>(a, lane, 1);
      done(a, std::integral_constant<int, 1>{});
      leave(small_empty);
    }
    barrier_wait(window_full, parity);
    {
      Attention<kGU> a;
      attend_window<F16, kKeyTiles>(a, window + place.in_window / 4 * 4 * kGroup, window,
                                    window + kWindow, window_at + place.in_window * kGroup, lane, 1,
                                    [&] {
                                      if (Shifted || warp != 0) return;
                                      barrier_wait(small_empty, 0);
                                      bring_small(place, 0);
                                    });
      done(a, std::integral_constant<int, 2>{});
      leave(window_empty);
    }
    const int y0 = place.y * 4 + (g >> 2), x0 = place.x * 4 + (g & 3);
    const std::size_t pixel0 = place.first * 16 + static_cast<std::size_t>(y0) * p.grid.width + x0;
    const std::size_t pixel1 = pixel0 + 2 * static_cast<std::size_t>(p.grid.width);
    // A split stream stays in one place (trades_places()): two would be more than registers hold.
    constexpr bool kSplit = std::is_same_v<S, Split>;
    const auto y = stream_at<S, 180>(kSplit ? p.x : p.y, p.grid);
    const auto x = stream_at<S, 180>(p.x, p.grid);
    const auto from0 = at_pixel<180>(y, pixel0), from1 = at_pixel<180>(y, pixel1);
    const auto to0 = at_pixel<180>(x, pixel0), to1 = at_pixel<180>(x, pixel1);
    // The residual of a slab is fetched while the one before is multiplied, where registers are
    // enough; a split one while its own slab is, and added then.
    constexpr bool kAhead = std::is_same_v<S, __half>;
    RowPair<S, kU, kHopperOutTiles> residual;
    if constexpr (kAhead) residual.fetch(0, from0, from1, t);
    if constexpr (Shifted) {
      barrier_wait(small_full, parity);
      load_units<K, kGU, true>(reinterpret_cast<UnitA2(&)[kGU]>(o), own, lane);
      leave(small_empty);
    } else {
      barrier_wait(small_full, 1);
      UnitA2 q[kGU], v[kGU];
      load_units<K, kGU, true>(q, own, lane);
      load_units<K, kGU, true>(v, own + kWindow, lane);
      Attention<kGU> a;
      attend_itself<K>(a, q, v, lane, nothing);
      finish<K>(a, lane, 1);
      done(a, std::integral_constant<int, 0>{});
      leave(small_empty);
    }

    barrier_wait(weights_full, 0);
#pragma unroll
    for (int slab = 0; slab < kHopperOutSlabs; ++slab) {
      const int first = slab * kHopperOutTiles;
      float acc[kHopperOutTiles][4];
      if constexpr (!kAhead && !kSplit) residual.fetch(first, from0, from1, t);
      if constexpr (!kSplit) residual.start(acc);
      const CoreSlab<kHopperOutTiles> matrix(weights + slab * kHopperOutBytes);
      wgmma_fence();
#pragma unroll
      for (int u = 0; u < kWindowGroups * kGU; u += 2) {
        wgmma<F16>(acc, o[u], o[u + 1], matrix.unit(u), !kSplit || u > 0);
      }
      wgmma_commit();
      if (kAhead && slab + 1 < kHopperOutSlabs) {
        residual.fetch(first + kHopperOutTiles, from0, from1, t);
      }
      // By now nobody is in the tile's windows any more.
      const int next = tile - static_cast<int>(gridDim.x);
      if (slab == 1 && warp == 0 && next >= 0) {
        const QueryBlock following = place_of(next);
        if constexpr (!Shifted) {
          barrier_wait(small_empty, 1);
          bring_small(following, 1);
        }
        barrier_wait(window_empty, parity);
        bring_window(p, following, window, window_full, lane);
      }
      if constexpr (kSplit) residual.fetch(first, from0, from1, t);
      wgmma_wait<0>(acc);
      if constexpr (kSplit) residual.add(acc);
      store_rows<kU>(acc, first, to0, to1, t);
      __syncwarp();  // else the next slab's sums begin while these are stored, and registers run
                     // out
    }
  }
#else
  __trap();
#endif
}

using GmsaKernel = void (*)(GmsaArgs);

template <bool F16, typename S, bool Shifted>
constexpr GmsaKernel kernel_of(int rows) {
  return rows == 4   ? &gmsa_hopper_kernel<F16, S, 4, Shifted>
         : rows == 2 ? &gmsa_hopper_kernel<F16, S, 2, Shifted>
                     : &gmsa_hopper_kernel<F16, S, 1, Shifted>;
}
template <bool Shifted>
GmsaKernel kernel_of(Operand operand, StreamFormat format, int rows) {
  if (operand == Operand::bf16) return kernel_of<false, float, Shifted>(rows);
  switch (format) {
    case StreamFormat::fp16:
      return kernel_of<true, __half, Shifted>(rows);
    case StreamFormat::split:
      return kernel_of<true, Split, Shifted>(rows);
    default:
      return kernel_of<true, float, Shifted>(rows);
  }
}
GmsaKernel kernel_of(Operand operand, StreamFormat format, int rows, bool shifted) {
  return shifted ? kernel_of<true>(operand, format, rows) : kernel_of<false>(operand, format, rows);
}

}  // namespace

void prepare_gmsa_hopper() {
  const auto prepare = [](Operand operand, StreamFormat format) {
    for (const int rows : {1, 2, 4}) {
      for (const bool shifted : {false, true}) {
        cudaFuncSetAttribute(
            reinterpret_cast<const void*>(kernel_of(operand, format, rows, shifted)),
            cudaFuncAttributeMaxDynamicSharedMemorySize, hopper_gmsa_shared_bytes(shifted));
      }
    }
  };
  for (const StreamFormat format : {StreamFormat::fp32, StreamFormat::fp16, StreamFormat::split}) {
    prepare(Operand::fp16, format);
  }
  prepare(Operand::bf16, StreamFormat::fp32);
}

void launch_gmsa_hopper(Operand operand, const GmsaArgs& a, cudaStream_t stream) {
  launch_kernel(kernel_of(operand, a.format, a.shape.tile_y, a.shifted),
                dim3(static_cast<unsigned>(a.shape.walkers)), 128 * a.shape.tile_y,
                static_cast<std::size_t>(hopper_gmsa_shared_bytes(a.shifted)), stream, a);
}

}  // namespace elan::cuda
