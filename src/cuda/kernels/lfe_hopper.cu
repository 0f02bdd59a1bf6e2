// The fused LFE of lfe.cuh on Hopper's own instructions, for 180 channels in 16 bits: the same
// chain from conv0 to project_inp in registers, but products of a whole warpgroup with weights
// straight from shared memory, and warps that do nothing but bring weights and tiles.

#include "cuda/kernels/slab_queue.cuh"
#include "cuda/kernels/split.cuh"
#include "cuda/kernels/tensor_map.cuh"

namespace elan::cuda {
namespace {

constexpr ChannelLayout kL = layout_of(180);
constexpr int kU = kL.units, kHT = kL.hidden_tiles, kGU = kL.group_units;

struct HopperLfeArgs : LfeArgs {
  StreamMap map;  // of x, if that is FP16
};

#if ELAN_HOPPER

__device__ __forceinline__ void bring_slabs(const LfeArgs& p, int tiles, const SlabPlaces& places) {
  const int conv = 2 * p.groups, steps = conv + kWindowGroups * (p.has_q ? 2 : 1);
  SlabSource<kHopperStageBytes> source(places);
  for (int index = static_cast<int>(blockIdx.x); index < tiles;
       index += static_cast<int>(gridDim.x)) {
    const char* from = p.weights;
    for (int s = 0; s < steps; ++s) {
      const int bytes = s >= conv    ? kHopperProjectBytes
                        : s % 2 == 0 ? kHopperConv0Bytes
                                     : kHopperConv1Bytes;
      source.bring(from, bytes);
      from += bytes;
    }
  }
}

// A tile with its ring of two pixels, of the stream as it is.
struct WholePixels {
  static constexpr ChannelLayout kLayout = kL;
  static constexpr int kRow = kHopperTileRow, kPitch = kHopperTilePitch, kPlane = 0;
  static constexpr int kChunks = 2 * kU, kWidth = kRow, kHeight = hopper_tile_rows(2);
  static constexpr int kThreads = kComputeThreads;
  static constexpr int kSlices = (kWidth * kHeight * kChunks + kThreads - 1) / kThreads;
};
using T = WholePixels;

// Where conv0 reads, in bytes from its pixel: of the lower and the upper lanes' units of each pair,
// then, of the mixed pairs, for the upper halves of the units.
constexpr int kMixed = kHopperMixedPairs;
struct Reads {
  static constexpr int kCount = 16;
  static_assert(kHopperUnitPairs + kMixed <= kCount);
  int4 place[2][kCount / 4];

