// The fused LFE of lfe.cuh on Hopper's own instructions, for 60 channels in 16 bits: the same chain
// in registers. All weights stay in shared memory, and so does the stream as it is, in whole lines:
// what each chunk of channels would fetch from where its tap finds it comes from L2 several times.

#include "cuda/kernels/split.cuh"
#include "cuda/kernels/wgmma.cuh"

namespace elan::cuda {
namespace {

constexpr ChannelLayout kL = kNarrowLayout;
constexpr int kU = kL.units, kHT = kL.hidden_tiles, kNP = kNarrowProjectTiles;

#if ELAN_HOPPER

// All biases, by all threads: of conv1, of q and v, of the hidden groups.
template <int Threads>
__device__ __forceinline__ void stage_narrow_biases(float* biases, const LfeArgs& p) {
  const int projected = kNP * 8 * (p.has_q ? 2 : 1);
  for (int i = static_cast<int>(threadIdx.x); i < narrow_biases(p.groups); i += Threads) {
    if (i < kNarrowBiasProject) {
      biases[i] = p.bias1[i];
    } else if (i < kNarrowBias0) {
      biases[i] = i - kNarrowBiasProject < projected ? p.bias_project[i - kNarrowBiasProject] : 0.F;
    } else {
      biases[i] = p.bias0[i - kNarrowBias0];
    }
  }
}

// A tile with its ring of two pixels.
template <int BY, int Threads>
struct NarrowTile {
  static constexpr ChannelLayout kLayout = kL;
  static constexpr int kRow = kNarrowTileRow, kPitch = kNarrowPitch, kPlane = 0;
  static constexpr int kBytes = narrow_tile_bytes(BY);
  static constexpr int kChunks = 2 * kU;
  static constexpr int kWidth = kRow, kHeight = 4 * BY + 4;
  static constexpr int kThreads = Threads;
  static constexpr int kSlices = (kWidth * kHeight * kChunks + kThreads - 1) / kThreads;
};

// 16 bytes a copy, zeros from outside the picture.
template <typename T>
__device__ __forceinline__ void copy_whole_pixels(std::uint32_t tile, const __half* x, TileOrigin o,
                                                  const Grid& g, int thread) {
  constexpr int kPixels = T::kThreads / kU;  // at once
  constexpr int kRows = kPixels / T::kWidth, kColumns = kPixels % T::kWidth;
  const int piece = thread % kU;
  int column = thread / kU % T::kWidth, row = thread / kU / T::kWidth;
  const uint4* image = reinterpret_cast<const uint4*>(x) +
                       static_cast<std::size_t>(o.image) * g.height * g.width * kU + piece;
  std::uint32_t to = tile + thread / kU * T::kPitch + piece * 16;
#pragma unroll 4
  for (int i = thread / kU; i < T::kWidth * T::kHeight; i += kPixels) {
    const int px = o.x - 2 + column, py = o.y - 2 + row;
    const bool there = static_cast<unsigned>(px) < static_cast<unsigned>(g.width) &&
                       static_cast<unsigned>(py) < static_cast<unsigned>(g.height);
    cp_async16_or_zeros(to, image + (there ? (py * g.width + px) * kU : 0), there);
    to += kPixels * T::kPitch;
    column += kColumns;
    row += kRows;
    if (column >= T::kWidth) {
      column -= T::kWidth;
      ++row;
    }
  }
}

#endif

// Tiles are WY x M rows of four blocks of pixels; a warpgroup has M of these rows, one after the
// other.
template <bool F16, typename S, int WY, int M>
__global__ __launch_bounds__(128 * WY, WY == 1 ? 4 : 2) void lfe_narrow_kernel(
    const __grid_constant__ LfeArgs p) {
#if ELAN_HOPPER
  using K = Codec16<F16>;
  using T = NarrowTile<WY * M, 128 * WY>;
  using UnitA = UnitA2;
  constexpr bool kCopied = !std::is_same_v<S, float>, kSplit = std::is_same_v<S, Split>;

  ELAN_DYNAMIC_SHARED(shared);
  __shared__ int unshifted[kMaxChunks];  // taps for load_tile()
  __shared__ int places[kNarrowReads];   // of what conv0 reads, from its pixel
  __shared__ __align__(8) std::uint64_t weights_there;
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31;
  const int warpgroup = thread / 128, wx = thread / 32 % 4;
  const int g = lane >> 2, t = lane & 3;
  const int weight_bytes = narrow_weight_bytes(p.groups, p.has_q);
  char* tile = shared + weight_bytes;
  float* biases = reinterpret_cast<float*>(tile + T::kBytes);
  const std::uint32_t tile_address = shared_address(tile);
  const std::uint32_t conv0 = shared_address(shared), conv1 = conv0 + p.groups * kNarrowConv0Bytes;
  const std::uint32_t projections = conv0 + narrow_conv_bytes(p.groups);
  const auto stream = stream_at<S, 60>(p.x, p.grid);
  const auto result = stream_at<S, 60>(p.y, p.grid);
  const int tiles = p.grid.width / 16 * (p.grid.height / (4 * WY * M)) * p.grid.batch;

  allow_next();
  const std::uint32_t there = shared_address(&weights_there);
  if (thread == 0) {
    barrier_init(there, 1);
    barrier_init_fence();
    barrier_expect(there, weight_bytes);
    copy_bulk(conv0, p.weights, weight_bytes, there);
  }
  if (!kCopied && thread < kMaxChunks) unshifted[thread] = 5;
  if (thread < kNarrowReads) {
    NarrowRead read;
    if (!narrow_read(p.chunk_y, p.chunk_x, thread, read)) read = {};
    places[thread] =
        (p.chunk_y[read.chunk] * T::kRow + p.chunk_x[read.chunk]) * T::kPitch + read.chunk / 2 * 16;
  }
  stage_narrow_biases<T::kThreads>(biases, p);
  __syncthreads();
  wait_for_previous();

  const auto bring = [&](int index) {
    if (index >= tiles) return;
    const TileOrigin o = tile_origin<4, WY * M>(index, p.grid);
    if constexpr (kCopied) {
      copy_whole_pixels<T>(tile_address, tile_source(stream), o, p.grid, thread);
      cp_async_commit();
    } else {
      TileWalk<T> walk(thread);
      load_tile<K, T>(0, walk, tile, stream, {o.image, o.y - 1, o.x - 1}, p.grid, unshifted);
    }
  };
  int index = static_cast<int>(blockIdx.x);
  bring(index);
  barrier_wait(there, 0);

  int reads[kNarrowReads / 2];  // this lane's rows of two units at a time, see K::lane_base()
#pragma unroll
  for (int i = 0; i < kNarrowReads / 2; ++i) reads[i] = places[2 * i + lane / 16];
  const auto bias_at = [&](int i) { return *(reinterpret_cast<const float2*>(biases + i) + t); };
  const float unscale0 = p.unscale0, unscale1 = p.unscale1, unscale_project = p.unscale_project;
#pragma unroll 1
  for (; index < tiles; index += static_cast<int>(gridDim.x)) {
    const TileOrigin o = tile_origin<4, WY * M>(index, p.grid);
    if constexpr (kCopied) cp_async_wait<0>();
    __syncthreads();
    const bool inner =
        o.y > 0 && o.x > 0 && o.y + 4 * WY * M < p.grid.height && o.x + 16 < p.grid.width;

#pragma unroll 1
    for (int m = 0; m < M; ++m) {
      const int wy = warpgroup * M + m;
      const int y0 = o.y + wy * 4 + (g >> 2), x0 = o.x + wx * 4 + (g & 3);  // of token g
      const int r = lane & 15;
      const std::uint32_t base =
          tile_address + ((wy * 4 + r / 4 + 2) * T::kRow + wx * 4 + r % 4 + 2) * T::kPitch;
      float out[kU][4];
      if constexpr (kCopied) {
        const char* own =
            tile + ((wy * 4 + (g >> 2) + 2) * T::kRow + wx * 4 + (g & 3) + 2) * T::kPitch + t * 8;
#pragma unroll
        for (int i = 0; i < kU / 2; ++i) {
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            const float4 v =
                widen(*reinterpret_cast<const uint2*>(own + i * 32 + h * 2 * T::kRow * T::kPitch));
            out[2 * i][2 * h] = v.x * p.scale1;
            out[2 * i][2 * h + 1] = v.y * p.scale1;
            out[2 * i + 1][2 * h] = v.z * p.scale1;
            out[2 * i + 1][2 * h + 1] = v.w * p.scale1;
          }
        }
      } else {
#pragma unroll
        for (int n = 0; n < kU; ++n) out[n][0] = out[n][1] = out[n][2] = out[n][3] = 0;
      }

      UnitA a[kNarrowReads];
      const auto fetch = [&](int group) {
        const std::uint32_t at =
            base + (p.hidden_y[group] * T::kRow + p.hidden_x[group]) * T::kPitch;
#pragma unroll
        for (int u = 0; u < kNarrowReads; u += 2)
          K::load_pair(a[u], a[u + 1], at, reads[u / 2], 0, 0);
      };
      const auto begin_hidden = [&](float(&hidden)[kHT][4], int group) {
        const std::uint32_t slab = conv0 + group * kNarrowConv0Bytes;
        wgmma_fence();
#pragma unroll
        for (int u = 0; u < kNarrowReads; u += 2) {
          wgmma<F16>(hidden, a[u], a[u + 1], core_descriptor(slab + u * kHT * 128, kHT), u > 0);
        }
        wgmma_commit();
      };
      // Outside the picture the hidden layer is zero, not relu(bias).
      const auto end_hidden = [&](const float(&hidden)[kHT][4], UnitA* h, int group) {
#pragma unroll
        for (int n = 0; n < kHT; ++n) {
          const float2 b = bias_at(kNarrowBias0 + (group * kHT + n) * 8);
          float c[4];
          apply(c, hidden[n], make_float2(unscale0, unscale0), b);
          h[n] = K::encode_relu(c);
        }
        if (!inner) {
          const int x = x0 + p.hidden_x[group], y = y0 + p.hidden_y[group];
          const bool in_x = x >= 0 && x < p.grid.width;
          const bool in0 = in_x && y >= 0 && y < p.grid.height;
          const bool in1 = in_x && y + 2 >= 0 && y + 2 < p.grid.height;
#pragma unroll
          for (int n = 0; n < kHT; ++n) keep_rows(h[n], in0, in1);
        }
      };
      // Two groups at once, whose 2 * kHT units of k are whole steps of conv1.
      UnitA h[2 * kHT];
      float hidden[2][kHT][4];
      const auto add_hidden = [&](auto units, int group) {
        wgmma_fence();
#pragma unroll
        for (int u = 0; u < decltype(units)::value; u += 2) {
          wgmma<F16>(out, h[u], h[u + 1], core_descriptor(conv1 + (group * kHT + u) * kU * 128, kU),
                     1);
        }
        wgmma_commit();
      };
      fetch(0);
      int group = 0;
#pragma unroll 1
      for (; group + 1 < p.groups; group += 2) {
        begin_hidden(hidden[0], group);
        wgmma_wait<0>(hidden[0]);
        fetch(group + 1);
        begin_hidden(hidden[1], group + 1);
        end_hidden(hidden[0], h, group);
        wgmma_wait<0>(hidden[1]);
        end_hidden(hidden[1], h + kHT, group + 1);
        add_hidden(std::integral_constant<int, 2 * kHT>{}, group);
        if (group + 2 < p.groups) fetch(group + 2);
        wgmma_wait<0>(out);
      }
      if (group < p.groups) {
        begin_hidden(hidden[0], group);
        wgmma_wait<0>(hidden[0]);
        end_hidden(hidden[0], h, group);
        h[kHT] = {};
        add_hidden(std::integral_constant<int, kHT>{}, group);
        wgmma_wait<0>(out);
      }

      // The residual; y leaves and stays as an operand.
      const std::size_t pixel0 =
          (static_cast<std::size_t>(o.image) * p.grid.height + y0) * p.grid.width + x0;
      const std::size_t pixel1 = pixel0 + 2 * static_cast<std::size_t>(p.grid.width);
      const auto from0 = at_pixel<60>(stream, pixel0), from1 = at_pixel<60>(stream, pixel1);
#pragma unroll
      for (int n = 0; n < kU; ++n) {
        apply(out[n], out[n], make_float2(unscale1, unscale1), bias_at(kNarrowBias1 + n * 8));
      }
      if constexpr (!kCopied) {
        RowPair<S, kU, kU> own;
        own.fetch(0, from0, from1, t);
        own.add(out);
      }
      if constexpr (kSplit) {
        RestPair<kU> rest;
        rest.template fetch<kU>(0, from0.rest, from1.rest, t);
        rest.add(out);
      }
      store_rows<kU>(out, 0, at_pixel<60>(result, pixel0), at_pixel<60>(result, pixel1), t);
      UnitA y[kU];
#pragma unroll
      for (int n = 0; n < kU; ++n) y[n] = K::encode(out[n]);

      // While the last projection runs, the next tile comes in: the last reader of this one was
      // conv0.
      if (m == M - 1) {
        __syncthreads();
        if constexpr (kCopied) bring(index + static_cast<int>(gridDim.x));
      }

      const int block =
          ((o.image * p.grid.height + o.y) / 4 + wy) * (p.grid.width / 4) + o.x / 4 + wx;
      const std::size_t block_at = block * block_bytes(kL, 2);
      float acc[2][kNP][4];
      const auto begin_projection = [&](float(&d)[kNP][4], std::uint32_t slab) {
        wgmma_fence();
#pragma unroll
        for (int u = 0; u < kU; u += 2) {
          wgmma<F16>(d, y[u], y[u + 1], core_descriptor(slab + u * kNP * 128, kNP), u > 0);
        }
        wgmma_commit();
      };
      const auto end_projection = [&](auto is_v, const float(&d)[kNP][4], int bias, char* to) {
        UnitA u[kNP];
#pragma unroll
        for (int n = 0; n < kNP; ++n) {
          float c[4];
          apply(c, d[n], make_float2(unscale_project, unscale_project), bias_at(bias + n * 8));
          u[n] = K::encode(c);
          if constexpr (decltype(is_v)::value) K::transpose(u[n]);
        }
        store_units<K, kL.group_units, true>(u, to + block_at, lane);
#pragma unroll
        for (int s = 1; s < kWindowGroups; ++s) {
          store_units<K, kL.group_units, !decltype(is_v)::value>(
              u + s * kL.group_units, to + block_at + s * group_bytes(kL, 2), lane);
        }
      };
      if (p.has_q) {
        begin_projection(acc[0], projections);
        begin_projection(acc[1], projections + kNarrowProjectBytes);
        wgmma_wait<1>(acc[0]);
        end_projection(std::false_type{}, acc[0], kNarrowBiasProject, p.q);
        wgmma_wait<0>(acc[1]);
        end_projection(std::true_type{}, acc[1], kNarrowBiasProject + kNP * 8, p.v);
      } else {
        begin_projection(acc[0], projections);
        wgmma_wait<0>(acc[0]);
        end_projection(std::true_type{}, acc[0], kNarrowBiasProject, p.v);
      }
    }
    if constexpr (!kCopied) bring(index + static_cast<int>(gridDim.x));
  }
#else
  __trap();
#endif
}

template <bool F16, typename S>
void launch(const LfeArgs& a, cudaStream_t stream) {
  const auto as = [&](auto* kernel, int threads) {
    launch_kernel(kernel, dim3(static_cast<unsigned>(a.shape.blocks)), threads,
                  static_cast<std::size_t>(a.shape.shared_bytes), stream, a);
  };
  switch (a.shape.tile_y) {
    case 4:
      return as(&lfe_narrow_kernel<F16, S, 2, 2>, 256);
    case 2:
      return as(&lfe_narrow_kernel<F16, S, 2, 1>, 256);
    default:
      return as(&lfe_narrow_kernel<F16, S, 1, 1>, 128);
  }
}

template <bool F16, typename S>
void prepare() {
  allow_shared(reinterpret_cast<const void*>(&lfe_narrow_kernel<F16, S, 2, 2>));
  allow_shared(reinterpret_cast<const void*>(&lfe_narrow_kernel<F16, S, 2, 1>));
  allow_shared(reinterpret_cast<const void*>(&lfe_narrow_kernel<F16, S, 1, 1>));
}

}  // namespace

void prepare_lfe_hopper_narrow() {
  prepare<true, __half>();
  prepare<true, Split>();
  prepare<true, float>();
  prepare<false, float>();
}

void launch_lfe_hopper_narrow(Operand operand, const LfeArgs& a, cudaStream_t stream) {
  if (operand == Operand::bf16) return launch<false, float>(a, stream);
  switch (a.format) {
    case StreamFormat::fp16:
      return launch<true, __half>(a, stream);
    case StreamFormat::split:
      return launch<true, Split>(a, stream);
    case StreamFormat::fp32:
      return launch<true, float>(a, stream);
  }
}

}  // namespace elan::cuda
