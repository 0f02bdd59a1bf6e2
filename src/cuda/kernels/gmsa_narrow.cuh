// The GMSA of gmsa.cuh for unshifted ELABs of the narrow network in 16 bits where a picture has
// many windows: thread blocks walk over windows of 16, and a warp has the queries of two blocks of
// 4 x 4 pixels, so that what is fetched of keys and values serves twice. All q and v that a window
// of 16 needs lie in it: those of a window group come into shared memory while the groups before
// are computed, each group into a place of its own.
#pragma once

#include "cuda/kernels/gmsa.cuh"

namespace elan::cuda {

// The first block of a window of 16; the pictures of a batch are below one another.
struct BigWindow {
  int y, x;

  __device__ __forceinline__ BigWindow(const Grid& g, int index)
      : y(index / (g.width / 16) * 4), x((index - y / 4 * (g.width / 16)) * 4) {}
};

// Brings q and v of a group to `to`, and behind them the references that were found: all warps.
template <int Warps>
__device__ __forceinline__ void bring_group(char* to, const GmsaArgs& p, int group,
                                            const BigWindow& place, int warp, int lane) {
  constexpr ChannelLayout L = layout_of(60);
  constexpr int kGroup = static_cast<int>(group_bytes(L, 2));
  const auto at = [&](int b) {
    return static_cast<unsigned>((place.y + b / 4) * (p.grid.width / 4) + place.x + b % 4) *
           block_bytes(L, 2);
  };
  bring_window<Warps>(to, p.q + group * kGroup, p.v + group * kGroup, warp, lane, at);
  if (p.find_references && group > 0 && lane < 8) {
    const int b = 2 * warp + lane / 4, piece = lane % 4 * 16;
    cp_async16(to + gmsa_window_bytes(L, 2) + b * kReferenceBytes + piece,
               p.references + at(b) + references_at(group) + piece);
  }
  cp_async_commit();
}

template <typename K, typename S>
__global__ __launch_bounds__(kNarrowThreads,
                             2) void gmsa_narrow_kernel(const __grid_constant__ GmsaArgs p) {
  using UnitA = typename K::UnitA;
  constexpr ChannelLayout L = layout_of(60);
  constexpr int U = L.group_units, kAll = kWindowGroups * U, kN = L.out_tiles;
  constexpr int kWhole = static_cast<int>(group_operand_bytes(L, 2));
  constexpr int kStep = 2 * kWhole;  // q and v of a block side by side
  constexpr int kWindow = 16 * (kStep + kReferenceBytes);
  constexpr int kWarps = kNarrowThreads / 32, M = 2;
  constexpr bool kAhead = std::is_same_v<S, __half>;  // registers for residuals fetched early

  ELAN_DYNAMIC_SHARED(shared);
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  char* const weights = shared;
  char* const window16 = shared + out_slab_bytes(L, 1);
  char* const window8 = window16 + kWindow;
  char* const window4 = window8 + kWindow;
  const int windows = p.grid.width / 16 * (p.grid.height / 16) * p.grid.batch;
  const std::uint32_t nothing = static_cast<std::uint32_t>(p.grid.width) >> 24;
  const auto y = stream_at<S, 60>(p.y, p.grid);
  const auto x = stream_at<S, 60>(p.x, p.grid);

  copy_async<out_slab_bytes(L, 1), kNarrowThreads>(weights, p.weights, thread);
#pragma unroll
  for (int group = 0; group < kWindowGroups; ++group) {
    pad_window<K, kNarrowThreads>(window16 + group * kWindow, thread);
  }
  wait_for_previous();
  int index = static_cast<int>(blockIdx.x);
  BigWindow next(p.grid, index);
  bring_group<kWarps>(window16, p, 2, next, warp, lane);
  bring_group<kWarps>(window8, p, 1, next, warp, lane);

  // The warp's blocks are neighbours in a row; of what is in shared memory:
  const int by = warp / 2, bx = warp % 2 * 2, own = (by * 4 + bx) * kStep;
  // What was brought last but one is there, and nobody is in the group before any more.
  const auto arrive = [&] {
    cp_async_wait<1>();
    __syncthreads();
  };
  while (index < windows) {
    const BigWindow place = next;
    index += static_cast<int>(gridDim.x);
    UnitA o[M][kAll];
    // Both blocks' queries and the keys of 2 * steps blocks, in rows of blocks from `keys` on.
    const auto attend_all = [&](const char* window, const char* keys, int steps, int step,
                                auto group) {
      UnitA q[M][U];
      Attention<U> a[M];
#pragma unroll
      for (int m = 0; m < M; ++m) {
        load_queries<K, true>(q[m], window + own + m * kStep, lane, nothing);
        const char* terms = window + 16 * kStep + (own / kStep + m) * kReferenceBytes;
        begin_softmax<K>(a[m], q[m], p,
                         p.find_references ? reinterpret_cast<const uint2*>(terms)[g] : uint2{},
                         lane);
      }
#pragma unroll 1
      for (int i = 0; i < steps; ++i) {
        const char* s = keys + i * step;
        attend<K, U, M, 2, false, true>(a, q, {s, s + kStep}, {s + kWhole, s + kStep + kWhole},
                                        lane, 0);
      }
#pragma unroll
      for (int m = 0; m < M; ++m) {
        if (p.leave_references) {
          const int block = (place.y + by) * (p.grid.width / 4) + place.x + bx + m;
          leave_references<K>(a[m],
                              p.references + static_cast<unsigned>(block) * block_bytes(L, 2) +
                                  references_at(decltype(group)::value),
                              lane);
        }
        finish<K>(a[m], lane, 1);
        encode<K>(a[m], o[m] + decltype(group)::value * U, p.input);
      }
    };

    arrive();
    bring_group<kWarps>(window4, p, 0, place, warp, lane);
    attend_all(window16, window16, 8, 2 * kStep, std::integral_constant<int, 2>{});

    arrive();
    if (index < windows) {
      next = BigWindow(p.grid, index);
      bring_group<kWarps>(window16, p, 2, next, warp, lane);
    } else {
      cp_async_commit();
    }
    attend_all(window8, window8 + ((by & ~1) * 4 + bx) * kStep, 2, 4 * kStep,
               std::integral_constant<int, 1>{});

    RowPair<S, L.units, kN> residual[M];
    const auto pixel = [&](int m) {  // of row g
      const int y0 = (place.y + by) * 4 + (g >> 2), x0 = (place.x + bx + m) * 4 + (g & 3);
      return static_cast<unsigned>(y0 * p.grid.width + x0);
    };
    const unsigned two_rows = 2 * static_cast<unsigned>(p.grid.width);
    const auto fetch_residual = [&](int m) {
      residual[m].fetch(0, at_pixel<60>(y, pixel(m)), at_pixel<60>(y, pixel(m) + two_rows), t);
    };
    if constexpr (kAhead) {
#pragma unroll
      for (int m = 0; m < M; ++m) fetch_residual(m);
    }
    arrive();
    if (index < windows) {
      bring_group<kWarps>(window8, p, 1, next, warp, lane);
    } else {
      cp_async_commit();
    }
#pragma unroll
    for (int m = 0; m < M; ++m) {
      const char* s = window4 + own + m * kStep;
      UnitA q[U], v[U];
      load_units<K, U, true>(q, s, lane);
      load_units<K, U, true>(v, s + kWhole, lane);
      Attention<U> a;
      attend_itself<K>(a, q, v, lane, nothing);
      finish<K>(a, lane, 1);
      encode<K>(a, o[m], p.input);
    }

#pragma unroll
    for (int m = 0; m < M; ++m) {
      __syncwarp();  // else the compiler takes both blocks together, and registers run out
      if constexpr (!kAhead) fetch_residual(m);
      float acc[1][kN][4] = {};
      if constexpr (kBiasInWeights<K, U>) residual[m].start(acc[0]);
      multiply<K, kN, kAll>(
          acc, weights, lane,
          [&](int, int u, UnitA& a0, UnitA& a1) {
            a0 = o[m][u];
            a1 = o[m][u + 1];
          },
          [&](int, int u, UnitA& a) { a = o[m][u]; });
      if constexpr (!kBiasInWeights<K, U>) {
        add_bias<K, L.units>(acc[0], 0, p, t);
        residual[m].add(acc[0]);
      }
      store_rows<L.units>(acc[0], 0, at_pixel<60>(x, pixel(m)),
                          at_pixel<60>(x, pixel(m) + two_rows), t);
    }
  }
  cp_async_wait<0>();
}

template <typename K, typename S>
void launch_gmsa_as(int channels, const GmsaArgs& a, cudaStream_t stream) {
  if (channels == 180) return launch_gmsa_channels<K, S, 180>(a, stream);
  if constexpr (K::kWords == 2) {
    if (a.shape.walkers > 0 && !a.shifted) {
      launch_kernel(&gmsa_narrow_kernel<K, S>, dim3(static_cast<unsigned>(a.shape.walkers)),
                    kNarrowThreads, narrow_gmsa_shared_bytes(false), stream, a);
      return;
    }
  }
  launch_gmsa_channels<K, S, 60>(a, stream);
}

}  // namespace elan::cuda