  __device__ __forceinline__ void set(const LfeArgs& p, int thread) {
    if (thread >= 2 * kCount) return;
    const int half = thread / kCount, i = thread % kCount;
    const bool upper = i >= kHopperUnitPairs;
    const int mixed = i - kHopperUnitPairs;
    const int unit = 2 * (!upper ? i : mixed < kMixed ? hopper_mixed_pair(mixed) : 0) + half;
    const int chunk = 2 * min(unit, kU - 1) + (upper ? 1 : 0);
    reinterpret_cast<int*>(place)[thread] =
        (p.chunk_y[chunk] * T::kRow + p.chunk_x[chunk]) * T::kPitch + unit * 16;
  }
};

// A tile is 16 x 8 pixels; where one warpgroup is alone, so that more multiprocessors have work,
// half as high.
__device__ __forceinline__ TileOrigin origin_of(const LfeArgs& p, int tile) {
  const int rows = 4 * p.shape.tile_y, across = p.grid.width / 16, down = p.grid.height / rows;
  const int row = tile / across;
  return {row / down, row % down * rows, tile % across * 16};
}

// One thread brings tiles of the stream of FP16.
__device__ __forceinline__ void bring_tiles(const HopperLfeArgs& p, int tiles, std::uint32_t tile,
                                            std::uint32_t full, std::uint32_t empty) {
  int parity = 1;  // a fresh barrier counts as passed
  for (int index = static_cast<int>(blockIdx.x); index < tiles;
       index += static_cast<int>(gridDim.x)) {
    const TileOrigin o = origin_of(p, index);
    barrier_wait(empty, parity);
    parity ^= 1;
    barrier_expect(full, hopper_tile_bytes(p.shape.tile_y));
    copy_box(tile, p.map, o.x - 2, o.y - 2, o.image, full);
  }
}

// Of the two warpgroups each has the upper or the lower 16 x 4 pixels of a tile.
template <bool F16, typename S>
__device__ __forceinline__ void compute(const LfeArgs& p, int tiles, char* tile, const Reads& reads,
                                        std::uint32_t tile_full, std::uint32_t tile_empty,
                                        SlabQueue<kHopperStageBytes> queue) {
  using K = Codec16<F16>;
  using UnitA = UnitA2;
  constexpr bool kCopied = !std::is_same_v<S, float>, kSplit = std::is_same_v<S, Split>;
  const int thread = static_cast<int>(threadIdx.x) % kGroupThreads;
  const int warpgroup = static_cast<int>(threadIdx.x) / kGroupThreads;
  const int lane = thread & 31, wx = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  const auto stream = stream_at<S, 180>(p.x, p.grid);
  const auto result = stream_at<S, 180>(p.y, p.grid);
  const auto load = [&](int index) {
    if (index >= tiles) return;
    __shared__ int unshifted[kMaxChunks];  // taps for load_tile()
    if (threadIdx.x < kMaxChunks) unshifted[threadIdx.x] = 5;
    named_barrier<kComputeThreads>(1);
    const TileOrigin o = origin_of(p, index);
    TileWalk<T> walk(static_cast<int>(threadIdx.x));
    load_tile<K, T>(0, walk, tile, stream, {o.image, o.y - 1, o.x - 1}, p.grid, unshifted);
  };

  const auto place_of = [&](int row) {  // of a pixel among the warp's 16
    return ((4 * warpgroup + row / 4 + 2) * T::kRow + wx * 4 + row % 4 + 2) * T::kPitch;
  };
  const std::uint32_t base = shared_address(tile) + place_of(lane & 15);
  const char* const own = tile + place_of(g);
  // Biases are two rows of weights, in two terms, for what is always this in the operands.
  constexpr std::uint32_t kOnes = kBiasOnes<F16>;
  constexpr UnitA kBias{{kOnes, kOnes}};
  int index = static_cast<int>(blockIdx.x), phase = 0;
  if constexpr (!kCopied) load(index);

#pragma unroll 1
  for (; index < tiles; index += static_cast<int>(gridDim.x)) {
    const TileOrigin o = origin_of(p, index);
    const int y0 = o.y + 4 * warpgroup + (g >> 2), x0 = o.x + wx * 4 + (g & 3);
    const std::size_t pixel0 =
        (static_cast<std::size_t>(o.image) * p.grid.height + y0) * p.grid.width + x0;
    const std::size_t pixel1 = pixel0 + 2 * static_cast<std::size_t>(p.grid.width);
    const bool inner =
        o.y > 0 && o.x > 0 && o.y + 4 * p.shape.tile_y < p.grid.height && o.x + 16 < p.grid.width;
    if constexpr (kCopied) {
      barrier_wait(tile_full, phase);
      phase ^= 1;
    } else {
      named_barrier<kComputeThreads>(1);  // the tile is there
    }

    UnitA a[kU + 1];
    a[kU] = kBias;
    const auto fetch = [&](int group) {
      const std::uint32_t at = base + (p.hidden_y[group] * T::kRow + p.hidden_x[group]) * T::kPitch;
      int place[Reads::kCount];
#pragma unroll
      for (int i = 0; i < Reads::kCount; i += 4) {
        const int4 v = reads.place[lane >> 4][i / 4];
        place[i] = v.x, place[i + 1] = v.y, place[i + 2] = v.z, place[i + 3] = v.w;
      }
#pragma unroll
      for (int i = 0; 2 * i + 1 < kU; ++i) {
        K::load_pair(a[2 * i], a[2 * i + 1], at, place[i], 0, 0);
      }
      K::load_one(a[kU - 1], at, place[kHopperUnitPairs - 1], 0, 0);
#pragma unroll
      for (int i = 0; i < kMixed; ++i) {
        UnitA low, high;
        K::load_pair(low, high, at, place[kHopperUnitPairs + i], 0, 0);
        if (t >= 2) {
          a[2 * hopper_mixed_pair(i)] = low;
          a[2 * hopper_mixed_pair(i) + 1] = high;
        }
      }
    };
    float hidden[kHT][4];
    const auto begin_hidden = [&] {
      const CoreSlab<kHT> slab(queue.wait());
      wgmma_fence();
#pragma unroll
      for (int u = 0; u < kU; u += 2) {
        wgmma<F16>(hidden, a[u], a[u + 1], slab.unit(u), u > 0);
      }
      wgmma_commit();
    };
    UnitA h[kHT + 1];
    h[kHT] = kBias;
    const auto end_hidden = [&](int group) {
#pragma unroll
      for (int n = 0; n < kHT; ++n) h[n] = K::encode_relu(hidden[n]);
      if (!inner) {
        clear_outside<kHT>(h, p.grid, x0 + p.hidden_x[group], y0 + p.hidden_y[group]);
      }
    };
    float out[kU][4];
    const auto add_hidden = [&] {
      const CoreSlab<kU> slab(queue.wait());
      wgmma_fence();
#pragma unroll
      for (int u = 0; u < kHT; u += 2) {
        wgmma<F16>(out, h[u], h[u + 1], slab.unit(u), 1);
      }
      wgmma_commit();
    };
    fetch(0);
    begin_hidden();
    // Meanwhile conv1's sums start from the residual.
    if constexpr (kCopied) {
#pragma unroll
      for (int i = 0; i < kHopperUnitPairs; ++i) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const char* from = own + i * 32 + r * 2 * T::kRow * T::kPitch;
          auto* const d = &out[2 * i][2 * r];
          if (2 * i + 1 < kU) {
            const float4 v = widen(reinterpret_cast<const uint2*>(from)[t]);
            d[0] = v.x;
            d[1] = v.y;
            d[4] = v.z;
            d[5] = v.w;
          } else {
            const float2 v = widen(reinterpret_cast<const std::uint32_t*>(from)[t]);
            d[0] = v.x;
            d[1] = v.y;
          }
        }
      }
    } else {
#pragma unroll
      for (int n = 0; n < kU; ++n) out[n][0] = out[n][1] = out[n][2] = out[n][3] = 0;
    }
    wgmma_wait<1>(out);  // waits for nothing, but keeps the above where it is
    [[maybe_unused]] RestPair<kU> rest;
    const auto end_group = [&](int group) {
      wgmma_wait<0>(hidden);
      queue.release(lane);
      end_hidden(group);
      add_hidden();
      if (group + 1 < p.groups) {
        fetch(group + 1);
      } else {
        if (kCopied && lane == 0) barrier_arrive(tile_empty);
        if constexpr (kSplit) {  // second terms of the residual
          rest.template fetch<kU>(0, at_pixel<180>(stream, pixel0).rest,
                                  at_pixel<180>(stream, pixel1).rest, t);
        }
      }
      wgmma_wait<0>(out);
      queue.release(lane);
    };
    end_group(0);
#pragma unroll 1
    for (int group = 1; group < p.groups; ++group) {
      begin_hidden();
      end_group(group);
    }

