// What the kernels of the narrow network on Hopper that hold an LFE share: a tile of the stream in
// shared memory, both convolutions of a warp's block of pixels, and how pixels leave in whole
// lines.
#pragma once

#include "cuda/kernels/split.cuh"
#include "cuda/kernels/tensor_map.cuh"
#include "cuda/kernels/wgmma.cuh"
#include "cuda/layout_narrow.h"

namespace elan::cuda {
namespace narrow_lfe {

constexpr ChannelLayout kL = kNarrowLayout;
constexpr int kU = kL.units, kHT = kL.hidden_tiles, kNP = kNarrowProjectTiles;

#if ELAN_HOPPER

// A tile with its ring of two pixels. Copied: as it comes, in lines of 128 bytes, the eighths of
// which are where the hardware's pattern puts them (swizzled()); else as operands, as other tiles.
template <int BY, int Threads, bool Copied>
struct NarrowTile {
  static constexpr ChannelLayout kLayout = kL;
  static constexpr int kRow = kNarrowTileRow, kPitch = narrow_pitch(Copied), kPlane = 0;
  static constexpr int kBytes = narrow_tile_bytes(BY, Copied);
  static constexpr int kChunks = 2 * kU;
  static constexpr int kWidth = kRow, kHeight = 4 * BY + 4;
  static constexpr int kThreads = Threads;
  static constexpr int kSlices = (kWidth * kHeight * kChunks + kThreads - 1) / kThreads;
  static constexpr bool kCopied = Copied;

  // From a pixel to what the `read`th read of conv0 wants.
  static __device__ __forceinline__ int place(const LfeArgs& p, int read) {
    NarrowRead r;
    if (!narrow_read(p.chunk_y, p.chunk_x, read, r)) r = {};
    return (p.chunk_y[r.chunk] * kRow + p.chunk_x[r.chunk]) * kPitch + r.chunk / 2 * 16;
  }
};

// A warp's block of 4 x 4 pixels: `base` is where this lane's rows begin in the tile (see
// Codec16::lane_base()), (y0, x0) the pixel of token g in the picture. inner: the tile is not at
// the picture's rim.
struct LfeBlock {
  std::uint32_t base;
  int y0, x0;
  bool inner;
};

// The block's own pixels as accumulators, from a copied tile; `own` is where token g's begin.
template <typename T>
__device__ __forceinline__ void start_from_own(float (&out)[kU][4], std::uint32_t own, int t) {
  static_assert(T::kCopied);
  const std::uint32_t at = swizzled(own + t * 8);
#pragma unroll
  for (int i = 0; i < kU / 2; ++i) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      // Two rows of the picture further is as far in the pattern.
      static_assert(2 * T::kRow % 8 == 0);
      uint2 words;
      load_shared2(words.x, words.y, (at ^ i * 32) + h * 2 * T::kRow * T::kPitch);
      const float4 v = widen(words);
      out[2 * i][2 * h] = v.x;
      out[2 * i][2 * h + 1] = v.y;
      out[2 * i + 1][2 * h] = v.z;
      out[2 * i + 1][2 * h + 1] = v.w;
    }
  }
}

