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
static_assert(kGU == kTiles);

#if ELAN_HOPPER

// Slabs of weights in the order of use; of every tile as many, so that each has one place.
constexpr int kConv1 = kInt8HiddenGroups, kProject = kConv1 + 2 * kInt8OutSlabs;
constexpr int kV = kProject + kWindowGroups;
constexpr int kSlabs = (kV + kWindowGroups + kInt8Stages - 1) / kInt8Stages * kInt8Stages;
static_assert(kSlabs / kInt8Stages % 2 == 1);
// So many slabs before its use one is brought; as many warps may lag behind as places are left.
constexpr int kAhead = 4;

// All warps go through all slabs, and each brings some of them.
struct Slabs {
  std::uint32_t slabs, full, empty;
  int warp, lane;
  int parity = 0;     // of the tile
  bool more = false;  // there is a next tile

  __device__ __forceinline__ std::uint32_t wait(int slab) const {
    barrier_wait(full + slab % kInt8Stages * 8, parity ^ (slab / kInt8Stages & 1));
    return slabs + slab % kInt8Stages * kInt8Conv0Bytes;
  }
  // This warp is done with a slab.
  __device__ __forceinline__ void release(const LfeArgs& p, int slab) const {
    if (lane == 0) {
      barrier_arrive(empty + slab % kInt8Stages * 8);
      if (warp == slab * 5 % (4 * kInt8Warpgroups)) bring(p, slab + kAhead);
    }
  }
  // Of a slab that is none. To release it without waiting would count for the one before it.
  __device__ __forceinline__ void skip(const LfeArgs& p, int slab) const {
    wait(slab);
    release(p, slab);
  }
  // By one thread; slabs from kSlabs on are the next tile's.
  __device__ __forceinline__ void bring(const LfeArgs& p, int slab) const {
    if (slab >= kSlabs && !more) return;
    const int place = slab % kInt8Stages, s = slab % kSlabs;
    const std::uint32_t there = full + place * 8;
    // A fresh barrier counts as passed.
    barrier_wait(empty + place * 8, parity ^ (slab / kInt8Stages & 1) ^ 1);
    if (s >= kV + kWindowGroups || (s >= kProject && s < kV && !p.has_q)) {
      barrier_arrive(there);  // there is none
    } else {
      const int bytes = s < kConv1 ? kInt8Conv0Bytes : kInt8SlabBytes;
      int from = s < kConv1 ? s * kInt8Conv0Bytes
                            : kConv1 * kInt8Conv0Bytes + (s - kConv1) * kInt8SlabBytes;
      if (s >= kV && !p.has_q) from -= kWindowGroups * kInt8SlabBytes;
      barrier_expect(there, bytes);
      copy_bulk(slabs + place * kInt8Conv0Bytes, p.weights + from, bytes, there);
    }
  }
};

// The tile of a warpgroup, 16 x 4 pixels and their ring, by its four warps: each plane from where
// its tap is, the last one, of all taps, with a ring twice as wide. A row is a copy of its own.
__device__ __forceinline__ void bring_tile(const LfeArgs& p, const TileOrigin& o,
                                           std::uint32_t tile, std::uint32_t full) {
  constexpr int kRow = kInt8TileWidth * kInt8PlaneBytes;
  constexpr int kRows = kInt8Taps * kInt8TileHeight, kRestRows = kInt8TileHeight + 2;
  constexpr int kPerWarp = (kRows + kRestRows + 3) / 4;
  const int thread = thread_now() % kGroupThreads, lane = thread % 32;
  if (thread == 0) barrier_expect(full, kRows * kRow + kRestRows * kInt8RestRow);
  const int copy = thread / 32 * kPerWarp + lane;
  if (lane >= kPerWarp || copy >= kRows + kRestRows) return;
  const bool rest = copy >= kRows;
  const int plane = rest ? kInt8Taps : copy / kInt8TileHeight;
  const int row = copy - plane * kInt8TileHeight;
  const int width = p.grid.width + 2 * kInt8Ring, height = p.grid.height + 2 * kInt8Ring;
  const int dy = rest ? 0 : p.chunk_y[plane * kInt8TapChunks] + 1;
  const int dx = rest ? 0 : p.chunk_x[plane * kInt8TapChunks] + 1;
  const auto line =
      static_cast<std::size_t>(o.image * height + o.y + row + dy) * kInt8Planes + plane;
  copy_bulk(tile + plane * kInt8TilePlane + row * (rest ? kInt8RestRow : kInt8TileRow),
            p.integers + (line * width + o.x + dx) * kInt8PlaneBytes, rest ? kInt8RestRow : kRow,
            full);
}