    // The residual; y leaves and stays as an operand.
    constexpr int kHalf = kU / 4 * 2;
    using Term = std::conditional_t<kSplit, __half, S>;
    [[maybe_unused]] RowPair<Term, kU, kHalf> first;
    [[maybe_unused]] RowPair<Term, kU, kU - kHalf> second;
    if constexpr (!kCopied) {
      first.fetch(0, at_pixel<180>(stream, pixel0), at_pixel<180>(stream, pixel1), t);
      second.fetch(kHalf, at_pixel<180>(stream, pixel0), at_pixel<180>(stream, pixel1), t);
    }
    auto& low = reinterpret_cast<float(&)[kHalf][4]>(out[0]);
    auto& high = reinterpret_cast<float(&)[kU - kHalf][4]>(out[kHalf]);
    if constexpr (kSplit) rest.add(out);
    if constexpr (!kCopied) {
      first.add(low);
      second.add(high);
    }
    UnitA y[kU + 1];
    y[kU] = kBias;
#pragma unroll
    for (int n = 0; n < kU; ++n) y[n] = K::encode(out[n]);

    // One slab is a window group of q or v; the next one's products run while one is stored. y of
    // FP16 leaves from the operands, a few words with every slab.
    const int block =
        ((o.image * p.grid.height + o.y) / 4 + warpgroup) * (p.grid.width / 4) + o.x / 4 + wx;
    const std::size_t block_at = block * block_bytes(kL, 2);
    float acc[2][kGU][4];
    const auto begin = [&](float(&d)[kGU][4]) {
      const CoreSlab<kGU> slab(queue.wait());
      wgmma_fence();
#pragma unroll
      for (int u = 0; u < kU; u += 2) {
        wgmma<F16>(d, y[u], y[u + 1], slab.unit(u), u > 0);
      }
      wgmma_commit();
    };
    const auto to0 = at_pixel<180>(result, pixel0), to1 = at_pixel<180>(result, pixel1);
    const auto store_words = [&](int first, int count) {
      if constexpr (std::is_same_v<S, __half>) {
#pragma unroll
        for (int i = first; i < first + count; ++i) {
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            __half* const row = (r == 0 ? to0 : to1) + i * 16;
            if (2 * i + 1 < kU) {
              reinterpret_cast<uint2*>(row)[t] = make_uint2(y[2 * i].r[r], y[2 * i + 1].r[r]);
            } else {
              reinterpret_cast<std::uint32_t*>(row)[t] = y[2 * i].r[r];
            }
          }
        }
      }
    };
    // begun: how many slabs were before; more: another matrix follows; words: of y, with each slab.
    const auto project = [&](auto is_v, auto begun, auto more, auto words, char* to) {
#pragma unroll
      for (int s = 0; s < kWindowGroups; ++s) {
        auto& d = acc[(begun + s) % 2];
        const bool next = more || s + 1 < kWindowGroups;
        if (next) begin(acc[(begun + s + 1) % 2]);
        store_words((begun + s) * words, words);
        if (next) {
          wgmma_wait<1>(d);
        } else {
          wgmma_wait<0>(d);
        }
        queue.release(lane);
        UnitA u[kGU];
#pragma unroll
        for (int n = 0; n < kGU; ++n) {
          u[n] = K::encode(d[n]);
          if (is_v) K::transpose(u[n]);
        }
        char* at = to + s * group_bytes(kL, 2);
        if (s == kWindowGroups - 1) {
          store_cores(u, at, lane);
        } else if (s == 0) {
          store_units<K, kGU, true>(u, at, lane);  // v, too: halves of blocks are whole words
        } else {
          store_units<K, kGU, !is_v>(u, at, lane);
        }
      }
    };
    if constexpr (kSplit) {
      store_rows<kU>(out, 0, to0, to1, t);
    } else if constexpr (!kCopied) {
      store_rows<kU>(low, 0, to0, to1, t);
      store_rows<kU>(high, kHalf, to0, to1, t);
    }
    begin(acc[0]);
    constexpr std::integral_constant<int, 0> kFirst;
    constexpr std::integral_constant<int, kWindowGroups> kSecond;
    constexpr std::integral_constant<int, kHopperUnitPairs / (2 * kWindowGroups)> kFew;
    constexpr std::integral_constant<int, kHopperUnitPairs / kWindowGroups> kMany;
    static_assert(kFew * 2 * kWindowGroups == kHopperUnitPairs);
    constexpr std::false_type kNo;
    constexpr std::true_type kYes;
    if (p.has_q) {
      project(kNo, kFirst, kYes, kFew, p.q + block_at);
      project(kYes, kSecond, kNo, kFew, p.v + block_at);
    } else {
      project(kYes, kFirst, kNo, kMany, p.v + block_at);
    }
    if constexpr (!kCopied) {
      named_barrier<kComputeThreads>(1);  // nobody reads the tile any more
      load(index + static_cast<int>(gridDim.x));
    }
  }
}

