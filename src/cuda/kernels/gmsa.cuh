// x = y + project_out(attention(q, v)): three groups of windows of 4, 8 and 16 pixels, rolled by
// half a window in shifted ELABs, softmax(q q^T) v with logits and sums in FP32 registers.
//
// A warp has the queries of one block of 4 x 4 pixels and walks over the blocks of keys of its
// window, rescaling as the row maximum grows; no matrix of weights is ever stored. Windows of 8 and
// 16 consist of whole blocks even when rolled; a rolled window of 4 takes quarters of four blocks,
// so there the keys are the 3 x 3 blocks around, and what lies in other windows is masked.
#pragma once

#include <math_constants.h>

#include "cuda/kernels/tile.cuh"

namespace elan::cuda {

__device__ __forceinline__ float exp2_fast(float v) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}

// The running softmax of 16 queries: rows g (0) and g + 8 (1).
template <int U>
struct Attention {
  float out[U][4];
  float top[2], sum[2];  // top is in units of log2
};

// Adds `Blocks` key blocks. q and v of block b are at keys[b] and values[b]; mask(b, tile, row)
// tells whether keys 8 * tile.. of block b are seen by queries g + 8 * row (Masked only).
template <typename K, int U, int Blocks, bool Masked, typename Mask>
__device__ __forceinline__ void attend(Attention<U>& a, const typename K::UnitA (&q)[U],
                                       const char* const (&keys)[Blocks],
                                       const char* const (&values)[Blocks], int lane, Mask mask) {
  using UnitA = typename K::UnitA;
  float s[2 * Blocks][4];
#pragma unroll
  for (int b = 0; b < Blocks; ++b) {
    UnitA k[U];
    load_units<K, U, true>(k, keys[b], lane);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      auto& c = s[2 * b + h];
      c[0] = c[1] = c[2] = c[3] = 0;
#pragma unroll
      for (int u = 0; u + 1 < U; u += 2) {
        K::mma16(c, q[u], q[u + 1], K::half_of(k[u], h), K::half_of(k[u + 1], h));
      }
      if constexpr (U % 2 == 1) K::mma8(c, q[U - 1], K::half_of(k[U - 1], h));
    }
  }
  if constexpr (Masked) {
#pragma unroll
    for (int i = 0; i < 2 * Blocks; ++i) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        if (!mask(i / 2, i % 2, r)) s[i][2 * r] = s[i][2 * r + 1] = -CUDART_INF_F;
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float m = -CUDART_INF_F;
#pragma unroll
    for (int i = 0; i < 2 * Blocks; ++i) m = fmaxf(m, fmaxf(s[i][2 * r], s[i][2 * r + 1]));
    m = fmaxf(m, __shfl_xor_sync(~0U, m, 1));
    m = fmaxf(m, __shfl_xor_sync(~0U, m, 2));
    m = fmaxf(a.top[r], m * CUDART_L2E_F);
    const float shrink = exp2_fast(a.top[r] - m);
    a.top[r] = m;
    a.sum[r] *= shrink;
#pragma unroll
    for (int n = 0; n < U; ++n) {
      a.out[n][2 * r] *= shrink;
      a.out[n][2 * r + 1] *= shrink;
    }
#pragma unroll
    for (int i = 0; i < 2 * Blocks; ++i) {
      s[i][2 * r] = exp2_fast(fmaf(s[i][2 * r], CUDART_L2E_F, -m));
      s[i][2 * r + 1] = exp2_fast(fmaf(s[i][2 * r + 1], CUDART_L2E_F, -m));
      a.sum[r] += s[i][2 * r] + s[i][2 * r + 1];
    }
  }
#pragma unroll
  for (int b = 0; b < Blocks; ++b) {
    UnitA v[U];
    load_units<K, U, false>(v, values[b], lane);
    const UnitA p0 = K::encode(s[2 * b]), p1 = K::encode(s[2 * b + 1]);
#pragma unroll
    for (int n = 0; n < U; ++n)
      K::mma16(a.out[n], p0, p1, K::half_of(v[n], 0), K::half_of(v[n], 1));
  }
}

template <int U>
__device__ __forceinline__ void start(Attention<U>& a) {
#pragma unroll
  for (int n = 0; n < U; ++n) a.out[n][0] = a.out[n][1] = a.out[n][2] = a.out[n][3] = 0;
  a.top[0] = a.top[1] = -CUDART_INF_F;
  a.sum[0] = a.sum[1] = 0;
}