// The last plane of a tile, each chunk displaced by its tap.
__device__ __forceinline__ void displace_last(const LfeArgs& p, char* tile) {
  const int thread = thread_now() % kGroupThreads;
  if (thread < kInt8TileWidth * kInt8TileHeight) {
    const int row = thread / kInt8TileWidth, column = thread % kInt8TileWidth;
    const char* from =
        tile + kInt8RestAt + (row + 1) * kInt8RestRow + (column + 1) * kInt8PlaneBytes;
    std::uint32_t words[kInt8Taps];
#pragma unroll
    for (int i = 0; i < kInt8Taps; ++i) {
      const int dy = p.chunk_y[i * kInt8TapChunks], dx = p.chunk_x[i * kInt8TapChunks];
      words[i] = *reinterpret_cast<const std::uint32_t*>(from + dy * kInt8RestRow +
                                                         dx * kInt8PlaneBytes + 4 * i);
    }
    auto* to = reinterpret_cast<uint4*>(tile + kInt8LastPlaneAt + row * kInt8TileRow +
                                        column * kInt8PlaneBytes);
    to[0] = make_uint4(words[0], words[1], words[2], words[3]);
    to[1] = make_uint4(words[4], 0, 0, 0);
  }
}

// The residual of a tile, by a warp.
__device__ __forceinline__ void bring_residual(const LfeArgs& p, const TileOrigin& o,
                                               std::uint32_t tile, std::uint32_t full) {
  const int lane = thread_now() % 32;
  if (lane == 0) barrier_expect(full, 4 * kInt8ResidualRow);
  __syncwarp();
  if (lane < 4) {
    const auto pixel =
        (static_cast<std::size_t>(o.image) * p.grid.height + o.y + lane) * p.grid.width + o.x;
    copy_bulk(tile + lane * kInt8ResidualRow, static_cast<const __half*>(p.x) + pixel * (8 * kU),
              kInt8ResidualRow, full);
  }
}

// q of a block as bytes: see attention_int8.cuh. Of windows of 16 as core matrices of 8 tokens x 16
// channels, [half of the tokens][unit].
__device__ __forceinline__ void store_q_int8(const float (&c)[kTiles][4], char* to, bool cores,
                                             int lane) {
  ByteUnits u[kTiles / 2];
#pragma unroll
  for (int i = 0; i < kTiles / 2; ++i) u[i] = encode<Int8>(c[2 * i], c[2 * i + 1], 1);
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    char* half = to + h * (kInt8GroupBytes / 2);
    if (cores) {
#pragma unroll
      for (int i = 0; i < kTiles / 2; ++i) {
        reinterpret_cast<std::uint32_t*>(half + i * 128)[lane] = u[i].r[h];
      }
    } else {
      reinterpret_cast<uint4*>(half)[lane] = make_uint4(u[0].r[h], u[1].r[h], u[2].r[h], u[3].r[h]);
    }
  }
}

// v, transposed: core matrices of 8 channels x 16 tokens.
__device__ __forceinline__ void store_v_int8(const float (&c)[kTiles][4], char* to, bool cores,
                                             int lane) {
  std::uint32_t w[kTiles];
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    w[n] = transpose16(Int8::encode(c[n][0], c[n][2], c[n][1], c[n][3], 1));
    if (cores) reinterpret_cast<std::uint32_t*>(to + n * 128)[lane] = w[n];
  }
  if (!cores) {
    reinterpret_cast<uint4*>(to)[lane] = make_uint4(w[0], w[1], w[2], w[3]);
    reinterpret_cast<uint4*>(to + kInt8GroupBytes / 2)[lane] = make_uint4(w[4], w[5], w[6], w[7]);
  }
}