#endif

template <bool F16, typename S>
__global__ __launch_bounds__(kHopperThreads,
                             1) void lfe_hopper_kernel(const __grid_constant__ HopperLfeArgs p) {
#if ELAN_HOPPER
  ELAN_DYNAMIC_SHARED(shared);
  __shared__ Reads reads;
  __shared__ __align__(8) std::uint64_t barriers[2 * kHopperStages + 2];
  const int thread = static_cast<int>(threadIdx.x);
  const std::uint32_t tile = shared_address(shared), first = shared_address(barriers);
  const SlabPlaces places{tile + kHopperTileBytes, first, first + 8 * kHopperStages, kHopperStages};
  const std::uint32_t tile_full = first + 16 * kHopperStages, tile_empty = tile_full + 8;
  const int tiles = p.grid.width / 16 * (p.grid.height / (4 * p.shape.tile_y)) * p.grid.batch;
  const int warps = 4 * p.shape.tile_y;  // that compute

  reads.set(p, thread);
  if (thread == 0) {
    places.init(warps);
    barrier_init(tile_full, 1);
    barrier_init(tile_empty, warps);
    barrier_init_fence();
  }
  __syncthreads();
  if (thread >= kComputeThreads) {
    give_registers<24>();
    if (thread == kComputeThreads) bring_slabs(p, tiles, places);
    if (!std::is_same_v<S, float> && thread == kComputeThreads + 32) {
      wait_for_previous();
      bring_tiles(p, tiles, tile, tile_full, tile_empty);
    }
  } else if (thread < 32 * warps) {
    take_registers<240>();
    wait_for_previous();
    compute<F16, S>(p, tiles, shared, reads, tile_full, tile_empty,
                    SlabQueue<kHopperStageBytes>(places));
  }
#else
  __trap();
#endif
}

