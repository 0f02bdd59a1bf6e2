// y = x + LFE(x), then q and v of y: both shift convolutions, the residual and project_inp.
//
// A hidden channel is read by conv1 at one displacement only, that of its tap. So a warp computes
// the hidden channels of a tap at its own 16 pixels displaced by that tap, and what leaves conv0 in
// its registers is the operand of conv1; the same way y goes on into project_inp, whose q and v
// leave in the form in which the attention reads them.
#pragma once

#include <type_traits>

#include "cuda/kernels/split.cuh"

namespace elan::cuda {

// The accumulators of a slab of project_inp as units of q, or of v transposed.
template <typename K, int C, bool V>
__device__ __forceinline__ void store_projected(float (&acc)[layout_of(C).project_tiles][4],
                                                int slab, const float* bias, const float* scale,
                                                float unscale, char* block, int lane) {
  constexpr ChannelLayout L = layout_of(C);
  constexpr int N = L.project_tiles, kUnit = K::kWords * 128;
  typename K::UnitA u[N];
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const float2 b = __ldg(reinterpret_cast<const float2*>(bias + (slab * N + n) * 8) + (lane & 3));
    float c[4];
    apply(c, acc[n], column_scale<K>(scale, unscale, (slab * N + n) * 8, lane & 3), b);
    u[n] = K::encode(c);
    if constexpr (V) K::transpose(u[n]);
  }
  if constexpr (kCompact<K, L.group_units>) {  // a slab is a group
    static_assert(N == L.group_units);
    char* to = block + slab * group_bytes(L, 2);
    if (!V || slab == 0) return store_compact<true, V>(u, to, lane);
    store_compact<false, V>(u, to, lane);
  } else if constexpr (N <= L.group_units) {  // a slab is a part of a group
    store_units<K, N, !V>(u, block + static_cast<std::size_t>(slab) * N * kUnit, lane);
  } else {
#pragma unroll
    for (int g = 0; g < N; g += L.group_units) {
      store_units<K, L.group_units, !V>(u + g, block + g * kUnit, lane);
    }
  }
}

