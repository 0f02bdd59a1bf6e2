// y = x + LFE(x), then q and v of y: both shift convolutions, the residual and project_inp.
//
// A hidden channel is read by conv1 at one displacement only, that of its tap. So a warp computes
// the hidden channels of a tap at its own 16 pixels displaced by that tap, and what leaves conv0 in
// its registers is the operand of conv1; the same way y goes on into project_inp. v is computed
// transposed (weights as rows), which leaves it in registers as the attention wants to read it.
#pragma once

#include "cuda/kernels/tile.cuh"

namespace elan::cuda {

// q of project_inp's slab `i`: encode the accumulators and store them.
template <typename K, int C, int N>
__device__ __forceinline__ void store_q(float (&acc)[N][4], int slab, const float* bias,
                                        float unscale, char* block, int lane) {
  constexpr ChannelLayout L = layout_of(C);
  typename K::UnitA u[N];
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const float2 b = __ldg(reinterpret_cast<const float2*>(bias + (slab * N + n) * 8) + (lane & 3));
    acc[n][0] = acc[n][0] * unscale + b.x;
    acc[n][1] = acc[n][1] * unscale + b.y;
    acc[n][2] = acc[n][2] * unscale + b.x;
    acc[n][3] = acc[n][3] * unscale + b.y;
    u[n] = K::encode(acc[n]);
  }
  if constexpr (N <= L.group_units) {  // a slab is a part of a group
    static_assert(N > L.group_units || N % 2 == 0);
    char* p = block + static_cast<std::size_t>(slab) * N * K::kWords * 128;
    store_units<K, N, 0, N>(u, 0, p, lane);
  } else {
#pragma unroll
    for (int g = 0; g < N / L.group_units; ++g) {
      store_units<K, L.group_units, 0, L.group_units>(
          u, g * L.group_units, block + g * L.group_units * K::kWords * 128, lane);
    }
  }
}

