// The fused LFE of lfe.cuh on Hopper's own instructions, for 60 channels in 16 bits: the same chain
// in registers. All weights stay in shared memory, and so does the stream as it is, in whole lines:
// what each chunk of channels would fetch from where its tap finds it comes from L2 several times.

#include "cuda/kernels/lfe_hopper_narrow.cuh"

namespace elan::cuda {
namespace {

using namespace narrow_lfe;

struct NarrowLfeArgs : LfeArgs {
  StreamMap map;  // of x, if tiles are copied
};

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
  if (thread < kNarrowReads) places[thread] = T::place(p, thread);
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
      const auto in_tile = [&](int row, int column) {
        return tile_address + ((wy * 4 + row + 2) * T::kRow + wx * 4 + column + 2) * T::kPitch;
      };
      float out[kU][4];
      if constexpr (kCopied) {
        start_from_own<T>(out, in_tile(g >> 2, g & 3), t);
      } else {
#pragma unroll
        for (int n = 0; n < kU; ++n) out[n][0] = out[n][1] = out[n][2] = out[n][3] = 0;
      }

      add_convolutions<F16, T>(out, p, conv0, conv1, reads, {in_tile(r / 4, r % 4), y0, x0, inner},
                               t);

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
      if (t == 3) y[kNarrowPadUnit] = {{kBiasOnes<F16>, kBiasOnes<F16>}};

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
