// The fused LFE of lfe.cuh on Hopper's own instructions, for 180 channels in 16 bits: the same
// chain from conv0 to project_inp in registers, but products of a whole warpgroup with weights
// straight from shared memory, and a warp that does nothing but bring the weights.

#include "cuda/kernels/slab_queue.cuh"
#include "cuda/kernels/split.cuh"

namespace elan::cuda {
namespace {

constexpr ChannelLayout kL = layout_of(180);
constexpr int kU = kL.units, kHT = kL.hidden_tiles, kGU = kL.group_units;

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

// Each of the two warpgroups has a tile of 16 x 4 pixels of its own, so that one's products run
// while the other waits or computes; they only share the weights.
template <bool F16, typename S>
__device__ __forceinline__ void compute(const LfeArgs& p, int tiles, char* tile, const int* taps,
                                        const int* steps, const int* back, const float* biases,
                                        SlabQueue<kHopperStageBytes> queue) {
  using K = Codec16<F16>;
  using T = PictureTile<K, 180, 4, 1, kGroupThreads>;
  using UnitA = UnitA2;
  constexpr bool kCopied = !std::is_same_v<S, float>, kSplit = std::is_same_v<S, Split>;
  const int thread = static_cast<int>(threadIdx.x) % kGroupThreads;
  const int warpgroup = static_cast<int>(threadIdx.x) / kGroupThreads;
  const int lane = thread & 31, wx = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  const std::uint32_t tile_address = shared_address(tile);
  const auto stream = stream_at<S, 180>(p.x, p.grid);
  const auto result = stream_at<S, 180>(p.y, p.grid);
  const auto bias_at = [&](int i) { return *(reinterpret_cast<const float2*>(biases + i) + t); };
  const auto origin = [&](int index) {
    TileOrigin o = tile_origin<4, 2>(index, p.grid);
    o.y += 4 * warpgroup;
    return o;
  };
  const TileWalk<T> start(thread);
  const auto bring = [&](int index) {
    if (index >= tiles) return;
    if constexpr (kCopied) {
      copy_tile(start, tile_address, tile_source(stream), origin(index), p.grid, taps, steps);
      cp_async_commit();
    } else {
      TileWalk<T> walk = start;
      load_tile<K, T>(0, walk, tile, stream, origin(index), p.grid, taps);
    }
  };

  const int own_place = ((g >> 2) + 1) * T::kRow + wx * 4 + (g & 3) + 1;
  const std::uint32_t base = K::lane_base(lane, [&](int r) {
    return static_cast<std::uint32_t>(((r / 4 + 1) * T::kRow + wx * 4 + r % 4 + 1) * T::kPitch);
  });
  const float unscale0 = p.unscale0, unscale1 = p.unscale1, unscale_project = p.unscale_project;
  int index = static_cast<int>(blockIdx.x);
  bring(index);

#pragma unroll 1
  for (; index < tiles; index += static_cast<int>(gridDim.x)) {
    const TileOrigin o = origin(index);
    const int y0 = o.y + (g >> 2), x0 = o.x + wx * 4 + (g & 3);
    const std::size_t pixel0 =
        (static_cast<std::size_t>(o.image) * p.grid.height + y0) * p.grid.width + x0;
    const std::size_t pixel1 = pixel0 + 2 * static_cast<std::size_t>(p.grid.width);
    if constexpr (kCopied) cp_async_wait<0>();
    group_barrier(warpgroup);  // the tile is there

    float out[kU][4];
    if constexpr (kCopied) start_from_tile<T>(out, tile + own_place * T::kPitch, back, p.scale1, t);
    // The operands of a group's conv0 are fetched while conv1 of the one before runs, and second
    // terms of the residual, into the same registers, while the last one runs.
    UnitA a[kU + 1];
    const auto fetch = [&](int group) {
      const std::uint32_t at = base + (p.hidden_y[group] * T::kRow + p.hidden_x[group]) * T::kPitch;
#pragma unroll
      for (int u = 0; u + 1 < kU; u += 2) K::load_pair(a[u], a[u + 1], tile_address, at, 0, u);
      K::load_one(a[kU - 1], tile_address, at, 0, kU - 1);
      a[kU] = {};
    };
    const auto fetch_rest = [&] {
      if constexpr (kSplit) {
        RestPair<kU> rest;
        rest.template fetch<kU>(0, at_pixel<180>(stream, pixel0).rest,
                                at_pixel<180>(stream, pixel1).rest, t);
#pragma unroll
        for (int i = 0; i < kU + 1; ++i) {
          a[i / 2].r[i % 2] = rest.word[i / (RestPair<kU>::kWords)][i % RestPair<kU>::kWords];
        }
      }
    };
    fetch(0);
#pragma unroll 1
    for (int group = 0; group < p.groups; ++group) {
      const int dy = p.hidden_y[group], dx = p.hidden_x[group];
      const bool in_x = x0 + dx >= 0 && x0 + dx < p.grid.width;
      const bool in0 = in_x && y0 + dy >= 0 && y0 + dy < p.grid.height;
      const bool in1 = in_x && y0 + 2 + dy >= 0 && y0 + 2 + dy < p.grid.height;
      float hidden[kHT][4];
      std::uint32_t slab = queue.wait();
      wgmma_fence();
#pragma unroll
      for (int u = 0; u < kU; u += 2) {
        wgmma<F16>(hidden, a[u], a[u + 1], core_descriptor(slab + u * kHT * 128, kHT), u > 0);
      }
      wgmma_commit();
      wgmma_wait<0>(hidden);
      queue.release(lane);
      UnitA h[kHT + 1];
#pragma unroll
      for (int n = 0; n < kHT; ++n) {
        const float2 b = bias_at(kHopperBias0 + (group * kHT + n) * 8);
        const float c[4] = {fmaf(hidden[n][0], unscale0, b.x), fmaf(hidden[n][1], unscale0, b.y),
                            fmaf(hidden[n][2], unscale0, b.x), fmaf(hidden[n][3], unscale0, b.y)};
        h[n] = K::encode_relu(c);
        keep_rows(h[n], in0, in1);
      }
      h[kHT] = {};
      slab = queue.wait();
      wgmma_fence();
#pragma unroll
      for (int u = 0; u < kHT; u += 2) {
        wgmma<F16>(out, h[u], h[u + 1], core_descriptor(slab + u * kU * 128, kU),
                   kCopied || group + u > 0);
      }
      wgmma_commit();
      if (group + 1 < p.groups) {
        fetch(group + 1);
      } else {
        fetch_rest();
      }
      wgmma_wait<0>(out);
      queue.release(lane);
    }

    // The residual; y leaves and stays as an operand.
    UnitA y[kU + 1];
    y[kU] = {};
    constexpr int kHalf = kU / 4 * 2;
    using Term = std::conditional_t<kSplit, __half, S>;
    [[maybe_unused]] RowPair<Term, kU, kHalf> first;
    [[maybe_unused]] RowPair<Term, kU, kU - kHalf> second;
    if constexpr (!kCopied) {
      first.fetch(0, at_pixel<180>(stream, pixel0), at_pixel<180>(stream, pixel1), t);
      second.fetch(kHalf, at_pixel<180>(stream, pixel0), at_pixel<180>(stream, pixel1), t);
    }
    group_barrier(warpgroup);  // nobody reads the tile any more: the next one may come in
    if constexpr (kCopied) bring(index + static_cast<int>(gridDim.x));
#pragma unroll
    for (int n = 0; n < kU; ++n) {
      const float2 b = bias_at(kHopperBias1 + n * 8);
      out[n][0] = fmaf(out[n][0], unscale1, b.x);
      out[n][1] = fmaf(out[n][1], unscale1, b.y);
      out[n][2] = fmaf(out[n][2], unscale1, b.x);
      out[n][3] = fmaf(out[n][3], unscale1, b.y);
    }
    if constexpr (kSplit) {
      RestPair<kU> rest;
#pragma unroll
      for (int i = 0; i < kU + 1; ++i) {
        rest.word[i / RestPair<kU>::kWords][i % RestPair<kU>::kWords] = a[i / 2].r[i % 2];
      }
      rest.add(out);
    }
    auto& low = reinterpret_cast<float(&)[kHalf][4]>(out[0]);
    auto& high = reinterpret_cast<float(&)[kU - kHalf][4]>(out[kHalf]);
    if constexpr (!kCopied) {
      first.add(low);
      second.add(high);
    }
    const auto to0 = at_pixel<180>(result, pixel0), to1 = at_pixel<180>(result, pixel1);
    if constexpr (kSplit) {
      store_rows<kU>(out, 0, to0, to1, t);
    } else {
      store_rows<kU>(low, 0, to0, to1, t);
      store_rows<kU>(high, kHalf, to0, to1, t);
    }
#pragma unroll
    for (int n = 0; n < kU; ++n) y[n] = K::encode(out[n]);

    // One slab is a window group of q or v; the next one's products run while one is stored.
    const int block = (o.image * p.grid.height + o.y) / 4 * (p.grid.width / 4) + o.x / 4 + wx;
    const std::size_t block_at = block * block_bytes(kL, 2);
    float acc[2][kGU][4];
    const auto begin = [&](float(&d)[kGU][4]) {
      const std::uint32_t slab = queue.wait();
      wgmma_fence();
#pragma unroll
      for (int u = 0; u < kU; u += 2) {
        wgmma<F16>(d, y[u], y[u + 1], core_descriptor(slab + u * kGU * 128, kGU), u > 0);
      }
      wgmma_commit();
    };
    const auto project = [&](auto is_v, const float* bias, char* to) {
      begin(acc[0]);
#pragma unroll
      for (int s = 0; s < kWindowGroups; ++s) {
        auto& d = acc[s % 2];
        if (s + 1 < kWindowGroups) {
          begin(acc[(s + 1) % 2]);
          wgmma_wait<1>(d);
        } else {
          wgmma_wait<0>(d);
        }
        queue.release(lane);
        UnitA u[kGU];
#pragma unroll
        for (int n = 0; n < kGU; ++n) {
          const float2 b = *(reinterpret_cast<const float2*>(bias + (s * kGU + n) * 8) + t);
          const float c[4] = {
              fmaf(d[n][0], unscale_project, b.x), fmaf(d[n][1], unscale_project, b.y),
              fmaf(d[n][2], unscale_project, b.x), fmaf(d[n][3], unscale_project, b.y)};
          u[n] = K::encode(c);
          if (decltype(is_v)::value) K::transpose(u[n]);
        }
        char* at = to + s * group_bytes(kL, 2);
        if (s == kWindowGroups - 1) {
          store_cores(u, at, lane);
        } else {
          store_units<K, kGU, !decltype(is_v)::value>(u, at, lane);
        }
      }
    };
    const float* bias = biases + kHopperBiasProject;
    if (p.has_q) project(std::false_type{}, bias, p.q + block_at);
    if (p.has_q) bias += kWindowGroups * kGU * 8;
    project(std::true_type{}, bias, p.v + block_at);
    if constexpr (!kCopied) bring(index + static_cast<int>(gridDim.x));
  }
}

#endif

template <bool F16, typename S>
__global__ __launch_bounds__(kHopperThreads,
                             1) void lfe_hopper_kernel(const __grid_constant__ LfeArgs p) {
#if ELAN_HOPPER
  using T = PictureTile<Codec16<F16>, 180, 4, 1, kGroupThreads>;
  static_assert(T::kBytes == kHopperTileBytes);

  ELAN_DYNAMIC_SHARED(shared);
  __shared__ int taps[kMaxChunks], back[kMaxChunks], steps[kMaxChunks];
  __shared__ __align__(8) std::uint64_t barriers[2 * kHopperStages];
  const int thread = static_cast<int>(threadIdx.x);
  const SlabPlaces places{shared_address(shared) + 2 * T::kBytes, shared_address(barriers),
                          shared_address(barriers) + 8 * kHopperStages, kHopperStages};
  const int tiles = p.grid.width / 16 * (p.grid.height / 8) * p.grid.batch;

  if (thread < kMaxChunks) {
    taps[thread] = (p.chunk_y[thread] + 1) * 4 + p.chunk_x[thread] + 1;
    back[thread] = way_back<T>(thread, taps[thread]);
    steps[thread] = step_to<T>(thread, taps[thread], p.grid.width);
  }
  float* biases =
      reinterpret_cast<float*>(shared + 2 * T::kBytes + kHopperStages * kHopperStageBytes);
  stage_biases(biases, p);
  if (thread == 0) {
    places.init();
    barrier_init_fence();
  }
  __syncthreads();
  if (thread >= kComputeThreads) {
    give_registers<24>();
    if (thread == kComputeThreads) bring_slabs(p, tiles, places);
  } else {
    take_registers<240>();
    wait_for_previous();
    compute<F16, S>(p, tiles, shared + thread / kGroupThreads * T::kBytes, taps, steps, back,
                    biases, SlabQueue<kHopperStageBytes>(places));
  }
#else
  __trap();
#endif
}

using LfeKernel = void (*)(LfeArgs);
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
  launch_kernel(kernel, dim3(static_cast<unsigned>(a.shape.blocks)), kHopperThreads,
                static_cast<std::size_t>(a.shape.shared_bytes), stream, a);
}

}  // namespace elan::cuda
