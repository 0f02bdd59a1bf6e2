// y = x + LFE(x), then q and v of y: both shift convolutions, the residual and project_inp.
//
// A hidden channel is read by conv1 at one displacement only, that of its tap. So a warp computes
// the hidden channels of a tap at its own 16 pixels displaced by that tap, and what leaves conv0 in
// its registers is the operand of conv1; the same way y goes on into project_inp, whose q and v
// leave in the form in which the attention reads them.
#pragma once

#include <type_traits>

#include "cuda/kernels/tile.cuh"

namespace elan::cuda {

// The accumulators of a slab of project_inp as units of q, or of v transposed.
template <typename K, int C, bool V>
__device__ __forceinline__ void store_projected(float (&acc)[layout_of(C).project_tiles][4],
                                                int slab, const float* bias, float unscale,
                                                char* block, int lane) {
  constexpr ChannelLayout L = layout_of(C);
  constexpr int N = L.project_tiles, kUnit = K::kWords * 128;
  typename K::UnitA u[N];
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const float2 b = __ldg(reinterpret_cast<const float2*>(bias + (slab * N + n) * 8) + (lane & 3));
    const float c[4] = {fmaf(acc[n][0], unscale, b.x), fmaf(acc[n][1], unscale, b.y),
                        fmaf(acc[n][2], unscale, b.x), fmaf(acc[n][3], unscale, b.y)};
    u[n] = K::encode(c);
    if constexpr (V) K::transpose(u[n]);
  }
  if constexpr (N <= L.group_units) {  // a slab is a part of a group
    store_units<K, N, !V>(u, block + static_cast<std::size_t>(slab) * N * kUnit, lane);
  } else {
#pragma unroll
    for (int g = 0; g < N; g += L.group_units) {
      store_units<K, L.group_units, !V>(u + g, block + g * kUnit, lane);
    }
  }
}