template <typename E, bool Bytes>
__device__ __forceinline__ void compute(const LfeArgs& p, int tiles, char* tile,
                                        const float4* columns, std::uint32_t tile_full,
                                        Slabs slabs) {
  using K = CodecFp16;
  const int thread = static_cast<int>(threadIdx.x) % kGroupThreads;
  const int warpgroup = static_cast<int>(threadIdx.x) / kGroupThreads;
  const int lane = thread & 31, wx = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  const std::uint32_t tile_address = shared_address(tile);
  __half* result = static_cast<__half*>(p.y);
  const std::uint32_t base =
      tile_address +
      static_cast<std::uint32_t>(((lane & 15) / 4 + 1) * kInt8TileRow +
                                 (wx * 4 + lane % 4 + 1) * kInt8PlaneBytes + (lane >> 4) * 16);
  const auto* const own = reinterpret_cast<const __half*>(
      tile + (g >> 2) * kInt8ResidualRow + (wx * 4 + (g & 3)) * (kInt8ResidualRow / 16));
  columns += t;
  const auto origin = [&](int index) {
    TileOrigin o = tile_origin<4, kInt8Warpgroups>(index, p.grid);
    o.y += 4 * warpgroup;
    return o;
  };
  int index = static_cast<int>(blockIdx.x);
  bring_tile(p, origin(index), tile_address, tile_full);

#pragma unroll 1
  for (; index < tiles; index += static_cast<int>(gridDim.x)) {
    const int next = index + static_cast<int>(gridDim.x);
    slabs.more = next < tiles;
    const TileOrigin o = origin(index);
    const int y0 = o.y + (g >> 2), x0 = o.x + wx * 4 + (g & 3);
    barrier_wait(tile_full, 0);
    displace_last(p, tile);
    named_barrier<kGroupThreads>(1 + thread_now() / kGroupThreads);

    // The hidden layer: of each group four units, and a tile that is half of one.
    ByteUnits hidden[kInt8HiddenUnits];
    ByteUnits half{};
#pragma unroll
    for (int group = 0; group < kInt8HiddenGroups; ++group) {
      const int dy = p.hidden_y[group], dx = p.hidden_x[group];
      typename E::Sum acc[E::kHiddenTiles][4];
      {
        ByteUnits a[kInt8Units];
#pragma unroll
        for (int u = 0; u < kInt8Units; u += 2) {
          std::uint32_t r[4];
          ldmatrix4(r, base + dy * kInt8TileRow + dx * kInt8PlaneBytes +
                           (u / 2 < kInt8Taps ? u / 2 * kInt8TilePlane : kInt8LastPlaneAt));
          a[u] = {{r[0], r[1]}};
          a[u + 1] = {{r[2], r[3]}};
        }
        multiply<kInt8HiddenTiles>(acc, a, slabs.wait(group), false);
      }
      wgmma_wait<0>(acc);
      slabs.release(p, group);
      if (group == kInt8HiddenGroups - 1) {  // the tile is read: the residual comes in its place
        named_barrier<kGroupThreads>(1 + thread_now() / kGroupThreads);
        if (wx == 0) bring_residual(p, o, tile_address, tile_full);
      }
      // Outside the picture the hidden layer is zero.
      const bool in_x = x0 + dx >= 0 && x0 + dx < p.grid.width;
      const std::uint32_t keep[2] = {
          in_x && y0 + dy >= 0 && y0 + dy < p.grid.height ? ~0U : 0U,
          in_x && y0 + 2 + dy >= 0 && y0 + 2 + dy < p.grid.height ? ~0U : 0U};
      const auto pack = [&](const float(&c0)[4], const float(&c1)[4]) {
        return ByteUnits{{E::encode_relu(c0[0], c0[1], c1[0], c1[1]) & keep[0],
                          E::encode_relu(c0[2], c0[3], c1[2], c1[3]) & keep[1]}};
      };
      const auto values = [&](float(&c)[4], int n) {
        apply(c, acc[n], columns[(group * kInt8HiddenTiles + n) * 4]);
      };
      float c0[4], c1[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        values(c0, 2 * i);
        values(c1, 2 * i + 1);
        hidden[4 * group + i] = pack(c0, c1);
      }
      values(c0, 8);
      const float none[4] = {};
      const ByteUnits odd = group % 2 == 0 ? pack(c0, none) : pack(none, c0);
      half = group % 2 == 0 ? odd : ByteUnits{{half.r[0] | odd.r[0], half.r[1] | odd.r[1]}};
      hidden[4 * kInt8HiddenGroups + group / 2] = half;
    }
    hidden[kInt8HiddenUnits - 1] = {};

    // conv1 and the residual; y leaves and stays as an operand.
    const auto pixel = (static_cast<std::size_t>(o.image) * p.grid.height + y0) * p.grid.width + x0;
    const std::size_t row0 = pixel * (8 * kU),
                      row1 = row0 + 2 * static_cast<std::size_t>(p.grid.width) * (8 * kU);
    ByteUnits y[kInt8Units];
#pragma unroll
    for (int s = 0; s < kInt8OutSlabs; ++s) {
      typename E::Sum acc[kTiles][4];
      const int slab = kConv1 + 2 * s;
      multiply(acc, hidden, slabs.wait(slab), false);
      multiply(acc, hidden + kInt8Units, slabs.wait(slab + 1), true);
      wgmma_wait<0>(acc);
      slabs.release(p, slab);
      slabs.release(p, slab + 1);
      float out[kTiles][4];
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        apply(out[n], acc[n], columns[(kInt8Conv1Columns + s * kTiles + n) * 4]);
      }
      if (s == 0) barrier_wait(tile_full, 1);
      RowPair<__half, kU, kTiles> residual;
      residual.fetch(s * kTiles, own, own + kInt8ResidualRow, t);
      residual.add(out);
      store_rows<kU>(out, s * kTiles, result + row0, result + row1, t);
#pragma unroll
      for (int i = 0; i < kTiles / 2; ++i) {
        y[s * kTiles / 2 + i] = encode<E>(out[2 * i], out[2 * i + 1], p.projected.factor);
      }
    }

    named_barrier<kGroupThreads>(1 + thread_now() /
                                         kGroupThreads);  // nobody reads the residual any more
    if (slabs.more) bring_tile(p, origin(next), tile_address, tile_full);

    // One slab is a window group of q or v; the next one's products run while one is stored.
    const int block = (o.image * p.grid.height + o.y) / 4 * (p.grid.width / 4) + o.x / 4 + wx;
    constexpr std::size_t kGroup = Bytes ? kInt8GroupBytes : group_bytes(kL, 2);
    const std::size_t block_at = block * (kWindowGroups * kGroup);
    typename E::Sum acc[2][kTiles][4];
    const auto project = [&](auto is_v, const float4* at, char* to) {
      constexpr int kFirst = decltype(is_v)::value ? kV : kProject;
      multiply(acc[0], y, slabs.wait(kFirst), false);
#pragma unroll
      for (int s = 0; s < kWindowGroups; ++s) {
        auto& d = acc[s % 2];
        if (s + 1 < kWindowGroups) {
          multiply(acc[(s + 1) % 2], y, slabs.wait(kFirst + s + 1), false);
          wgmma_wait<1>(d);
        } else {
          wgmma_wait<0>(d);
        }
        slabs.release(p, kFirst + s);
        char* const place = to + s * kGroup;
        constexpr bool kIsV = decltype(is_v)::value;
        const bool cores = s == kWindowGroups - 1;
        float c[kTiles][4];
#pragma unroll
        for (int n = 0; n < kTiles; ++n) apply(c[n], d[n], at[(s * kTiles + n) * 4]);
        if constexpr (Bytes) {
          if constexpr (kIsV) {
            store_v_int8(c, place, cores, lane);
          } else {
            store_q_int8(c, place, cores, lane);
          }
        } else {
          UnitA2 u[kGU];
#pragma unroll
          for (int n = 0; n < kGU; ++n) {
            u[n] = K::encode(c[n]);
            if (kIsV) K::transpose(u[n]);
          }
          if (cores) {
            store_cores(u, place, lane);
          } else {
            store_units<K, kGU, !kIsV>(u, place, lane);
          }
        }
      }
    };
    const float4* at = columns + kInt8ProjectColumns * 4;
    if (p.has_q) {
      project(std::false_type{}, at, p.q + block_at);
      at += kWindowGroups * kTiles * 4;
    } else {
#pragma unroll
      for (int i = kProject; i < kV; ++i) slabs.skip(p, i);
    }
    project(std::true_type{}, at, p.v + block_at);
#pragma unroll
    for (int i = kV + kWindowGroups; i < kSlabs; ++i) slabs.skip(p, i);
    slabs.parity ^= 1;
  }
}

