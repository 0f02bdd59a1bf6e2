// LFE and GMSA of a pair of an unshifted ELAB in one kernel, for the narrow network in FP16 on a
// stream of FP16 or a split one: the pixels of a window of 16 are all that its attention needs, so
// y, v and, but where a later pair reads it, q stay on the multiprocessor. What is computed is what
// the two kernels compute, bit for bit.
//
// Two teams of two warpgroups have a window each, half a window's time apart: while one is at its
// convolutions, which wait for tensor cores and shared memory, the other is at its softmaxes. That
// comes of the one tile in shared memory, which a team gets when the other has read it. A warp has
// two blocks of 4 x 4 pixels, the m-th in the m-th of its warpgroup's windows of 8. y is put aside
// in shared memory, by each lane for itself, rests of a split stream where those of the result will
// be; q and v of a window group come to one place for all groups, one after the other.

#include "cuda/kernels/gmsa_hopper_narrow.cuh"
#include "cuda/kernels/lfe_hopper_narrow.cuh"

namespace elan::cuda {
namespace {

struct PairArgs : LfeArgs {
  GmsaArgs gmsa;
  StreamMap map;  // of x
  // Of a split stream the bytes behind its first terms.
  const char* x_rests;
  char* rests;  // of the result
};

#if ELAN_HOPPER

using namespace hopper_narrow;
using narrow_lfe::kHT;
using narrow_lfe::kNP;
using narrow_lfe::kU;
using K = CodecFp16;
using UnitA = UnitA2;
using Queries =
    UnitA[2][kGU];  // units of a window group of a warp's two blocks; or keys, or values

// The teams' way over the windows, `stride` at a time.
struct WindowWalk {
  TileOrigin at, step;

  __device__ __forceinline__ WindowWalk(int first, int stride, const Grid& g)
      : at(tile_origin<4, 4>(first, g)), step(tile_origin<4, 4>(stride, g)) {}
  __device__ __forceinline__ bool done(const Grid& g) const { return at.image >= g.batch; }
  __device__ __forceinline__ void next(const Grid& g) {
    at.x += step.x;
    at.y += step.y;
    at.image += step.image;
    if (at.x >= g.width) {
      at.x -= g.width;
      at.y += 16;
    }
    if (at.y >= g.height) {
      at.y -= g.height;
      ++at.image;
    }
  }
};

// The operands of a block as core matrices: as CoreCopies would leave them, but for the order of
// tokens and channels. Transposed: values.
template <bool Transposed>
__device__ __forceinline__ void store_cores(const UnitA (&u)[kGU], std::uint32_t to, int lane) {
  const int row = lane % 8 * 16, matrix = lane / 8;
  store_matrices<Transposed>(to + matrix / 2 * kHalf + matrix % 2 * kCore + row, u[0].r[0],
                             u[1].r[0], u[0].r[1], u[1].r[1]);
  store_matrices<Transposed>(to + matrix % 2 * kHalf + 2 * kCore + row, u[2].r[0], u[2].r[1]);
}

// attend_cores() where its registers are too many: a block's values and the other's keys are waited
// for at once.
template <int Steps, int Step>
__device__ __forceinline__ void attend_both(Attention<kGU> (&a)[2], const Queries& q,
                                            CorePair (&keys)[2]) {
  float s[2][4][4];
  wgmma_fence();
  add_core_logits<true>(s[0], q[0], keys[0]);
  wgmma_commit();
  wgmma_wait<0>(s[0]);
  const auto add = [&](auto last) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      UnitA p[4];
      exponentiate<K>(s[m], p);
      wgmma_fence();
      add_core_values<true>(a[m].out, p, keys[m]);
      keys[m].advance(Step);
      if (m == 0 || !decltype(last)::value) add_core_logits<true>(s[1 - m], q[1 - m], keys[1 - m]);
      wgmma_commit();
      wgmma_wait<0>(s[1 - m], a[m].out);
    }
  };
#pragma unroll 1
  for (int i = 0; i < Steps - 1; ++i) add(std::false_type{});
  add(std::true_type{});
}

#endif

