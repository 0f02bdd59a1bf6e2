// The fused LFE of lfe.cuh on Hopper's own instructions, for 180 channels in 16 bits: the same
// tile, the same chain from conv0 to project_inp in registers, but products of a whole warpgroup
// with weights straight from shared memory, and a warp that does nothing but bring the weights.

#include "cuda/kernels/tile.cuh"
#include "cuda/kernels/wgmma.cuh"

namespace elan::cuda {
namespace {

constexpr ChannelLayout kL = layout_of(180);
constexpr int kU = kL.units, kHT = kL.hidden_tiles, kGU = kL.group_units;
// Two warpgroups compute; of a third one thread brings the weights. Registers move from it to them.
constexpr int kComputeThreads = 256, kThreads = 384;

#if ELAN_HOPPER

// The consumers' side of the slabs in shared memory. Slabs are released in order, some later than
// the next one is waited for: the products that read them are still under way.
struct SlabQueue {
  std::uint32_t slabs, full, empty;
  int slot = 0, parity = 0, oldest = 0;

  __device__ __forceinline__ std::uint32_t wait() {
    barrier_wait(full + slot * 8, parity);
    const std::uint32_t slab = slabs + slot * kHopperStageBytes;
    if (++slot == kHopperStages) {
      slot = 0;
      parity ^= 1;
    }
    return slab;
  }
  // This warp is done with the oldest slab.
  __device__ __forceinline__ void release(int lane) {
    if (lane == 0) barrier_arrive(empty + oldest * 8);
    if (++oldest == kHopperStages) oldest = 0;
  }
};

__device__ __forceinline__ void compute_barrier() {
  asm volatile("bar.sync 1, %0;" ::"n"(kComputeThreads) : "memory");
}

__device__ __forceinline__ void bring_slabs(const LfeArgs& p, int tiles, std::uint32_t slabs,
                                            std::uint32_t full, std::uint32_t empty) {
  const int conv = 2 * p.groups, steps = conv + kWindowGroups * (p.has_q ? 2 : 1);
  int slot = 0, parity = 1;  // a fresh barrier counts as passed
  for (int index = static_cast<int>(blockIdx.x); index < tiles;
       index += static_cast<int>(gridDim.x)) {
    const char* from = p.weights;
    for (int s = 0; s < steps; ++s) {
      const int bytes = s >= conv    ? kHopperProjectBytes
                        : s % 2 == 0 ? kHopperConv0Bytes
                                     : kHopperConv1Bytes;
      barrier_wait(empty + slot * 8, parity);
      barrier_expect(full + slot * 8, bytes);
      copy_bulk(slabs + slot * kHopperStageBytes, from, bytes, full + slot * 8);
      from += bytes;
      if (++slot == kHopperStages) {
        slot = 0;
        parity ^= 1;
      }
    }
  }
}

#endif

template <bool F16, bool HasQ>
__global__ __launch_bounds__(kThreads,
                             1) void lfe_hopper_kernel(const __grid_constant__ LfeArgs p) {
#if ELAN_HOPPER
  using K = Codec16<F16>;
  using T = PictureTile<K, 180, 4, 2>;
  using UnitA = UnitA2;

  extern __shared__ __align__(128) char shared[];
  __shared__ int taps[kMaxChunks];
  __shared__ __align__(8) std::uint64_t barriers[2 * kHopperStages];
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  const auto tile_address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  const std::uint32_t slabs = tile_address + T::kBytes;
  const auto full = static_cast<std::uint32_t>(__cvta_generic_to_shared(barriers));
  const std::uint32_t empty = full + 8 * kHopperStages;
  const int tiles = p.grid.width / 16 * (p.grid.height / 8) * p.grid.batch;

  allow_next();
  if (thread < kMaxChunks) taps[thread] = (p.chunk_y[thread] + 1) * 4 + p.chunk_x[thread] + 1;
  float* biases = reinterpret_cast<float*>(shared + T::kBytes + kHopperStages * kHopperStageBytes);
  const int projected = kWindowGroups * kGU * 8 * (HasQ ? 2 : 1);
  for (int i = thread; i < kHopperBias0 + p.groups * kHT * 8; i += kThreads) {
    if (i < kHopperBiasProject) {
      biases[i] = p.bias1[i];
    } else if (i < kHopperBias0) {
      biases[i] = i - kHopperBiasProject < projected ? p.bias_project[i - kHopperBiasProject] : 0.F;
    } else {
      biases[i] = p.bias0[i - kHopperBias0];
    }
  }
  if (thread == 0) {
    for (int i = 0; i < kHopperStages; ++i) {
      barrier_init(full + i * 8, 1);
      barrier_init(empty + i * 8, kComputeThreads / 32);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  if (warp >= kComputeThreads / 32) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (thread == kComputeThreads) bring_slabs(p, tiles, slabs, full, empty);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
    wait_for_previous();
    const int g = lane >> 2, t = lane & 3;
    const int wx = warp % 4, wy = warp / 4;
    const auto bias_at = [&](int i) { return *(reinterpret_cast<const float2*>(biases + i) + t); };
    SlabQueue queue{slabs, full, empty};
    int index = static_cast<int>(blockIdx.x);
    if (index < tiles) {
      TileWalk<T> walk(thread);
      load_tile<K, T>(0, walk, shared, p.x, tile_origin<4, 2>(index, p.grid), p.grid, taps);
    }
    const std::uint32_t base = K::lane_base(lane, [&](int r) {
      return static_cast<std::uint32_t>(((wy * 4 + r / 4 + 1) * T::kRow + wx * 4 + r % 4 + 1) *
                                        T::kPitch);
    });
    const float unscale0 = p.unscale0, unscale1 = p.unscale1, unscale_project = p.unscale_project;

    for (; index < tiles; index += static_cast<int>(gridDim.x)) {
      const TileOrigin o = tile_origin<4, 2>(index, p.grid);
      const int y0 = o.y + wy * 4 + (g >> 2), x0 = o.x + wx * 4 + (g & 3);
      compute_barrier();  // the tile is there

      float out[kU][4];
#pragma unroll 1
      for (int group = 0; group < p.groups; ++group) {
        const int dy = p.hidden_y[group], dx = p.hidden_x[group];
        const std::uint32_t at = base + (dy * T::kRow + dx) * T::kPitch;
        UnitA a[kU + 1];
#pragma unroll
        for (int u = 0; u + 1 < kU; u += 2) K::load_pair(a[u], a[u + 1], tile_address, at, 0, u);
        K::load_one(a[kU - 1], tile_address, at, 0, kU - 1);
        a[kU] = {};

        float hidden[kHT][4];
        std::uint32_t slab = queue.wait();
        wgmma_fence();
#pragma unroll
        for (int u = 0; u < kU; u += 2) {
          wgmma<F16>(hidden, a[u], a[u + 1], core_descriptor(slab + u * kHT * 128, kHT), u > 0);
        }
        wgmma_commit();
        wgmma_wait<0>(hidden);  // and the last group's conv1
        queue.release(lane);

        const bool in_x = x0 + dx >= 0 && x0 + dx < p.grid.width;
        const bool in0 = in_x && y0 + dy >= 0 && y0 + dy < p.grid.height;
        const bool in1 = in_x && y0 + 2 + dy >= 0 && y0 + 2 + dy < p.grid.height;
        UnitA h[kHT + 1];
#pragma unroll
        for (int n = 0; n < kHT; ++n) {
          const float2 b = bias_at(kHopperBias0 + (group * kHT + n) * 8);
          float c[4] = {
              relu(fmaf(hidden[n][0], unscale0, b.x)), relu(fmaf(hidden[n][1], unscale0, b.y)),
              relu(fmaf(hidden[n][2], unscale0, b.x)), relu(fmaf(hidden[n][3], unscale0, b.y))};
          c[0] = in0 ? c[0] : 0.F;
          c[1] = in0 ? c[1] : 0.F;
          c[2] = in1 ? c[2] : 0.F;
          c[3] = in1 ? c[3] : 0.F;
          h[n] = K::encode(c);
        }
        h[kHT] = {};
        slab = queue.wait();
        wgmma_fence();
#pragma unroll
        for (int u = 0; u < kHT; u += 2) {
          wgmma<F16>(out, h[u], h[u + 1], core_descriptor(slab + u * kU * 128, kU), group + u > 0);
        }
        wgmma_commit();
        wgmma_wait<0>(out);
        queue.release(lane);
      }

      // The residual; y leaves in FP32 and stays as an operand.
      UnitA y[kU + 1];
      y[kU] = {};
      const auto pixel =
          (static_cast<std::size_t>(o.image) * p.grid.height + y0) * p.grid.width + x0;
      const std::size_t row0 = pixel * (8 * kU),
                        row1 = row0 + 2 * static_cast<std::size_t>(p.grid.width) * (8 * kU);
      constexpr int kHalf = kU / 4 * 2;
      RowPair<kU, kHalf> first;
      RowPair<kU, kU - kHalf> second;
      first.fetch(0, p.x + row0, p.x + row1, t);
      second.fetch(kHalf, p.x + row0, p.x + row1, t);
#pragma unroll
      for (int n = 0; n < kU; ++n) {
        const float2 b = bias_at(kHopperBias1 + n * 8);
        out[n][0] = fmaf(out[n][0], unscale1, b.x);
        out[n][1] = fmaf(out[n][1], unscale1, b.y);
        out[n][2] = fmaf(out[n][2], unscale1, b.x);
        out[n][3] = fmaf(out[n][3], unscale1, b.y);
      }
      auto& low = reinterpret_cast<float(&)[kHalf][4]>(out[0]);
      auto& high = reinterpret_cast<float(&)[kU - kHalf][4]>(out[kHalf]);
      first.add(low);
      store_rows<kU>(low, 0, p.y + row0, p.y + row1, t);
      second.add(high);
      store_rows<kU>(high, kHalf, p.y + row0, p.y + row1, t);
#pragma unroll
      for (int n = 0; n < kU; ++n) y[n] = K::encode(out[n]);

      compute_barrier();  // nobody reads the tile any more: the next one may come in
      const int next = index + static_cast<int>(gridDim.x);
      const TileOrigin next_origin = tile_origin<4, 2>(next, p.grid);
      constexpr int kAhead = 3;
      int slice = next < tiles ? 0 : T::kSlices;
      TileWalk<T> walk(thread);
      const float4* next_image = tile_image<T>(p.x, next_origin, p.grid);
      const int block =
          ((o.image * p.grid.height + o.y) / 4 + wy) * (p.grid.width / 4) + o.x / 4 + wx;
      constexpr std::size_t kBlock = block_bytes(kL, 2);

      // One slab is a window group of q or v; the next one's products run while one is stored.
      constexpr int kSlabs = kWindowGroups * (HasQ ? 2 : 1);
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
      begin(acc[0]);
#pragma unroll
      for (int s = 0; s < kSlabs; ++s) {
        float4 ahead[kAhead];
        const bool fetching = slice < T::kSlices;
        if (fetching) fetch_slices<T>(ahead, walk, next_image, next_origin, p.grid, taps);
        auto& d = acc[s % 2];
        if (s + 1 < kSlabs) {
          begin(acc[(s + 1) % 2]);
          wgmma_wait<1>(d);
        } else {
          wgmma_wait<0>(d);
        }
        queue.release(lane);
        if (fetching) {
          store_slices<K, T>(ahead, walk, shared);
          fetch_slices<T>(ahead, walk, next_image, next_origin, p.grid, taps);
        }
        constexpr int kFirstV = HasQ ? kWindowGroups : 0;
        UnitA u[kGU];
#pragma unroll
        for (int n = 0; n < kGU; ++n) {
          const float2 b = bias_at(kHopperBiasProject + (s * kGU + n) * 8);
          const float c[4] = {
              fmaf(d[n][0], unscale_project, b.x), fmaf(d[n][1], unscale_project, b.y),
              fmaf(d[n][2], unscale_project, b.x), fmaf(d[n][3], unscale_project, b.y)};
          u[n] = K::encode(c);
          if (s >= kFirstV) K::transpose(u[n]);
        }
        if (s >= kFirstV) {
          store_units<K, kGU, false>(u, p.v + block * kBlock + (s - kFirstV) * group_bytes(kL, 2),
                                     lane);
        } else {
          store_units<K, kGU, true>(u, p.q + block * kBlock + s * group_bytes(kL, 2), lane);
        }
        if (fetching) store_slices<K, T>(ahead, walk, shared);
        slice += 2 * kAhead;
      }
      load_tile<K, T>(slice, walk, shared, p.x, next_origin, p.grid, taps);
    }
  }
#else
  __trap();
#endif
}

}  // namespace

bool hopper_compiled() {
  cudaFuncAttributes attributes{};
  const void* kernel = reinterpret_cast<const void*>(&lfe_hopper_kernel<true, true>);
  return cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess && attributes.ptxVersion == 90 &&
         attributes.binaryVersion == 90;
}

void prepare_hopper() {
  for (const void* kernel : {reinterpret_cast<const void*>(&lfe_hopper_kernel<true, true>),
                             reinterpret_cast<const void*>(&lfe_hopper_kernel<true, false>),
                             reinterpret_cast<const void*>(&lfe_hopper_kernel<false, true>),
                             reinterpret_cast<const void*>(&lfe_hopper_kernel<false, false>)}) {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         hopper_shared_bytes());
  }
}

void launch_lfe_hopper(Operand operand, const LfeArgs& a, cudaStream_t stream) {
  const auto kernel =
      operand == Operand::fp16
          ? (a.has_q ? &lfe_hopper_kernel<true, true> : &lfe_hopper_kernel<true, false>)
          : (a.has_q ? &lfe_hopper_kernel<false, true> : &lfe_hopper_kernel<false, false>);
  launch_kernel(kernel, dim3(static_cast<unsigned>(a.shape.blocks)), kThreads,
                static_cast<std::size_t>(a.shape.shared_bytes), stream, a);
}

}  // namespace elan::cuda