// A unit of v: 16 tokens x 8 channels; words as of a UnitA: token units 0 and 1.
template <typename K>
__device__ __forceinline__ typename K::UnitA v_unit(float t0, float t1, float t8, float t9) {
  const auto a = K::encode_b(t0, t1);
  const auto b = K::encode_b(t8, t9);
  return K::stack(a, b);
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
  using Ring = SlabRing<conv_slab_bytes(L, kW), project_slab_bytes(L, kW)>;

  extern __shared__ __align__(128) char shared[];
  __shared__ int taps[kMaxChunks];
  char* tile = shared;
  const auto tile_address = static_cast<std::uint32_t>(__cvta_generic_to_shared(tile));
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  const int wx = warp % WX, wy = warp / WX;
  const int across = p.grid.width / (4 * WX), down = p.grid.height / (4 * WY);
  const int tiles = across * down * p.grid.batch;

  if (thread < kMaxChunks) taps[thread] = (p.chunk_y[thread] + 1) * 4 + p.chunk_x[thread] + 1;
  const int conv_slabs = p.groups * (L.conv0_parts + L.conv1_parts);
  Ring ring(shared + T::kBytes, p.weights, conv_slabs,
            conv_slabs + kQSlabs * (p.has_q ? 2 : 1), p.shape.stages, thread, T::kThreads);
  __syncthreads();

  int index = static_cast<int>(blockIdx.x);
  if (index < tiles) {
    load_tile<K, T>(0, tile, p.x, tile_origin<WX, WY>(index, p.grid), p.grid, taps, thread);
  }
  if (ring.resident()) cp_async_wait<0>();

  const std::uint32_t base = K::lane_base(lane, [&](int r) {
    return static_cast<std::uint32_t>(
        ((wy * 4 + r / 4 + 1) * T::kRow + wx * 4 + r % 4 + 1) * T::kPitch);
  });

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
            [&](int u, UnitA& a0, UnitA& a1) { K::load_pair(a0, a1, tile_address, at, T::kExtra, u); },
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
        const float c[4] = {in0 ? relu(hidden[n][0] * p.unscale0 + b.x) : 0.F,
                            in0 ? relu(hidden[n][1] * p.unscale0 + b.y) : 0.F,
                            in1 ? relu(hidden[n][2] * p.unscale0 + b.x) : 0.F,
                            in1 ? relu(hidden[n][3] * p.unscale0 + b.y) : 0.F};
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
    const std::size_t row0 = pixel * (8 * kU), row1 = row0 + 2 * static_cast<std::size_t>(p.grid.width) * (8 * kU);
#pragma unroll
    for (int n = 0; n < kU; ++n) {
      const float2 b = __ldg(reinterpret_cast<const float2*>(p.bias1 + n * 8) + t);
      const float2 r0 = __ldg(reinterpret_cast<const float2*>(p.x + row0 + n * 8) + t);
      const float2 r1 = __ldg(reinterpret_cast<const float2*>(p.x + row1 + n * 8) + t);
      const float c[4] = {out[n][0] * p.unscale1 + b.x + r0.x, out[n][1] * p.unscale1 + b.y + r0.y,
                          out[n][2] * p.unscale1 + b.x + r1.x, out[n][3] * p.unscale1 + b.y + r1.y};
      reinterpret_cast<float2*>(p.y + row0 + n * 8)[t] = make_float2(c[0], c[1]);
      reinterpret_cast<float2*>(p.y + row1 + n * 8)[t] = make_float2(c[2], c[3]);
      y[n] = K::encode(c);
    }

    // While project_inp runs, the next tile comes in: the last reader of this one was conv0.
    if (ring.resident()) __syncthreads();
    const int next = index + static_cast<int>(gridDim.x);
    const TileOrigin next_origin = tile_origin<WX, WY>(next, p.grid);
    constexpr int kAhead = 3;
    int slice = next < tiles ? 0 : T::kSlices;
    float4 ahead[kAhead];

    const int block = ((o.image * p.grid.height + o.y) / 4 + wy) * (p.grid.width / 4) + o.x / 4 + wx;
    constexpr std::size_t kBlock = block_bytes(L, 2 * kW);
    const float* bias = p.bias_project;
    const auto y_pair = [&](int u, UnitA& a0, UnitA& a1) {
      a0 = y[u];
      a1 = y[u + 1];
    };
    if (p.has_q) {
#pragma unroll 1
      for (int s = 0; s < kQSlabs; ++s) {
        const char* slab = ring.next();
        if (slice < T::kSlices) fetch_slices<T>(ahead, slice, p.x, next_origin, p.grid, taps, thread);
        float acc[kNP][4] = {};
        multiply<K, kNP, kU>(acc, slab, lane, y_pair, [&](int u, UnitA& a) { a = y[u]; });
        store_q<K, C>(acc, s, bias, p.unscale_project, p.q + block * kBlock, lane);
        if (slice < T::kSlices) store_slices<K, T>(ahead, slice, tile, thread);
        slice += kAhead;
      }
      bias += kQSlabs * kNP * 8;
    }
#pragma unroll 1
    for (int s = 0; s < kQSlabs; ++s) {
      const char* slab = ring.next();
      if (slice < T::kSlices) fetch_slices<T>(ahead, slice, p.x, next_origin, p.grid, taps, thread);
      // Tiles of channels in pairs are the 16 rows; tokens 0-7 and 8-15 the columns.
      constexpr int kPairs = (kNP + 1) / 2;
      float acc[kPairs][2][4] = {};
      WordStream words(slab, lane);
      const typename K::UnitB zero = {};
#pragma unroll
      for (int u = 0; u < kU; u += 2) {
        const bool last = u + 1 == kU;  // an odd unit alone
        typename K::UnitB w0[kNP], w1[kNP];
#pragma unroll
        for (int n = 0; n < kNP; ++n) {
          w0[n] = words.unit<K>();
          if (!last) w1[n] = words.unit<K>();
        }
#pragma unroll
        for (int i = 0; i < kPairs; ++i) {
          const bool odd = 2 * i + 1 == kNP;
          const UnitA a0 = K::stack(w0[2 * i], odd ? zero : w0[odd ? 0 : 2 * i + 1]);
          if (last) {
            K::mma8(acc[i][0], a0, K::half_of(y[u], 0));
            K::mma8(acc[i][1], a0, K::half_of(y[u], 1));
          } else {
            const UnitA a1 = K::stack(w1[2 * i], odd ? zero : w1[odd ? 0 : 2 * i + 1]);
            const int u1 = last ? u : u + 1;
            K::mma16(acc[i][0], a0, a1, K::half_of(y[u], 0), K::half_of(y[u1], 0));
            K::mma16(acc[i][1], a0, a1, K::half_of(y[u], 1), K::half_of(y[u1], 1));
          }
        }
      }
      UnitA units[kNP];
#pragma unroll
      for (int n = 0; n < kNP; ++n) {
        const float b = __ldg(bias + (s * kNP + n) * 8 + g);
        const int h = n % 2 * 2;
        const auto& a = acc[n / 2];
        units[n] = v_unit<K>(a[0][h] * p.unscale_project + b, a[0][h + 1] * p.unscale_project + b,
                             a[1][h] * p.unscale_project + b, a[1][h + 1] * p.unscale_project + b);
      }
      char* to = p.v + block * kBlock;
      if constexpr (kNP <= L.group_units) {
        store_units<K, kNP, 0, kNP>(units, 0, to + static_cast<std::size_t>(s) * kNP * K::kWords * 128,
                                    lane);
      } else {
#pragma unroll
        for (int k = 0; k < kNP / L.group_units; ++k) {
          store_units<K, L.group_units, 0, L.group_units>(
              units, k * L.group_units, to + k * L.group_units * K::kWords * 128, lane);
        }
      }
      if (slice < T::kSlices) store_slices<K, T>(ahead, slice, tile, thread);
      slice += kAhead;
    }
    if (slice < T::kSlices) load_tile<K, T>(slice, tile, p.x, next_origin, p.grid, taps, thread);
  }
  cp_async_wait<0>();
}

template <typename K, int C, int WY>
void launch_lfe_tile(const LfeArgs& a, cudaStream_t stream) {
  lfe_kernel<K, C, 4, WY><<<static_cast<unsigned>(a.shape.blocks), 128 * WY,
                            static_cast<std::size_t>(a.shape.shared_bytes), stream>>>(a);
}

template <typename K>
void launch_lfe_as(int channels, const LfeArgs& a, cudaStream_t stream) {
  if (channels == 180) {
    a.shape.tile_y == 2 ? launch_lfe_tile<K, 180, 2>(a, stream) : launch_lfe_tile<K, 180, 1>(a, stream);
  } else {
    a.shape.tile_y == 2 ? launch_lfe_tile<K, 60, 2>(a, stream) : launch_lfe_tile<K, 60, 1>(a, stream);
  }
}

}  // namespace elan::cuda