// A thread block's warps have 4 x WY x M blocks of pixels, M of them, one below the other, each:
// what is fetched of the weights serves M times.
template <typename K, typename S, int C, int WY, int M>
__global__ __launch_bounds__(128 * WY, C == 60 && K::kWords == 2
                                           ? 2
                                           : 1) void lfe_kernel(const __grid_constant__ LfeArgs p) {
  using T = PictureTile<K, C, 4, WY * M, 128 * WY>;
  using UnitA = typename K::UnitA;
  constexpr ChannelLayout L = layout_of(C);
  constexpr int kW = K::kWords / 2;
  constexpr int kU = L.units, kHT = L.hidden_tiles, kNP = L.project_tiles;
  constexpr int kQSlabs = project_slabs(L);
  // The stream holds operands already: tiles are copied, and the residual is found in them, or its
  // first terms.
  constexpr bool kCopied = !std::is_same_v<S, float> && !kRounds<K>;
  constexpr bool kSplit = std::is_same_v<S, Split>;
  constexpr bool kTf32 = std::is_same_v<K, CodecTf32>;
  // Weights of the narrow network in 16 bits fit beside any tile.
  constexpr bool kResident = C == 60 && K::kWords == 2;
  using Ring = SlabRing<conv_slab_bytes(L, kW), project_slab_bytes(L, kW), T::kThreads, kResident>;

  ELAN_DYNAMIC_SHARED(shared);
  __shared__ int taps[kMaxChunks], back[kMaxChunks], steps[kMaxChunks];
  char* tile = shared;
  const std::uint32_t tile_address = shared_address(tile);
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  const int wx = warp % 4, wy = warp / 4 * M;
  const auto stream = stream_at<S, C>(p.x, p.grid);
  const auto result = stream_at<S, C>(p.y, p.grid);
  const int across = p.grid.width / 16, down = p.grid.height / (4 * WY * M);
  const int tiles = across * down * p.grid.batch;

  if (thread < kMaxChunks) {
    taps[thread] = (p.chunk_y[thread] + 1) * 4 + p.chunk_x[thread] + 1;
    back[thread] = way_back<T>(thread, taps[thread]);
    steps[thread] = step_to<T>(thread, taps[thread], p.grid.width);
  }
  const int conv_slabs = p.groups * (L.conv0_parts + L.conv1_parts);
  Ring ring(shared + T::kBytes, p.weights, conv_slabs, conv_slabs + kQSlabs * (p.has_q ? 2 : 1),
            p.shape.stages, thread);
  __syncthreads();
  wait_for_previous();

  const TileWalk<T> start(thread);
  int index = static_cast<int>(blockIdx.x);
  if (index < tiles) {
    const TileOrigin o = tile_origin<4, WY * M>(index, p.grid);
    if constexpr (kCopied) {
      copy_tile(start, tile_address, tile_source(stream), o, p.grid, taps, steps);
      cp_async_commit();
    } else {
      TileWalk<T> walk = start;
      load_tile<K, T>(0, walk, tile, stream, o, p.grid, taps, p.input);
    }
  }
  if (kCopied || ring.resident()) cp_async_wait<0>();

  std::uint32_t base[M];
#pragma unroll
  for (int m = 0; m < M; ++m) {
    base[m] = K::lane_base(lane, [&](int r) {
      return static_cast<std::uint32_t>(
          (((wy + m) * 4 + r / 4 + 1) * T::kRow + wx * 4 + r % 4 + 1) * T::kPitch);
    });
  }

  const std::uint32_t nothing = static_cast<std::uint32_t>(p.groups) >> 16;
  const float unscale0 = p.unscale0, unscale1 = p.unscale1, unscale_project = p.unscale_project;
  for (; index < tiles; index += static_cast<int>(gridDim.x)) {
    const TileOrigin o = tile_origin<4, WY * M>(index, p.grid);
    const int y0 = o.y + wy * 4 + (g >> 2), x0 = o.x + wx * 4 + (g & 3);  // of token g, block 0
    if (kCopied || ring.resident()) __syncthreads();

    float out[M][kU][4];
#pragma unroll
    for (int m = 0; m < M; ++m) {
      if constexpr (kCopied) {
        const char* own =
            tile + (((wy + m) * 4 + (g >> 2) + 1) * T::kRow + wx * 4 + (g & 3) + 1) * T::kPitch;
        start_from_tile<T>(out[m], own, back, p.scale1, t);
      } else {
#pragma unroll
        for (int n = 0; n < kU; ++n) out[m][n][0] = out[m][n][1] = out[m][n][2] = out[m][n][3] = 0;
      }
    }

#pragma unroll 1
    for (int group = 0; group < p.groups; ++group) {
      const int dy = p.hidden_y[group], dx = p.hidden_x[group];
      const std::uint32_t at = (dy * T::kRow + dx) * T::kPitch;
      const auto load_pair = [&](int m, int u, UnitA& a0, UnitA& a1) {
        K::load_pair(a0, a1, tile_address, base[m] + at, T::kExtra, u);
        if constexpr (kTf32) {
          detach(a0, nothing);
          detach(a1, nothing);
        }
      };
      const auto load_one = [&](int m, int u, UnitA& a) {
        K::load_one(a, tile_address, base[m] + at, T::kExtra, u);
        if constexpr (kTf32) detach(a, nothing);
      };
      float hidden[M][kHT][4] = {};
      {
        constexpr int kPart = part_size(kU, L.conv0_parts, 0);
        multiply<K, kHT, kPart>(hidden, ring.next(), lane, load_pair, load_one);
        if constexpr (L.conv0_parts == 2) {
          multiply<K, kHT, kU - kPart>(
              hidden, ring.next(), lane,
              [&](int m, int u, UnitA& a0, UnitA& a1) { load_pair(m, u + kPart, a0, a1); },
              [&](int m, int u, UnitA& a) { load_one(m, u + kPart, a); });
        }
      }
      // Outside the picture the hidden layer is zero, not relu(bias).
      const bool in_x = x0 + dx >= 0 && x0 + dx < p.grid.width;
      UnitA h[M][kHT];
#pragma unroll
      for (int n = 0; n < kHT; ++n) {
        const float2 b =
            __ldg(reinterpret_cast<const float2*>(p.bias0 + (group * kHT + n) * 8) + t);
        const float2 scale = column_scale<K>(p.scale0, unscale0, (group * kHT + n) * 8, t);
#pragma unroll
        for (int m = 0; m < M; ++m) {
          const int y = y0 + 4 * m + dy;
          const bool in0 = in_x && y >= 0 && y < p.grid.height;
          const bool in1 = in_x && y + 2 >= 0 && y + 2 < p.grid.height;
          float c[4];
          apply(c, hidden[m][n], scale, b);
          round_to_operand<K>(c, p.hidden);
          h[m][n] = K::encode_relu(c);
          keep_rows(h[m][n], in0, in1);
        }
      }
      const auto pair = [&](int m, int u, UnitA& a0, UnitA& a1) {
        a0 = h[m][u];
        a1 = h[m][u + 1];
      };
      const auto one = [&](int m, int u, UnitA& a) { a = h[m][u]; };
      if constexpr (L.conv1_parts == 1) {
        multiply<K, kU, kHT>(out, ring.next(), lane, pair, one);
      } else {
        static_assert(M == 1 && L.conv1_parts == 2);
        constexpr int kCols = part_size(kU, 2, 0);
        multiply<K, kCols, kHT>(reinterpret_cast<float(&)[1][kCols][4]>(out[0][0]), ring.next(),
                                lane, pair, one);
        multiply<K, kU - kCols, kHT>(reinterpret_cast<float(&)[1][kU - kCols][4]>(out[0][kCols]),
                                     ring.next(), lane, pair, one);
      }
    }

    // The residual; y leaves and stays as an operand.
    UnitA y[M][kU];
    const auto pixel_of = [&](int row) {
      return (static_cast<std::size_t>(o.image) * p.grid.height + y0 + row) * p.grid.width + x0;
    };
    [[maybe_unused]] RestPair<kU> rest[M];
    if constexpr (kSplit) {
#pragma unroll
      for (int m = 0; m < M; ++m) {
        rest[m].template fetch<kU>(0, at_pixel<C>(stream, pixel_of(4 * m)).rest,
                                   at_pixel<C>(stream, pixel_of(4 * m + 2)).rest, t);
      }
    }
#pragma unroll
    for (int m = 0; m < M; ++m) {
      const std::size_t pixel0 = pixel_of(4 * m), pixel1 = pixel_of(4 * m + 2);
      const auto to0 = at_pixel<C>(result, pixel0), to1 = at_pixel<C>(result, pixel1);
#pragma unroll
      for (int n = 0; n < kU; ++n) {
        const float2 b = __ldg(reinterpret_cast<const float2*>(p.bias1 + n * 8) + t);
        apply(out[m][n], out[m][n], column_scale<K>(p.scale_out, unscale1, n * 8, t), b);
      }
      if constexpr (kSplit) rest[m].add(out[m]);
      if constexpr (kCopied) {
        store_rows<kU>(out[m], 0, to0, to1, t);
      } else {
        constexpr int kHalf = kU / 4 * 2;
        RowPair<S, kU, kHalf> first;
        RowPair<S, kU, kU - kHalf> second;
        auto& low = reinterpret_cast<float(&)[kHalf][4]>(out[m][0]);
        auto& high = reinterpret_cast<float(&)[kU - kHalf][4]>(out[m][kHalf]);
        first.fetch(0, at_pixel<C>(stream, pixel0), at_pixel<C>(stream, pixel1), t);
        first.add(low);
        second.fetch(kHalf, at_pixel<C>(stream, pixel0), at_pixel<C>(stream, pixel1), t);
        store_rows<kU>(low, 0, to0, to1, t);
        second.add(high);
        store_rows<kU>(high, kHalf, to0, to1, t);
      }
#pragma unroll
      for (int n = 0; n < kU; ++n) {
        round_to_operand<K>(out[m][n], p.projected);
        y[m][n] = K::encode(out[m][n]);
        detach(y[m][n], nothing);
      }
    }

    // While project_inp runs, the next tile comes in: the last reader of this one was conv0.
    if (ring.resident()) __syncthreads();
    const int next = index + static_cast<int>(gridDim.x);
    const TileOrigin next_origin = tile_origin<4, WY * M>(next, p.grid);
    constexpr int kAhead = 3;
    int slice = next < tiles ? 0 : T::kSlices;
    TileWalk<T> walk = start;
    const Quad<S>* next_image = tile_image<T>(tile_source(stream), next_origin, p.grid);
    if constexpr (kCopied) {
      if (next < tiles)
        copy_tile(start, tile_address, tile_source(stream), next_origin, p.grid, taps, steps);
      cp_async_commit();
    }

    constexpr std::size_t kBlock = block_bytes(L, 2 * kW);
    const auto block = [&](int m) {
      return static_cast<std::size_t>(((o.image * p.grid.height + o.y) / 4 + wy + m) *
                                          (p.grid.width / 4) +
                                      o.x / 4 + wx) *
             kBlock;
    };
    const float *bias = p.bias_project, *scale = p.scale_project;
    const auto project = [&](auto is_v, char* to) {
#pragma unroll 1
      for (int s = 0; s < kQSlabs; ++s) {
        const char* slab = ring.next();
        Quad<S> ahead[kAhead];
        const bool fetching = !kCopied && slice < T::kSlices;
        if (fetching) fetch_slices<T>(ahead, walk, next_image, next_origin, p.grid, taps);
        float acc[M][kNP][4] = {};
        multiply<K, kNP, kU>(
            acc, slab, lane,
            [&](int m, int u, UnitA& a0, UnitA& a1) {
              a0 = y[m][u];
              a1 = y[m][u + 1];
            },
            [&](int m, int u, UnitA& a) { a = y[m][u]; });
#pragma unroll
        for (int m = 0; m < M; ++m) {
          store_projected<K, C, decltype(is_v)::value>(acc[m], s, bias, scale, unscale_project,
                                                       to + block(m), lane);
        }
        if (fetching) store_slices<K, T>(ahead, walk, tile, p.input);
        slice += kAhead;
      }
      bias += kQSlabs * kNP * 8;
      if constexpr (kRounds<K>) scale += kQSlabs * kNP * 8;
    };
    if (p.has_q) project(std::false_type{}, p.q);
    project(std::true_type{}, p.v);
    if constexpr (kCopied) {
      cp_async_wait<0>();
    } else {
      load_tile<K, T>(slice, walk, tile, stream, next_origin, p.grid, taps, p.input);
    }
  }
  cp_async_wait<0>();
}

template <typename K, typename S, int C, int WY, int M>
void launch_lfe_tile(const LfeArgs& a, cudaStream_t stream) {
  launch_kernel(&lfe_kernel<K, S, C, WY, M>, dim3(static_cast<unsigned>(a.shape.blocks)), 128 * WY,
                static_cast<std::size_t>(a.shape.shared_bytes), stream, a);
}

// The shapes that are compiled: tiles 1 or 2 blocks high, and 4 for a narrow 16-bit stream.
template <typename K, typename S>
void launch_lfe_as(int channels, const LfeArgs& a, cudaStream_t stream) {
  if (channels == 180) {
    a.shape.tile_y == 2 ? launch_lfe_tile<K, S, 180, 2, 1>(a, stream)
                        : launch_lfe_tile<K, S, 180, 1, 1>(a, stream);
    return;
  }
  if constexpr (!std::is_same_v<S, float>) {
    if (a.shape.tile_y == 4) return launch_lfe_tile<K, S, 60, 2, 2>(a, stream);
  }
  a.shape.tile_y == 2 ? launch_lfe_tile<K, S, 60, 2, 1>(a, stream)
                      : launch_lfe_tile<K, S, 60, 1, 1>(a, stream);
}

}  // namespace elan::cuda