using LfeKernel = void (*)(HopperLfeArgs);
// fp16 by the format of its streams, then bf16.
constexpr LfeKernel kKernels[] = {&lfe_hopper_kernel<true, float>, &lfe_hopper_kernel<true, __half>,
                                  &lfe_hopper_kernel<true, Split>,
                                  &lfe_hopper_kernel<false, float>};

// What the current device runs; zeros where nothing was compiled for it.
cudaFuncAttributes compiled() {
  cudaFuncAttributes attributes{};
  const auto* kernel = reinterpret_cast<const void*>(kKernels[0]);
  return cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess ? attributes
                                                                   : cudaFuncAttributes{};
}

}  // namespace

bool hopper_compiled() {
  return compiled().ptxVersion == 90 && compiled().binaryVersion == 90;
}

bool waits_compiled() {
  return compiled().ptxVersion >= 90;
}

void prepare_lfe_hopper() {
  for (const LfeKernel kernel : kKernels) {
    cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                         cudaFuncAttributeMaxDynamicSharedMemorySize, hopper_shared_bytes());
  }
}

void launch_lfe_hopper(Operand operand, const LfeArgs& a, cudaStream_t stream) {
  const LfeKernel kernel = kKernels[operand == Operand::bf16 ? 3 : static_cast<int>(a.format)];
  HopperLfeArgs args{a, {}};
  if (a.format != StreamFormat::fp32) {
    args.map = stream_map(a.x, a.grid, kU, kHopperTileRow, hopper_tile_rows(a.shape.tile_y));
  }
  launch_kernel(kernel, dim3(static_cast<unsigned>(a.shape.blocks)), kHopperThreads,
                static_cast<std::size_t>(a.shape.shared_bytes), stream, args);
}

}  // namespace elan::cuda