template <typename K, int U>
__device__ __forceinline__ void finish(Attention<U>& a, typename K::UnitA* to) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float l = a.sum[r];
    l += __shfl_xor_sync(~0U, l, 1);
    l += __shfl_xor_sync(~0U, l, 2);
    const float inverse = 1.F / l;
#pragma unroll
    for (int n = 0; n < U; ++n) {
      a.out[n][2 * r] *= inverse;
      a.out[n][2 * r + 1] *= inverse;
    }
  }
#pragma unroll
  for (int n = 0; n < U; ++n) to[n] = K::encode(a.out[n]);
}

template <typename K, int C, bool Staged>
__global__ __launch_bounds__(256, K::kWords == 2
                                      ? 2
                                      : 1) void gmsa_kernel(const __grid_constant__ GmsaArgs p) {
  using UnitA = typename K::UnitA;
  constexpr ChannelLayout L = layout_of(C);
  constexpr int U = L.group_units, kAll = kWindowGroups * U, kN = L.out_tiles;
  constexpr int kW = K::kWords / 2;
  constexpr int kGroup = static_cast<int>(group_bytes(L, 2 * kW));
  constexpr std::size_t kBlock = block_bytes(L, 2 * kW);
  constexpr int kSlab = out_slab_bytes(L, kW);

  extern __shared__ __align__(128) char shared[];
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const int g = lane >> 2, t = lane & 3;

  // Tiles of 16 x 8 pixels: halves of the largest windows, which are rolled by 8 if shifted.
  const int across = p.grid.width / 16, down = p.grid.height / 8;
  const int index = static_cast<int>(blockIdx.x);
  const int image = index / (across * down), r = index - image * across * down;
  const int bw = p.grid.width / 4, bh = p.grid.height / 4;
  const int roll = p.shifted ? 2 : 0;  // of the largest windows, in blocks
  const int tile_by = r / across * 2 + roll, tile_bx = r % across * 4 + roll;
  int by = tile_by + warp / 4, bx = tile_bx + warp % 4;
  by -= by >= bh ? bh : 0;
  bx -= bx >= bw ? bw : 0;
  const std::size_t first_block = static_cast<std::size_t>(image) * bh * bw;
  const auto block_at = [&](int y, int x) {  // y and x may be one period outside
    y += y < 0 ? bh : y >= bh ? -bh : 0;
    x += x < 0 ? bw : x >= bw ? -bw : 0;
    return (first_block + static_cast<std::size_t>(y) * bw + x) * kBlock;
  };

  allow_next();
  SlabRing<kSlab, kSlab, 256> ring(shared + (Staged ? gmsa_window_bytes(L, 2 * kW) : 0), p.weights,
                                   L.out_slabs, L.out_slabs, gmsa_stages(L), thread);
  wait_for_previous();
  if constexpr (Staged) {
    const int wy0 = tile_by - (r / across % 2) * 2, wx0 = tile_bx;
    constexpr int kChunks = kGroup / 16;
    for (int i = thread; i < 2 * 16 * kChunks; i += 256) {
      const int b = i / (2 * kChunks), c = i % (2 * kChunks);
      const char* from =
          (c < kChunks ? p.q : p.v) + block_at(wy0 + b / 4, wx0 + b % 4) + 2 * kGroup;
      cp_async16(shared + i * 16, from + c % kChunks * 16);
    }
    cp_async_commit();
  }

  UnitA o[kAll];
  const std::size_t own = block_at(by, bx);
  {  // windows of 4
    UnitA q[U];
    load_units<K, U, true>(q, p.q + own, lane);
    Attention<U> a;
    start(a);
    if (!p.shifted) {
      attend<K, U, 1, false>(a, q, {p.q + own}, {p.v + own}, lane, 0);
    } else {
      // Keys of the row of blocks at dy; the own row first, where every query sees itself.
#pragma unroll 1
      for (int i = 0; i < 3; ++i) {
        const int dy = i == 2 ? 1 : -i;
        const std::size_t b0 = block_at(by + dy, bx - 1), b1 = block_at(by + dy, bx),
                          b2 = block_at(by + dy, bx + 1);
        const bool query_right = (g & 2) != 0, key_right = (t & 1) != 0;
        attend<K, U, 3, true>(a, q, {p.q + b0, p.q + b1, p.q + b2}, {p.v + b0, p.v + b1, p.v + b2},
                              lane, [&](int b, int tile, int row) {
                                const bool y = dy + tile == row;
                                const bool x =
                                    (b - 1) + (key_right ? 1 : 0) == (query_right ? 1 : 0);
                                return y && x;
                              });
      }
    }
    finish<K>(a, o);
  }
  {  // windows of 8
    UnitA q[U];
    load_units<K, U, true>(q, p.q + own + kGroup, lane);
    Attention<U> a;
    start(a);
    const int s = p.shifted ? 1 : 0;
    const int wy0 = ((by + bh - s) % bh & ~1) + s, wx0 = ((bx + bw - s) % bw & ~1) + s;
#pragma unroll 1
    for (int i = 0; i < 2; ++i) {
      const std::size_t b0 = block_at(wy0 + i, wx0) + kGroup,
                        b1 = block_at(wy0 + i, wx0 + 1) + kGroup;
      attend<K, U, 2, false>(a, q, {p.q + b0, p.q + b1}, {p.v + b0, p.v + b1}, lane, 0);
    }
    finish<K>(a, o + U);
  }
  {  // windows of 16
    UnitA q[U];
    load_units<K, U, true>(q, p.q + own + 2 * kGroup, lane);
    Attention<U> a;
    start(a);
    if constexpr (Staged) {
      cp_async_wait<0>();
      __syncthreads();
#pragma unroll 1
      for (int i = 0; i < 8; ++i) {
        const char* s = shared + i * 4 * kGroup;
        attend<K, U, 2, false>(a, q, {s, s + 2 * kGroup}, {s + kGroup, s + 3 * kGroup}, lane, 0);
      }
    } else {
      const int wy0 = tile_by - (r / across % 2) * 2, wx0 = tile_bx;
#pragma unroll 1
      for (int i = 0; i < 8; ++i) {
        const std::size_t b0 = block_at(wy0 + i / 2, wx0 + i % 2 * 2) + 2 * kGroup,
                          b1 = block_at(wy0 + i / 2, wx0 + i % 2 * 2 + 1) + 2 * kGroup;
        attend<K, U, 2, false>(a, q, {p.q + b0, p.q + b1}, {p.v + b0, p.v + b1}, lane, 0);
      }
      if (ring.resident()) {
        cp_async_wait<0>();
        __syncthreads();
      }
    }
    finish<K>(a, o + 2 * U);
  }

  const int y0 = by * 4 + (g >> 2), x0 = bx * 4 + (g & 3);
  const std::size_t row0 =
      ((static_cast<std::size_t>(image) * p.grid.height + y0) * p.grid.width + x0) * (8 * L.units);
  const std::size_t row1 = row0 + 2 * static_cast<std::size_t>(p.grid.width) * (8 * L.units);
  // The residual of a slab is fetched while the one before is multiplied.
  RowPair<L.units, kN> residual;
  residual.fetch(0, p.y + row0, p.y + row1, t);
#pragma unroll 1
  for (int slab = 0; slab < L.out_slabs; ++slab) {
    const char* weights = ring.next();
    float acc[kN][4] = {};
    multiply<K, kN, kAll>(
        acc, weights, lane,
        [&](int u, UnitA& a0, UnitA& a1) {
          a0 = o[u];
          a1 = o[u + 1];
        },
        [&](int u, UnitA& a) { a = o[u]; });
    const int first = slab * kN;
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      float2 b = make_float2(0, 0);
      if (first + n < L.units)
        b = __ldg(reinterpret_cast<const float2*>(p.bias + (first + n) * 8) + t);
      acc[n][0] = fmaf(acc[n][0], p.unscale, b.x);
      acc[n][1] = fmaf(acc[n][1], p.unscale, b.y);
      acc[n][2] = fmaf(acc[n][2], p.unscale, b.x);
      acc[n][3] = fmaf(acc[n][3], p.unscale, b.y);
    }
    residual.add(acc);
    store_rows<L.units>(acc, first, p.x + row0, p.x + row1, t);
    if (slab + 1 < L.out_slabs) residual.fetch(first + kN, p.y + row0, p.y + row1, t);
  }
  cp_async_wait<0>();
}

template <typename K, int C>
void launch_gmsa_channels(const GmsaArgs& a, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(a.grid.width / 16 * (a.grid.height / 8) * a.grid.batch);
  const auto shared = static_cast<std::size_t>(a.shape.shared_bytes);
  launch_kernel(a.shape.staged ? &gmsa_kernel<K, C, true> : &gmsa_kernel<K, C, false>, dim3(blocks),
                256, shared, stream, a);
}

template <typename K>
void launch_gmsa_as(int channels, const GmsaArgs& a, cudaStream_t stream) {
  if (channels == 180) {
    launch_gmsa_channels<K, 180>(a, stream);
  } else {
    launch_gmsa_channels<K, 60>(a, stream);
  }
}

}  // namespace elan::cuda
