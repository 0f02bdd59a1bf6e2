// The fused LFE of lfe.cuh on Hopper's own instructions, for 60 channels in 16 bits: the same chain
// in registers. All weights stay in shared memory, and so does the stream as it is, in whole lines:
// what each chunk of channels would fetch from where its tap finds it comes from L2 several times.

#include "cuda/kernels/split.cuh"
#include "cuda/kernels/tensor_map.cuh"
#include "cuda/kernels/wgmma.cuh"
#include "cuda/layout_narrow.h"

namespace elan::cuda {
namespace {

constexpr ChannelLayout kL = kNarrowLayout;
constexpr int kU = kL.units, kHT = kL.hidden_tiles, kNP = kNarrowProjectTiles;

struct NarrowLfeArgs : LfeArgs {
  StreamMap map;  // of x, if tiles are copied
};

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
};

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

// Teams of WY warpgroups walk over tiles of WY x M rows of four blocks of pixels, one team after
// the other, through a ring of Buffers tiles; a warpgroup has M of these rows, one after the other.
template <bool F16, typename S, int WY, int M, int Teams, int Buffers>
__global__ __launch_bounds__(
    128 * WY * Teams, Teams > 1 ? 1
                      : WY == 1
                          ? 4
                          : 2) void lfe_narrow_kernel(const __grid_constant__ NarrowLfeArgs p) {
#if ELAN_HOPPER
  using K = Codec16<F16>;
  constexpr bool kCopied = !std::is_same_v<S, float>, kSplit = std::is_same_v<S, Split>;
  constexpr int kTeam = 128 * WY;  // threads
  using T = NarrowTile<WY * M, kTeam, kCopied>;
  using UnitA = UnitA2;

  ELAN_DYNAMIC_SHARED(shared);
  __shared__ int unshifted[kMaxChunks];  // taps for load_tile()
  __shared__ int places[kNarrowReads];   // of what conv0 reads, from its pixel
  __shared__ TileOrigin origins[Buffers];
  // The weights are there; in each buffer the tile of each team; nobody reads a buffer any more.
  __shared__ __align__(8) std::uint64_t barriers[1 + Buffers * (Teams + 1)];
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31;
  const int team = Teams == 1 ? 0 : thread / kTeam, member = thread - team * kTeam;
  const int warpgroup = member / 128, wx = thread / 32 % 4;
  const int g = lane >> 2, t = lane & 3;
  const int weight_bytes = narrow_weight_bytes(p.groups, p.has_q);
  char* const tiles = shared + (-shared_address(shared) & (kNarrowTileAlignment - 1));
  char* const weights = tiles + Buffers * T::kBytes;
  const std::uint32_t stage =
      shared_address(weights) + weight_bytes + thread / 32 * kNarrowStageBytes;
  const CoreSlab<kHT> conv0(shared_address(weights));
  const CoreSlab<kU> conv1(shared_address(weights) + p.groups * kNarrowConv0Bytes);
  const CoreSlab<kNP> projections(shared_address(weights) + narrow_conv_bytes(p.groups));
  const auto stream = stream_at<S, 60>(p.x, p.grid);
  const auto result = stream_at<S, 60>(p.y, p.grid);
  const int count = p.grid.width / 16 * (p.grid.height / (4 * WY * M)) * p.grid.batch;

  const std::uint32_t there = shared_address(barriers), full = there + 8;
  const std::uint32_t empty = full + Buffers * Teams * 8;
  if (thread == 0) {
    barrier_init(there, 1);
#pragma unroll
    for (int i = 0; i < Buffers * Teams; ++i) barrier_init(full + i * 8, kCopied ? 1 : kTeam);
#pragma unroll
    for (int i = 0; i < Buffers; ++i) barrier_init(empty + i * 8, kTeam / 32);
    barrier_init_fence();
    barrier_expect(there, weight_bytes);
    copy_bulk(shared_address(weights), p.weights, weight_bytes, there);
  }
  if (!kCopied && thread < kMaxChunks) unshifted[thread] = 5;
  if (thread < kNarrowReads) {
    NarrowRead read;
    if (!narrow_read(p.chunk_y, p.chunk_x, thread, read)) read = {};
    places[thread] =
        (p.chunk_y[read.chunk] * T::kRow + p.chunk_x[read.chunk]) * T::kPitch + read.chunk / 2 * 16;
  }
  __syncthreads();
  wait_for_previous();

  const int first = static_cast<int>(blockIdx.x), stride = static_cast<int>(gridDim.x);
  const auto full_at = [&](int buffer, int owner) { return full + (buffer * Teams + owner) * 8; };
  // The `step`th tile of this thread block, brought by this team.
  const auto bring = [&](int step, int buffer) {
    const int index = first + step * stride;
    if (index >= count) return;
    if (kCopied && member != 0) return;
    const TileOrigin o = tile_origin<4, WY * M>(index, p.grid);
    if (member == 0) origins[buffer] = o;
    const std::uint32_t arrival = full_at(buffer, step % Teams);
    if constexpr (kCopied) {
      barrier_expect(arrival, T::kBytes);
      copy_box(shared_address(tiles) + buffer * T::kBytes, p.map, o.x - 2, o.y - 2, o.image,
               arrival);
    } else {
      TileWalk<T> walk(member);
      load_tile<K, T>(0, walk, tiles + buffer * T::kBytes, stream, {o.image, o.y - 1, o.x - 1},
                      p.grid, unshifted);
      barrier_arrive(arrival);
    }
  };
  for (int i = team; i < Buffers; i += Teams) bring(i, i);
  barrier_wait(there, 0);

  int reads[kNarrowReads / 2];  // this lane's rows of two units at a time, see K::lane_base()
#pragma unroll
  for (int i = 0; i < kNarrowReads / 2; ++i) reads[i] = places[2 * i + lane / 16];
  // Biases are two rows of weights, in two terms, for what is always this in the operands.
  constexpr std::uint32_t kOnes = kBiasOnes<F16>;
  int buffer = team, uses = 0;
#pragma unroll 1
  for (int step = team; first + step * stride < count; step += Teams) {
    const std::uint32_t tile_address = shared_address(tiles) + buffer * T::kBytes;
    barrier_wait(full_at(buffer, team), uses / Buffers & 1);
    const TileOrigin o = origins[buffer];
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
        const std::uint32_t own = swizzled(
            tile_address + ((wy * 4 + (g >> 2) + 2) * T::kRow + wx * 4 + (g & 3) + 2) * T::kPitch +
            t * 8);
#pragma unroll
        for (int i = 0; i < kU / 2; ++i) {
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            // Two rows of the picture further is as far in the pattern.
            static_assert(2 * T::kRow % 8 == 0);
            uint2 words;
            load_shared2(words.x, words.y, (own ^ i * 32) + h * 2 * T::kRow * T::kPitch);
            const float4 v = widen(words);
            out[2 * i][2 * h] = v.x;
            out[2 * i][2 * h + 1] = v.y;
            out[2 * i + 1][2 * h] = v.z;
            out[2 * i + 1][2 * h + 1] = v.w;
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
        for (int u = 0; u < kNarrowReads; u += 2) {
          const std::uint32_t row = at + reads[u / 2];
          K::load_pair(a[u], a[u + 1], kCopied ? swizzled(row) : row, 0, 0, 0);
        }
        if (t == kNarrowBiasK / 2) a[kNarrowBiasRead] = {{kOnes, kOnes}};
      };
      const auto begin_hidden = [&](float(&hidden)[kHT][4], int group) {
        wgmma_fence();
#pragma unroll
        for (int u = 0; u < kNarrowReads; u += 2) {
          wgmma<F16>(hidden, a[u], a[u + 1], conv0.unit(group * kNarrowReads + u), u > 0);
        }
        wgmma_commit();
      };
      const auto end_hidden = [&](const float(&hidden)[kHT][4], UnitA* h, int group) {
#pragma unroll
        for (int n = 0; n < kHT; ++n) {
          h[n] = K::encode_relu(hidden[n]);
        }
        if (!inner) {
          clear_outside<kHT>(h, p.grid, x0 + p.hidden_x[group], y0 + p.hidden_y[group]);
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
      h[kHT] = t == 0 ? UnitA{{kOnes, kOnes}} : UnitA{};
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

      // The last reader of a tile was conv0.
      if (m == M - 1 && lane == 0) barrier_arrive(empty + buffer * 8);

      // The residual; y leaves and stays as an operand.
      const std::size_t pixel0 =
          (static_cast<std::size_t>(o.image) * p.grid.height + y0) * p.grid.width + x0;
      const std::size_t pixel1 = pixel0 + 2 * static_cast<std::size_t>(p.grid.width);
      const auto from0 = at_pixel<60>(stream, pixel0), from1 = at_pixel<60>(stream, pixel1);
      if constexpr (kCopied) {
        const auto to0 = at_pixel<60>(result, pixel0), to1 = at_pixel<60>(result, pixel1);
        if constexpr (kSplit) {
          RestPair<kU> rest;
          rest.template fetch<kU>(0, from0.rest, from1.rest, t);
          rest.add(out);
          store_rests<kU>(out, 0, to0.rest, to1.rest, t);
        }
        const auto pixel = static_cast<unsigned>(
            (o.image * p.grid.height + o.y + wy * 4) * p.grid.width + o.x + wx * 4);
        store_lines(out, stage, tile_source(result), pixel, p.grid.width, lane);
      } else {
        RowPair<S, kU, kU> own;
        own.fetch(0, from0, from1, t);
        own.add(out);
        store_rows<kU>(out, 0, at_pixel<60>(result, pixel0), at_pixel<60>(result, pixel1), t);
      }
      UnitA y[kU];
#pragma unroll
      for (int n = 0; n < kU; ++n) y[n] = K::encode(out[n]);
      if (t == 3) y[kNarrowPadUnit] = {{kOnes, kOnes}};

      const int block =
          ((o.image * p.grid.height + o.y) / 4 + wy) * (p.grid.width / 4) + o.x / 4 + wx;
      const std::size_t block_at = block * block_bytes(kL, 2);
      float acc[2][kNP][4];
      const auto begin_projection = [&](float(&d)[kNP][4], int unit) {
        wgmma_fence();
#pragma unroll
        for (int u = 0; u < kU; u += 2) {
          wgmma<F16>(d, y[u], y[u + 1], projections.unit(unit + u), u > 0);
        }
        wgmma_commit();
      };
      const auto end_projection = [&](auto is_v, const float(&d)[kNP][4], char* to) {
        UnitA u[kNP];
#pragma unroll
        for (int n = 0; n < kNP; ++n) {
          u[n] = K::encode(d[n]);
          if constexpr (decltype(is_v)::value) K::transpose(u[n]);
        }
        constexpr bool kV = decltype(is_v)::value;
        store_compact<true, kV>(u, to + block_at, lane);
#pragma unroll
        for (int s = 1; s < kWindowGroups; ++s) {
          store_compact<!kV, kV>(u + s * kL.group_units, to + block_at + s * group_bytes(kL, 2),
                                 lane);
        }
      };
      if (p.has_q) {
        begin_projection(acc[0], 0);
        begin_projection(acc[1], kU);
        wgmma_wait<1>(acc[0]);
        end_projection(std::false_type{}, acc[0], p.q);
        wgmma_wait<0>(acc[1]);
        end_projection(std::true_type{}, acc[1], p.v);
      } else {
        begin_projection(acc[0], 0);
        wgmma_wait<0>(acc[0]);
        end_projection(std::true_type{}, acc[0], p.v);
      }
    }
    if (!kCopied || member == 0) barrier_wait(empty + buffer * 8, step / Buffers & 1);
    bring(step + Buffers, buffer);
    ++uses;
    buffer += Teams;
    if (buffer >= Buffers) buffer -= Buffers;
  }
#else
  __trap();
#endif
}

// Calls f(kernel, threads).
template <bool F16, typename S, typename F>
void with_kernel(int tile_y, F f) {
  constexpr int kTeams = narrow_teams(4, !std::is_same_v<S, float>);
  switch (tile_y) {
    case 4:
      return f(&lfe_narrow_kernel<F16, S, 2, 2, kTeams, narrow_buffers(kTeams)>, 256 * kTeams);
    case 2:
      return f(&lfe_narrow_kernel<F16, S, 2, 1, 1, 1>, 256);
    default:
      return f(&lfe_narrow_kernel<F16, S, 1, 1, 1, 1>, 128);
  }
}

template <bool F16, typename S>
void launch(const LfeArgs& a, cudaStream_t stream) {
  NarrowLfeArgs args{a, {}};
  if (!std::is_same_v<S, float>) {
    args.map = stream_map(a.x, a.grid, kU, kNarrowTileRow, 4 * a.shape.tile_y + 4);
  }
  with_kernel<F16, S>(a.shape.tile_y, [&](auto* kernel, int threads) {
    launch_kernel(kernel, dim3(static_cast<unsigned>(a.shape.blocks)), threads,
                  static_cast<std::size_t>(a.shape.shared_bytes), stream, args);
  });
}

template <bool F16, typename S>
void prepare() {
  for (const int tile_y : {1, 2, 4}) {
    with_kernel<F16, S>(
        tile_y, [](auto* kernel, int) { allow_shared(reinterpret_cast<const void*>(kernel)); });
  }
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