#endif

// Bytes: so are q and v.
template <typename E, bool Bytes>
__global__ __launch_bounds__(kThreads, 1) void lfe_int8_kernel(const __grid_constant__ LfeArgs p) {
#if ELAN_HOPPER
  constexpr int kSlabsAt = kInt8Warpgroups * kInt8TileBytes;
  constexpr int kColumnsAt = kSlabsAt + kInt8Stages * kInt8Conv0Bytes;
  ELAN_DYNAMIC_SHARED(shared);
  __shared__ __align__(8) std::uint64_t barriers[1 + 2 * kInt8Stages + kInt8Warpgroups];
  const int thread = static_cast<int>(threadIdx.x), warpgroup = thread / kGroupThreads;
  const std::uint32_t first = shared_address(shared);
  const std::uint32_t columns_full = shared_address(barriers);
  const std::uint32_t slab_full = columns_full + 8, slab_empty = slab_full + 8 * kInt8Stages;
  const std::uint32_t tile_full = slab_empty + 8 * kInt8Stages;
  const int tiles = p.grid.width / 16 * (p.grid.height / 16) * p.grid.batch;

  if (thread == 0) {
    barrier_init(columns_full, 1);
    for (int i = 0; i < kInt8Stages; ++i) {
      barrier_init(slab_full + i * 8, 1);
      barrier_init(slab_empty + i * 8, kThreads / 32);
    }
    for (int i = 0; i < kInt8Warpgroups; ++i) {
      barrier_init(tile_full + i * 8, 1);
    }
    barrier_init_fence();
    const int bytes =
        (p.has_q ? kInt8Columns : kInt8Columns - kWindowGroups * kTiles) * kInt8ColumnBytes;
    barrier_expect(columns_full, bytes);
    copy_bulk(first + kColumnsAt, p.columns, bytes, columns_full);
  }
  const Slabs slabs{first + kSlabsAt, slab_full, slab_empty, thread / 32, thread % 32};
  if (thread == 0) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) slabs.bring(p, i);
  }
  __syncthreads();
  wait_for_previous();
  barrier_wait(columns_full, 0);
  compute<E, Bytes>(p, tiles, shared + warpgroup * kInt8TileBytes,
                    reinterpret_cast<const float4*>(shared + kColumnsAt), tile_full + 8 * warpgroup,
                    slabs);
#else
  __trap();
#endif
}

}  // namespace

void prepare_lfe_int8() {
  for (const auto kernel : {&lfe_int8_kernel<Int8, false>, &lfe_int8_kernel<Int8, true>,
                            &lfe_int8_kernel<Fp8, false>}) {
    cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                         cudaFuncAttributeMaxDynamicSharedMemorySize, int8_lfe_shared_bytes());
  }
}

void launch_lfe_int8_hopper(Operand operand, const LfeArgs& a, cudaStream_t stream) {
  launch_kernel(operand == Operand::fp8 ? &lfe_int8_kernel<Fp8, false>
                : a.int8_attention      ? &lfe_int8_kernel<Int8, true>
                                        : &lfe_int8_kernel<Int8, false>,
                dim3(static_cast<unsigned>(a.shape.blocks)), kThreads,
                static_cast<std::size_t>(a.shape.shared_bytes), stream, a);
}

}  // namespace elan::cuda