template <typename K, int C, int WX, int WY>
__global__ __launch_bounds__(32 * WX * WY, C == 60 && K::kWords == 2 ? 2 : 1) void lfe_kernel(
    const __grid_constant__ LfeArgs p) {
  using T = PictureTile<K, C, WX, WY>;
  using UnitA = typename K::UnitA;
  constexpr ChannelLayout L = layout_of(C);
  constexpr int kW = K::kWords / 2;
  constexpr int kU = L.units, kHT = L.hidden_tiles, kNP = L.project_tiles;
  constexpr int kQSlabs = project_slabs(L);
  using Ring = SlabRing<conv_slab_bytes(L, kW), project_slab_bytes(L, kW), T::kThreads>;

  extern __shared__ __align__(128) char shared[];
  __shared__ int taps[kMaxChunks];
  char* tile = shared;
  const auto tile_address = static_cast<std::uint32_t>(__cvta_generic_to_shared(tile));
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  const int wx = warp % WX, wy = warp / WX;
  const int across = p.grid.width / (4 * WX), down = p.grid.height / (4 * WY);
  const int tiles = across * down * p.grid.batch;

  allow_next();
  if (thread < kMaxChunks) taps[thread] = (p.chunk_y[thread] + 1) * 4 + p.chunk_x[thread] + 1;
  const int conv_slabs = p.groups * (L.conv0_parts + L.conv1_parts);
  Ring ring(shared + T::kBytes, p.weights, conv_slabs, conv_slabs + kQSlabs * (p.has_q ? 2 : 1),
            p.shape.stages, thread);
  __syncthreads();
  wait_for_previous();

  int index = static_cast<int>(blockIdx.x);
  if (index < tiles) {
    TileWalk<T> walk(thread);
    load_tile<K, T>(0, walk, tile, p.x, tile_origin<WX, WY>(index, p.grid), p.grid, taps);
  }
  if (ring.resident()) cp_async_wait<0>();

  const std::uint32_t base = K::lane_base(lane, [&](int r) {
    return static_cast<std::uint32_t>(((wy * 4 + r / 4 + 1) * T::kRow + wx * 4 + r % 4 + 1) *
                                      T::kPitch);
  });

  const float unscale0 = p.unscale0, unscale1 = p.unscale1, unscale_project = p.unscale_project;
  for (; index < tiles; index += static_cast<int>(gridDim.x)) {
    const TileOrigin o = tile_origin<WX, WY>(index, p.grid);
    const int y0 = o.y + wy * 4 + (g >> 2), x0 = o.x + wx * 4 + (g & 3);  // of token g
    if (ring.resident()) __syncthreads();

    float out[kU][4];
#pragma unroll
    for (int n = 0; n < kU; ++n) out[n][0] = out[n][1] = out[n][2] = out[n][3] = 0;

    for (int group = 0; group < p.groups; ++group) {
      const int dy = p.hidden_y[group], dx = p.hidden_x[group];
      const std::uint32_t at = base + (dy * T::kRow + dx) * T::kPitch;
      float hidden[kHT][4];
#pragma unroll
      for (int n = 0; n < kHT; ++n) hidden[n][0] = hidden[n][1] = hidden[n][2] = hidden[n][3] = 0;
      {
        constexpr int kPart = part_size(kU, L.conv0_parts, 0);
        multiply<K, kHT, kPart>(
            hidden, ring.next(), lane,
            [&](int u, UnitA& a0, UnitA& a1) {
              K::load_pair(a0, a1, tile_address, at, T::kExtra, u);
            },
            [&](int u, UnitA& a) { K::load_one(a, tile_address, at, T::kExtra, u); });
        if constexpr (L.conv0_parts == 2) {
          multiply<K, kHT, kU - kPart>(
              hidden, ring.next(), lane,
              [&](int u, UnitA& a0, UnitA& a1) {
                K::load_pair(a0, a1, tile_address, at, T::kExtra, u + kPart);
              },
              [&](int u, UnitA& a) { K::load_one(a, tile_address, at, T::kExtra, u + kPart); });
        }
      }
      // Outside the picture the hidden layer is zero, not relu(bias).
      const bool in_x = x0 + dx >= 0 && x0 + dx < p.grid.width;
      const bool in0 = in_x && y0 + dy >= 0 && y0 + dy < p.grid.height;
      const bool in1 = in_x && y0 + 2 + dy >= 0 && y0 + 2 + dy < p.grid.height;
      UnitA h[kHT];
#pragma unroll
      for (int n = 0; n < kHT; ++n) {
        const float2 b =
            __ldg(reinterpret_cast<const float2*>(p.bias0 + (group * kHT + n) * 8) + t);
        float c[4] = {
            relu(fmaf(hidden[n][0], unscale0, b.x)), relu(fmaf(hidden[n][1], unscale0, b.y)),
            relu(fmaf(hidden[n][2], unscale0, b.x)), relu(fmaf(hidden[n][3], unscale0, b.y))};
        c[0] = in0 ? c[0] : 0.F;
        c[1] = in0 ? c[1] : 0.F;
        c[2] = in1 ? c[2] : 0.F;
        c[3] = in1 ? c[3] : 0.F;
        h[n] = K::encode(c);
      }
      const auto pair = [&](int u, UnitA& a0, UnitA& a1) {
        a0 = h[u];
        a1 = h[u + 1];
      };
      const auto one = [&](int u, UnitA& a) { a = h[u]; };
      constexpr int kCols = part_size(kU, L.conv1_parts, 0);
      multiply<K, kCols, kHT>(reinterpret_cast<float(&)[kCols][4]>(out[0]), ring.next(), lane, pair,
                              one);
      if constexpr (L.conv1_parts == 2) {
        multiply<K, kU - kCols, kHT>(reinterpret_cast<float(&)[kU - kCols][4]>(out[kCols]),
                                     ring.next(), lane, pair, one);
      }
    }

    // The residual; y leaves in FP32 and stays as an operand.
    UnitA y[kU];
    const auto pixel = (static_cast<std::size_t>(o.image) * p.grid.height + y0) * p.grid.width + x0;
    const std::size_t row0 = pixel * (8 * kU),
                      row1 = row0 + 2 * static_cast<std::size_t>(p.grid.width) * (8 * kU);
#pragma unroll
    for (int n = 0; n < kU; ++n) {
      const float2 b = __ldg(reinterpret_cast<const float2*>(p.bias1 + n * 8) + t);
      out[n][0] = fmaf(out[n][0], unscale1, b.x);
      out[n][1] = fmaf(out[n][1], unscale1, b.y);
      out[n][2] = fmaf(out[n][2], unscale1, b.x);
      out[n][3] = fmaf(out[n][3], unscale1, b.y);
    }
    {
      constexpr int kHalf = kU / 4 * 2;
      RowPair<kU, kHalf> first;
      RowPair<kU, kU - kHalf> second;
      auto& low = reinterpret_cast<float(&)[kHalf][4]>(out[0]);
      auto& high = reinterpret_cast<float(&)[kU - kHalf][4]>(out[kHalf]);
      first.fetch(0, p.x + row0, p.x + row1, t);
      first.add(low);
      second.fetch(kHalf, p.x + row0, p.x + row1, t);
      store_rows<kU>(low, 0, p.y + row0, p.y + row1, t);
      second.add(high);
      store_rows<kU>(high, kHalf, p.y + row0, p.y + row1, t);
    }
#pragma unroll
    for (int n = 0; n < kU; ++n) y[n] = K::encode(out[n]);

    // While project_inp runs, the next tile comes in: the last reader of this one was conv0.
    if (ring.resident()) __syncthreads();
    const int next = index + static_cast<int>(gridDim.x);
    const TileOrigin next_origin = tile_origin<WX, WY>(next, p.grid);
    constexpr int kAhead = 3;
    int slice = next < tiles ? 0 : T::kSlices;
    TileWalk<T> walk(thread);
    const float4* next_image = tile_image<T>(p.x, next_origin, p.grid);

    const int block =
        ((o.image * p.grid.height + o.y) / 4 + wy) * (p.grid.width / 4) + o.x / 4 + wx;
    constexpr std::size_t kBlock = block_bytes(L, 2 * kW);
    const float* bias = p.bias_project;
    const auto project = [&](auto is_v, char* to) {
#pragma unroll 1
      for (int s = 0; s < kQSlabs; ++s) {
        const char* slab = ring.next();
        float4 ahead[kAhead];
        const bool fetching = slice < T::kSlices;
        if (fetching) fetch_slices<T>(ahead, walk, next_image, next_origin, p.grid, taps);
        float acc[kNP][4] = {};
        multiply<K, kNP, kU>(
            acc, slab, lane,
            [&](int u, UnitA& a0, UnitA& a1) {
              a0 = y[u];
              a1 = y[u + 1];
            },
            [&](int u, UnitA& a) { a = y[u]; });
        store_projected<K, C, decltype(is_v)::value>(acc, s, bias, unscale_project, to, lane);
        if (fetching) store_slices<K, T>(ahead, walk, tile);
        slice += kAhead;
      }
      bias += kQSlabs * kNP * 8;
    };
    if (p.has_q) project(std::false_type{}, p.q + block * kBlock);
    project(std::true_type{}, p.v + block * kBlock);
    load_tile<K, T>(slice, walk, tile, p.x, next_origin, p.grid, taps);
  }
  cp_async_wait<0>();
}

template <typename K, int C, int WY>
void launch_lfe_tile(const LfeArgs& a, cudaStream_t stream) {
  launch_kernel(&lfe_kernel<K, C, 4, WY>, dim3(static_cast<unsigned>(a.shape.blocks)), 128 * WY,
                static_cast<std::size_t>(a.shape.shared_bytes), stream, a);
}

template <typename K>
void launch_lfe_as(int channels, const LfeArgs& a, cudaStream_t stream) {
  if (channels == 180) {
    a.shape.tile_y == 2 ? launch_lfe_tile<K, 180, 2>(a, stream)
                        : launch_lfe_tile<K, 180, 1>(a, stream);
  } else {
    a.shape.tile_y == 2 ? launch_lfe_tile<K, 60, 2>(a, stream)
                        : launch_lfe_tile<K, 60, 1>(a, stream);
  }
}

}  // namespace elan::cuda
