// The fused LFE in 8 bits on Hopper's own instructions, for 180 channels: products of integers with
// weights straight from shared memory. A whole hidden layer of 64 pixels is 46 registers, so conv0
// is done with all groups before conv1 begins, and four warpgroups fit on a multiprocessor.

#include "cuda/kernels/int8.cuh"
#include "cuda/kernels/tile.cuh"

namespace elan::cuda {
namespace {

constexpr ChannelLayout kL = layout_of(180);
constexpr int kU = kL.units, kGU = kL.group_units, kTiles = kInt8Tiles;
constexpr int kGroupThreads = 128, kThreads = kInt8Warpgroups * kGroupThreads;
constexpr int kTileWidth = 18, kTileHeight = 6;
static_assert(kGU == kTiles);

#if ELAN_HOPPER

// What the one thread that brings slabs knows; in shared memory, for all threads would need
// registers for it.
struct Bringer {
  int left, step, from, slot, parity;
};

// Slabs of weights in order. The next one comes when the bringer's own warp is done with the slab
// half a ring before it: so far apart may warpgroups be.
struct SlabQueue {
  std::uint32_t slabs, full, empty;
  Bringer* bringer;  // null for other threads
  int slot = 0, parity = 0, oldest = 0;

  __device__ __forceinline__ std::uint32_t wait() {
    barrier_wait(full + slot * 8, parity);
    const std::uint32_t slab = slabs + slot * kInt8Conv0Bytes;
    if (++slot == kInt8Stages) {
      slot = 0;
      parity ^= 1;
    }
    return slab;
  }
  // This warp is done with the oldest slab.
  __device__ __forceinline__ void release(const LfeArgs& p, int lane) {
    if (lane == 0) barrier_arrive(empty + oldest * 8);
    if (++oldest == kInt8Stages) oldest = 0;
    if (bringer != nullptr) bring(p);
  }
  __device__ __forceinline__ void bring(const LfeArgs& p) const {
    Bringer b = *bringer;
    if (b.left == 0) return;
    --b.left;
    constexpr int kConvs = kInt8HiddenGroups + 2 * kInt8OutSlabs;
    const int steps = kConvs + kWindowGroups * (p.has_q ? 2 : 1);
    const int bytes = b.step < kInt8HiddenGroups ? kInt8Conv0Bytes : kInt8SlabBytes;
    barrier_wait(empty + b.slot * 8, b.parity);
    barrier_expect(full + b.slot * 8, bytes);
    copy_bulk(slabs + b.slot * kInt8Conv0Bytes, p.weights + b.from, bytes, full + b.slot * 8);
    b.from += bytes;
    if (++b.step == steps) b.step = b.from = 0;
    if (++b.slot == kInt8Stages) {
      b.slot = 0;
      b.parity ^= 1;
    }
    *bringer = b;
  }
};

// The tile of a warpgroup, 16 x 4 pixels and their ring.
__device__ __forceinline__ void bring_tile(const LfeArgs& p, const TileOrigin& o,
                                           std::uint32_t tile, std::uint32_t full) {
  barrier_expect(full, kTileHeight * kTileWidth * kInt8Pitch);
  const int width = p.grid.width + 2;
  const char* from =
      p.integers +
      (static_cast<std::size_t>(o.image * (p.grid.height + 2) + o.y) * width + o.x) * kInt8Pitch;
#pragma unroll 1
  for (int row = 0; row < kTileHeight; ++row) {
    copy_bulk(tile, from, kTileWidth * kInt8Pitch, full);
    tile += kInt8TileRow * kInt8Pitch;
    from += width * kInt8Pitch;
  }
}

__device__ __forceinline__ void compute(const LfeArgs& p, int tiles, std::uint32_t tile,
                                        const float4* columns, std::uint32_t tile_full,
                                        std::uint32_t tile_empty, SlabQueue queue) {
  using K = CodecFp16;
  const int thread = static_cast<int>(threadIdx.x) % kGroupThreads;
  const int warpgroup = static_cast<int>(threadIdx.x) / kGroupThreads;
  const int lane = thread & 31, wx = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  const __half* stream = static_cast<const __half*>(p.x);
  __half* result = static_cast<__half*>(p.y);
  const std::uint32_t base =
      tile + static_cast<std::uint32_t>(
                 (((lane & 15) / 4 + 1) * kInt8TileRow + wx * 4 + lane % 4 + 1) * kInt8Pitch +
                 (lane >> 4) * 16);
  columns += t;
  const auto origin = [&](int index) {
    TileOrigin o = tile_origin<4, kInt8Warpgroups>(index, p.grid);
    o.y += 4 * warpgroup;
    return o;
  };
  int index = static_cast<int>(blockIdx.x), tile_parity = 0;
  if (thread == 0) bring_tile(p, origin(index), tile, tile_full);

#pragma unroll 1
  for (; index < tiles; index += static_cast<int>(gridDim.x)) {
    const TileOrigin o = origin(index);
    const int y0 = o.y + (g >> 2), x0 = o.x + wx * 4 + (g & 3);
    barrier_wait(tile_full, tile_parity);

    // The hidden layer: of each group four units, and a tile that is half of one.
    Int8Units hidden[kInt8HiddenUnits];
    Int8Units half{};
#pragma unroll
    for (int group = 0; group < kInt8HiddenGroups; ++group) {
      const int dy = p.hidden_y[group], dx = p.hidden_x[group];
      int acc[kInt8HiddenTiles][4];
      {
        Int8Units a[kInt8Units];
#pragma unroll
        for (int u = 0; u < kInt8Units; u += 2) {
          std::uint32_t r[4];
          ldmatrix4(r, base + (dy * kInt8TileRow + dx) * kInt8Pitch + u * 16);
          a[u] = {{r[0], r[1]}};
          a[u + 1] = {{r[2], r[3]}};
        }
        multiply_int8(acc, a, queue.wait(), false);
      }
      wgmma_wait<0>(acc);
      queue.release(p, lane);
      // Outside the picture the hidden layer is zero.
      const bool in_x = x0 + dx >= 0 && x0 + dx < p.grid.width;
      const std::uint32_t keep[2] = {
          in_x && y0 + dy >= 0 && y0 + dy < p.grid.height ? ~0U : 0U,
          in_x && y0 + 2 + dy >= 0 && y0 + 2 + dy < p.grid.height ? ~0U : 0U};
      const auto encode = [&](const float(&c0)[4], const float(&c1)[4]) {
        return Int8Units{{relu_int8(pack_int8(c0[0], c0[1], c1[0], c1[1])) & keep[0],
                          relu_int8(pack_int8(c0[2], c0[3], c1[2], c1[3])) & keep[1]}};
      };
      const auto values = [&](float(&c)[4], int n) {
        apply_int8(c, acc[n], columns[(group * kInt8HiddenTiles + n) * 4]);
      };
      float c0[4], c1[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        values(c0, 2 * i);
        values(c1, 2 * i + 1);
        hidden[4 * group + i] = encode(c0, c1);
      }
      values(c0, 8);
      const float none[4] = {};
      const Int8Units odd = group % 2 == 0 ? encode(c0, none) : encode(none, c0);
      half = group % 2 == 0 ? odd : Int8Units{{half.r[0] | odd.r[0], half.r[1] | odd.r[1]}};
      hidden[4 * kInt8HiddenGroups + group / 2] = half;
    }
    hidden[kInt8HiddenUnits - 1] = {};
    if (lane == 0) barrier_arrive(tile_empty);

    // conv1 and the residual; y leaves and stays as an operand.
    const auto pixel = (static_cast<std::size_t>(o.image) * p.grid.height + y0) * p.grid.width + x0;
    const std::size_t row0 = pixel * (8 * kU),
                      row1 = row0 + 2 * static_cast<std::size_t>(p.grid.width) * (8 * kU);
    Int8Units y[kInt8Units];
#pragma unroll
    for (int s = 0; s < kInt8OutSlabs; ++s) {
      int acc[kTiles][4];
      multiply_int8(acc, hidden, queue.wait(), false);
      multiply_int8(acc, hidden + kInt8Units, queue.wait(), true);
      RowPair<__half, kU, kTiles> residual;
      residual.fetch(s * kTiles, stream + row0, stream + row1, t);
      if (s == 0 && thread == 0) {
        const int next = index + static_cast<int>(gridDim.x);
        barrier_wait(tile_empty, tile_parity);
        if (next < tiles) bring_tile(p, origin(next), tile, tile_full);
      }
      wgmma_wait<0>(acc);
      queue.release(p, lane);
      queue.release(p, lane);
      float out[kTiles][4];
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        apply_int8(out[n], acc[n], columns[(kInt8Conv1Columns + s * kTiles + n) * 4]);
      }
      residual.add(out);
      store_rows<kU>(out, s * kTiles, result + row0, result + row1, t);
#pragma unroll
      for (int i = 0; i < kTiles / 2; ++i) {
        y[s * kTiles / 2 + i] = quantize_int8(out[2 * i], out[2 * i + 1], p.projected.factor);
      }
    }

    // One slab is a window group of q or v; the next one's products run while one is stored.
    const int block = (o.image * p.grid.height + o.y) / 4 * (p.grid.width / 4) + o.x / 4 + wx;
    const std::size_t block_at = block * block_bytes(kL, 2);
    int acc[2][kTiles][4];
    const auto project = [&](auto is_v, const float4* at, char* to) {
      multiply_int8(acc[0], y, queue.wait(), false);
#pragma unroll
      for (int s = 0; s < kWindowGroups; ++s) {
        auto& d = acc[s % 2];
        if (s + 1 < kWindowGroups) {
          multiply_int8(acc[(s + 1) % 2], y, queue.wait(), false);
          wgmma_wait<1>(d);
        } else {
          wgmma_wait<0>(d);
        }
        queue.release(p, lane);
        UnitA2 u[kGU];
#pragma unroll
        for (int n = 0; n < kGU; ++n) {
          float c[4];
          apply_int8(c, d[n], at[(s * kTiles + n) * 4]);
          u[n] = K::encode(c);
          if (decltype(is_v)::value) K::transpose(u[n]);
        }
        char* place = to + s * group_bytes(kL, 2);
        if (s == kWindowGroups - 1) {
          store_cores(u, place, lane);
        } else {
          store_units<K, kGU, !decltype(is_v)::value>(u, place, lane);
        }
      }
    };
    const float4* at = columns + kInt8ProjectColumns * 4;
    if (p.has_q) project(std::false_type{}, at, p.q + block_at);
    if (p.has_q) at += kWindowGroups * kTiles * 4;
    project(std::true_type{}, at, p.v + block_at);
    tile_parity ^= 1;
  }
}

#endif

__global__ __launch_bounds__(kThreads, 1) void lfe_int8_kernel(const __grid_constant__ LfeArgs p) {
#if ELAN_HOPPER
  constexpr int kSlabsAt = kInt8Warpgroups * kInt8TileBytes;
  constexpr int kColumnsAt = kSlabsAt + kInt8Stages * kInt8Conv0Bytes;
  ELAN_DYNAMIC_SHARED(shared);
  __shared__ __align__(8) std::uint64_t barriers[1 + 2 * kInt8Stages + 2 * kInt8Warpgroups];
  const int thread = static_cast<int>(threadIdx.x), warpgroup = thread / kGroupThreads;
  const std::uint32_t first = shared_address(shared);
  const std::uint32_t columns_full = shared_address(barriers);
  const std::uint32_t slab_full = columns_full + 8, slab_empty = slab_full + 8 * kInt8Stages;
  const std::uint32_t tile_full = slab_empty + 8 * kInt8Stages;
  const std::uint32_t tile_empty = tile_full + 8 * kInt8Warpgroups;
  const int tiles = p.grid.width / 16 * (p.grid.height / 16) * p.grid.batch;

  allow_next();
  if (thread == 0) {
    barrier_init(columns_full, 1);
    for (int i = 0; i < kInt8Stages; ++i) {
      barrier_init(slab_full + i * 8, 1);
      barrier_init(slab_empty + i * 8, kThreads / 32);
    }
    for (int i = 0; i < kInt8Warpgroups; ++i) {
      barrier_init(tile_full + i * 8, 1);
      barrier_init(tile_empty + i * 8, kGroupThreads / 32);
    }
    barrier_init_fence();
    const int bytes =
        (p.has_q ? kInt8Columns : kInt8Columns - kWindowGroups * kTiles) * kInt8ColumnBytes;
    barrier_expect(columns_full, bytes);
    copy_bulk(first + kColumnsAt, p.columns, bytes, columns_full);
  }
  __shared__ Bringer bringer;
  const SlabQueue queue{first + kSlabsAt, slab_full, slab_empty, thread == 0 ? &bringer : nullptr};
  if (thread == 0) {
    const int rounds = (tiles - 1 - static_cast<int>(blockIdx.x)) / static_cast<int>(gridDim.x) + 1;
    const int convs = kInt8HiddenGroups + 2 * kInt8OutSlabs;
    bringer = {rounds * (convs + kWindowGroups * (p.has_q ? 2 : 1)), 0, 0, 0,
               1};  // a fresh barrier counts as passed
    for (int i = 0; i < kInt8Stages / 2; ++i) queue.bring(p);
  }
  __syncthreads();
  wait_for_previous();
  barrier_wait(columns_full, 0);
  compute(p, tiles, first + warpgroup * kInt8TileBytes,
          reinterpret_cast<const float4*>(shared + kColumnsAt), tile_full + 8 * warpgroup,
          tile_empty + 8 * warpgroup, queue);
#else
  __trap();
#endif
}

}  // namespace

void prepare_lfe_int8() {
  cudaFuncSetAttribute(reinterpret_cast<const void*>(&lfe_int8_kernel),
                       cudaFuncAttributeMaxDynamicSharedMemorySize, int8_lfe_shared_bytes());
}

void launch_lfe_int8_hopper(const LfeArgs& a, cudaStream_t stream) {
  launch_kernel(&lfe_int8_kernel, dim3(static_cast<unsigned>(a.shape.blocks)), kThreads,
                static_cast<std::size_t>(a.shape.shared_bytes), stream, a);
}

}  // namespace elan::cuda