// FindsQ: q and references are what a pair before has left.
template <typename S, bool FindsQ>
__global__ __launch_bounds__(kPairTeams* kPairTeamThreads,
                             1) void pair_narrow_kernel(const __grid_constant__ PairArgs p) {
#if ELAN_HOPPER
  using T = narrow_lfe::NarrowTile<4, kPairTeamThreads, true>;
  constexpr bool kSplit = std::is_same_v<S, Split>;
  constexpr std::size_t kRestBytes = rest_bytes(kU);

  ELAN_DYNAMIC_SHARED(shared);
  __shared__ int places[kNarrowReads];  // of what conv0 reads, from its pixel
  __shared__ __align__(8) std::uint64_t barriers[1 + kPairTeams];  // weights, a team's tile: there
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31;
  const int g = lane >> 2, t = lane & 3;
  // The same for all of a warp, and known to be, so that it is in uniform registers.
  const int first_thread = __shfl_sync(~0U, thread, 0);
  const int team = first_thread / kPairTeamThreads, warpgroup = first_thread / 128 % 2;
  const int warp = first_thread / 32 % 4;
  const int by = 2 * warpgroup + warp / 2, bx = warp % 2;  // first block; the other is 2 further
  const int weight_bytes = narrow_weight_bytes(p.groups, !FindsQ);
  char* const tile = shared + (-shared_address(shared) & (kNarrowTileAlignment - 1));
  const std::uint32_t tile_address = shared_address(tile), weights = tile_address + T::kBytes;
  const CoreSlab<kHT> conv0(weights);
  const CoreSlab<kU> conv1(weights + p.groups * kNarrowConv0Bytes);
  const CoreSlab<kTiles> out(weights + weight_bytes);
  char* const mine = tile + T::kBytes + weight_bytes + kNarrowOutBytes + team * kPairTeamBytes;
  const std::uint32_t window = shared_address(mine) + 16 * kPairBlockBytes;
  char* const y_space = mine + (4 * warpgroup + warp) * 2 * kPairBlockBytes;

  WindowWalk walk(static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x), p.grid);
  const std::uint32_t there = shared_address(barriers), full = there + 8;
  const auto bring_tile = [&](int owner) {
    if (walk.done(p.grid)) return;
    barrier_expect(full + owner * 8, T::kBytes);
    copy_box(tile_address, p.map, walk.at.x - 2, walk.at.y - 2, walk.at.image, full + owner * 8);
  };
  if (thread == 0) {
    for (int i = 0; i <= kPairTeams; ++i) barrier_init(there + i * 8, 1);
    barrier_init_fence();
    barrier_expect(there, weight_bytes + kNarrowOutBytes);
    copy_bulk(weights, p.weights, weight_bytes, there);
    copy_bulk(weights + weight_bytes, p.gmsa.weights, kNarrowOutBytes, there);
  }
  if (thread < kNarrowReads) places[thread] = T::place(p, thread);
  __syncthreads();
  wait_for_previous();
  if (thread == 0) bring_tile(0);
  int reads[kNarrowReads / 2];  // this lane's rows of two units at a time, see K::lane_base()
#pragma unroll
  for (int i = 0; i < kNarrowReads / 2; ++i) reads[i] = places[2 * i + lane / 16];
  barrier_wait(there, 0);

  if (team == 1) walk.next(p.grid);
  int parity = 0;