// out += conv1(relu(conv0(tile))) of a block; `reads` are this lane's rows of two units at a time.
template <bool F16, typename T>
__device__ __forceinline__ void add_convolutions(float (&out)[kU][4], const LfeArgs& p,
                                                 const CoreSlab<kHT>& conv0,
                                                 const CoreSlab<kU>& conv1,
                                                 const int (&reads)[kNarrowReads / 2],
                                                 const LfeBlock& block, int t) {
  using K = Codec16<F16>;
  using UnitA = UnitA2;
  UnitA a[kNarrowReads];
  const auto fetch = [&](int group) {
    const std::uint32_t at =
        block.base + (p.hidden_y[group] * T::kRow + p.hidden_x[group]) * T::kPitch;
#pragma unroll
    for (int u = 0; u < kNarrowReads; u += 2) {
      const std::uint32_t row = at + reads[u / 2];
      K::load_pair(a[u], a[u + 1], T::kCopied ? swizzled(row) : row, 0, 0, 0);
    }
    if (t == kNarrowBiasK / 2) a[kNarrowBiasRead] = {{kBiasOnes<F16>, kBiasOnes<F16>}};
  };
  const auto begin_hidden = [&](float(&hidden)[kHT][4], int group) {
    wgmma_fence();
    wgmma<F16, false>(hidden, a[0], a[1], conv0.unit(group * kNarrowReads));
#pragma unroll
    for (int u = 2; u < kNarrowReads; u += 2) {
      wgmma<F16, true>(hidden, a[u], a[u + 1], conv0.unit(group * kNarrowReads + u));
    }
    wgmma_commit();
  };
  const auto end_hidden = [&](const float(&hidden)[kHT][4], UnitA* h, int group) {
#pragma unroll
    for (int n = 0; n < kHT; ++n) {
      h[n] = K::encode_relu(hidden[n]);
    }
    if (!block.inner) {
      clear_outside<kHT>(h, p.grid, block.x0 + p.hidden_x[group], block.y0 + p.hidden_y[group]);
    }
  };
  // Units of k from `first` on.
  UnitA h[2 * kHT];
  float hidden[2][kHT][4];
  const auto add_hidden = [&](auto units, int first) {
    wgmma_fence();
#pragma unroll
    for (int u = 0; u < decltype(units)::value; u += 2) {
      wgmma<F16>(out, h[u], h[u + 1], conv1.unit(first + u), 1);
    }
    wgmma_commit();
  };
  // The first group with conv1's biases; then two groups at once, whose units of k are as many
  // as steps of conv1 take.
  fetch(0);
  begin_hidden(hidden[0], 0);
  wgmma_wait<0>(hidden[0]);
  fetch(1);
  end_hidden(hidden[0], h, 0);
  h[kHT] = t == 0 ? UnitA{{kBiasOnes<F16>, kBiasOnes<F16>}} : UnitA{};
  add_hidden(std::integral_constant<int, kHT + 1>{}, 0);
  wgmma_wait<0>(out);
#pragma unroll 1
  for (int group = 1; group < p.groups; group += 2) {
    begin_hidden(hidden[0], group);
    wgmma_wait<0>(hidden[0]);
    fetch(group + 1);
    begin_hidden(hidden[1], group + 1);
    end_hidden(hidden[0], h, group);
    wgmma_wait<0>(hidden[1]);
    end_hidden(hidden[1], h + kHT, group + 1);
    add_hidden(std::integral_constant<int, 2 * kHT>{}, group * kHT + 1);
    if (group + 2 < p.groups) fetch(group + 2);
    wgmma_wait<0>(out);
  }
}

// Rows g and g + 8 of a warp's block as FP16 to whole lines of the stream, through a KiB of shared
// memory. `pixel` is the block's first.
__device__ __forceinline__ void store_lines(const float (&acc)[kU][4], std::uint32_t stage,
                                            __half* stream, std::size_t pixel, int width,
                                            int lane) {
  const int g = lane >> 2, t = lane & 3;
  const auto place = [&](int token) { return token * 128 + ((token & 3) << 5 | (token & 4) << 2); };
  const std::uint32_t to = stage + (place(g) ^ t * 8);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (h > 0) __syncwarp();
#pragma unroll
    for (int i = 0; i < kU / 2; ++i) {
      uint2 v;
      narrow(v, acc[2 * i][2 * h], acc[2 * i][2 * h + 1], acc[2 * i + 1][2 * h],
             acc[2 * i + 1][2 * h + 1]);
      store_shared2(to ^ i * 32, v.x, v.y);
    }
    __syncwarp();
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const uint4 line = load_shared4(stage + (place(4 * j + lane / 8) ^ lane % 8 * 16));
      reinterpret_cast<uint4*>(at_pixel<60>(stream, pixel + (2 * h + j) * width))[lane] = line;
    }
  }
}

#endif

}  // namespace narrow_lfe
}  // namespace elan::cuda