#pragma unroll 1
  while (!walk.done(p.grid)) {
    const TileOrigin o = walk.at;
    walk.next(p.grid);
    const int first =
        ((o.image * p.grid.height + o.y) / 4 + by) * (p.grid.width / 4) + o.x / 4 + bx;
    const auto block_at = [&](int i) {
      return static_cast<unsigned>(first + 2 * i) * block_bytes(kL, 2);
    };
    if constexpr (FindsQ) {  // 16 lines a block
      prefetch_line(p.q + block_at(lane / 16) + lane % 16 * 128);
    }
    // Of the warp's first block, and of token g in it; the other block is 8 pixels further.
    const auto first_pixel = static_cast<unsigned>(
        (o.image * p.grid.height + o.y + by * 4) * p.grid.width + o.x + bx * 4);
    const auto own_pixel = first_pixel + (g >> 2) * p.grid.width + (g & 3);
    // Rests of tokens g and g + 8.
    const auto with_rests = [&](auto* rests, int m, auto f) {
      auto* const at = rests + (own_pixel + 8 * m) * kRestBytes;
      f(at, at + 2 * p.grid.width * kRestBytes);
    };
    if constexpr (kSplit) {  // 8 lines a block
      const unsigned row = lane / 2 % 4, half = lane % 2 * 2;
      if (lane < 16) {
        prefetch_line(p.x_rests +
                      (first_pixel + row * p.grid.width + half + lane / 8 * 8) * kRestBytes);
      }
    }
    barrier_wait(full + team * 8, parity);
    parity ^= 1;
    const bool inner = o.y > 0 && o.x > 0 && o.y + 16 < p.grid.height && o.x + 16 < p.grid.width;
#pragma unroll 1
    for (int m = 0; m < 2; ++m) {
      const int column = (bx + 2 * m) * 4, r = lane & 15;
      const auto in_tile = [&](int dy, int dx) {
        return tile_address + ((by * 4 + dy + 2) * T::kRow + column + dx + 2) * T::kPitch;
      };
      RestPair<kU> rest;
      if constexpr (kSplit) {
        with_rests(p.x_rests, m, [&](const char* row0, const char* row1) {
          rest.template fetch<kU>(0, row0, row1, t);
        });
      }
      float y[kU][4];
      narrow_lfe::start_from_own<T>(y, in_tile(g >> 2, g & 3), t);
      narrow_lfe::add_convolutions<true, T>(
          y, p, conv0, conv1, reads,
          {in_tile(r / 4, r % 4), o.y + by * 4 + (g >> 2), o.x + column + (g & 3), inner}, t);
      if constexpr (kSplit) {
        rest.add(y);
        with_rests(p.rests, m,
                   [&](char* row0, char* row1) { store_rests<kU>(y, 0, row0, row1, t); });
      }
#pragma unroll
      for (int i = 0; i < kU; i += 2) {
        const UnitA a = K::encode(y[i]), b = K::encode(y[i + 1]);
        reinterpret_cast<uint4*>(y_space + m * kPairBlockBytes)[i / 2 * 32 + lane] =
            make_uint4(a.r[0], a.r[1], b.r[0], b.r[1]);
      }
    }

    const auto load_y = [&](UnitA(&y)[kU], int m) {
#pragma unroll
      for (int i = 0; i < kU; i += 2) {
        const uint4 v =
            reinterpret_cast<const uint4*>(y_space + m * kPairBlockBytes)[i / 2 * 32 + lane];
        y[i] = {{v.x, v.y}};
        y[i + 1] = {{v.z, v.w}};
      }
    };
    Queries q, v;
    uint2 terms[2];  // of references
    UnitA o_units[2][kUnits];
    const auto q_at = [&](int m, int group) { return p.q + block_at(m) + group * kGroup; };
    const auto references = [&](int m, int group) {
      return p.gmsa.references + block_at(m) + references_at(group);
    };
    // What a pair before has left, some time before it is wanted.
    const auto find = [&](auto group) {
      if constexpr (FindsQ) {
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          load_compact<K, true, false>(q[m], q_at(m, group), lane);
          if constexpr (group > 0) {
            terms[m] = reinterpret_cast<const uint2*>(references(m, group))[g];
          }
        }
      }
    };
    // q, if it was not found, and v of a window group.
    const auto project = [&](int m, auto group) {
      UnitA y[kU];
      load_y(y, m);
      if (t == 3) y[kNarrowPadUnit] = {{kBiasOnes<true>, kBiasOnes<true>}};
      const auto multiply = [&](UnitA(&to)[kGU], int part) {
        const CoreSlab<kNP> slab(weights + narrow_conv_bytes(p.groups) +
                                 part * kNarrowProjectBytes + group * kGU * kCore);
        float acc[kGU][4];
        wgmma_fence();
        wgmma<true, false>(acc, y[0], y[1], slab.unit(0));
#pragma unroll
        for (int u = 2; u < kU; u += 2) wgmma<true, true>(acc, y[u], y[u + 1], slab.unit(u));
        wgmma_commit();
        wgmma_wait<0>(acc);
#pragma unroll
        for (int n = 0; n < kGU; ++n) to[n] = K::encode(acc[n]);
      };
      if constexpr (!FindsQ) {
        multiply(q[m], 0);
        if (p.gmsa.leave_references) store_compact<true, false>(q[m], q_at(m, group), lane);
      }
      multiply(v[m], FindsQ ? 0 : 1);
    };
    const auto store_window = [&] {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const std::uint32_t to = window + (by * 4 + bx + 2 * m) * kBlockCores;
        store_cores<false>(q[m], to, lane);
        store_cores<true>(v[m], to + kWindowCores, lane);
      }
      publish_stores();
    };
    const auto finish_block = [&](Attention<kGU>& a, int m, int group) {
      finish<K>(a, lane, 1);
      encode<K>(a, o_units[m] + group * kGU, p.gmsa.input);
    };
    // The windows of a group whose q and v are in the team's place; `keys` of the warp's blocks.
    const auto attend = [&](auto group, auto steps, auto step, CorePair(&&keys)[2]) {
      if constexpr (!FindsQ) compute_references<true, steps, step>(terms, q, keys, lane);
      Attention<kGU> a[2];
#pragma unroll
      for (int m = 0; m < 2; ++m) start_from<K>(a[m], q[m], lane, terms[m]);
      if constexpr (steps > 2) {
        attend_cores<true, steps, step>(a, q, keys);
      } else {
        attend_both<steps, step>(a, q, keys);
      }
      find(std::integral_constant<int, group - 1>{});
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        if (!FindsQ && p.gmsa.leave_references) {
          leave_terms(terms[m], references(m, group), lane);
        }
        finish_block(a[m], m, group);
      }
    };
    const auto team_barrier = [&] { named_barrier<kPairTeamThreads>(1 + team); };

    constexpr std::integral_constant<int, 2> kWindows16;
    find(kWindows16);
    team_barrier();  // nobody reads the tile any more, nor the window before
    if (thread % kPairTeamThreads == 0) bring_tile(1 - team);
    walk.next(p.grid);
#pragma unroll
    for (int m = 0; m < 2; ++m) project(m, kWindows16);
    store_window();
    team_barrier();
    attend(kWindows16, std::integral_constant<int, 8>{},
           std::integral_constant<int, 2 * kBlockCores>{}, {CorePair(window), CorePair(window)});

    constexpr std::integral_constant<int, 1> kWindows8;
#pragma unroll
    for (int m = 0; m < 2; ++m) project(m, kWindows8);
    team_barrier();
    store_window();
    named_barrier<128>(1 + kPairTeams + first_thread / 128);  // of those who share windows of 8
    const std::uint32_t row = window + warpgroup * 8 * kBlockCores;
    attend(kWindows8, std::integral_constant<int, 2>{},
           std::integral_constant<int, 4 * kBlockCores>{},
           {CorePair(row), CorePair(row + 2 * kBlockCores)});

    RestPair<kU> rests[2];
    const auto fetch_rests = [&](int m) {
      if constexpr (kSplit) {
        with_rests(p.rests, m, [&](const char* row0, const char* row1) {
          rests[m].template fetch<kU>(0, row0, row1, t);
        });
      }
    };
    const std::uint32_t nothing = static_cast<std::uint32_t>(p.grid.width) >> 24;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      project(m, std::integral_constant<int, 0>{});
#pragma unroll
      for (int n = 0; n < kGU; ++n) K::transpose(v[m][n]);
      Attention<kGU> a;
      attend_itself<K>(a, q[m], v[m], lane, nothing);
      if (m == 1) fetch_rests(0);  // for the products below; registers are few before
      finish_block(a, m, 0);
    }
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      UnitA y[kU];
      load_y(y, m);
      float acc[kTiles][4];
#pragma unroll
      for (int n = 0; n < kU; ++n) {
        const float4 w = widen(make_uint2(y[n].r[0], y[n].r[1]));
        acc[n][0] = w.x;
        acc[n][1] = w.y;
        acc[n][2] = w.z;
        acc[n][3] = w.w;
      }
      if constexpr (kSplit) {
        rests[m].add(acc);
        if (m == 0) fetch_rests(1);
      }
      project_out<true>(acc, o_units[m], out);
      if constexpr (kSplit) {
        with_rests(p.rests, m,
                   [&](char* row0, char* row1) { store_rests<kU>(acc, 0, row0, row1, t); });
      }
      __syncwarp();  // y has been read
      narrow_lfe::store_lines(acc, shared_address(y_space + m * kPairBlockBytes),
                              static_cast<__half*>(p.gmsa.x), first_pixel + 8 * m, p.grid.width,
                              lane);
    }
    __syncwarp();
  }
#else
  __trap();
#endif
}

using PairKernel = void (*)(PairArgs);
template <typename S>
PairKernel kernel_of(bool has_q) {
  return has_q ? &pair_narrow_kernel<S, false> : &pair_narrow_kernel<S, true>;
}

}  // namespace

void prepare_pair_hopper_narrow() {
  for (const PairKernel kernel : {kernel_of<__half>(true), kernel_of<__half>(false),
                                  kernel_of<Split>(true), kernel_of<Split>(false)}) {
    allow_shared(reinterpret_cast<const void*>(kernel));
  }
}

void launch_pair_hopper_narrow(const LfeArgs& lfe, const GmsaArgs& gmsa, int blocks,
                               cudaStream_t stream) {
  const StreamMap map =
      stream_map(lfe.x, lfe.grid, kNarrowLayout.units, kNarrowTileRow, kNarrowTileRow);
  const std::size_t first_terms =
      lfe.grid.pixels() * stream_pixel_bytes(kNarrowLayout.units, StreamFormat::fp16);
  const bool split = lfe.format == StreamFormat::split;
  launch_kernel(split ? kernel_of<Split>(lfe.has_q) : kernel_of<__half>(lfe.has_q),
                dim3(static_cast<unsigned>(blocks)), kPairTeams * kPairTeamThreads,
                static_cast<std::size_t>(narrow_pair_shared_bytes(lfe.groups, lfe.has_q)), stream,
                PairArgs{lfe, gmsa, map, static_cast<const char*>(lfe.x) + first_terms,
                         static_cast<char*>(gmsa.x) + first_terms});
}

}  // namespace elan::cuda
