// The fused LFE of lfe.cuh on Hopper's own instructions, for 180 channels with operands of 32 bits:
// the chain from conv0 to project_inp as in lfe_hopper.cu, but conv0 reads its pixels, too,
// straight from shared memory: what is displaced by a tap begins at another address. Of the third
// warpgroup one warp brings the weights and the others the next tile, as operands, while
// project_inp runs.

#include "cuda/kernels/slab_queue.cuh"
#include "cuda/kernels/tile.cuh"
#include "cuda/kernels/wide.cuh"

namespace elan::cuda {
namespace {

constexpr ChannelLayout kL = layout_of(180);
constexpr int kU = kL.units, kHT = kL.hidden_tiles, kGU = kL.group_units;
constexpr int kChunks = 2 * kU, kPixels = kWideRow * kWideRows;
// Of the threads that bring tiles each has one chunk of 4 channels of every second pixel.
constexpr int kTileThreads = 96, kCopyThreads = 2 * kChunks;
static_assert(kCopyThreads <= kTileThreads && kWideRow % 2 == 0);

#if ELAN_HOPPER

using Slabs = SlabQueue<kWideStageBytes>;

template <typename K>
constexpr int kConv1Units = wide_conv1_units(kWideOperand<K>);
template <typename K>
constexpr int kConv1Tiles = wide_conv1_tiles(kWideOperand<K>);
template <typename K>
constexpr int kConv1Pieces = wide_conv1_pieces(kWideOperand<K>);

__device__ __forceinline__ TileOrigin wide_origin(int index, const Grid& g) {
  return tile_origin<kWideTileWidth / 4, kWideTileHeight / 4>(index, g);
}

// Products slab by slab. tf32: while those of one are under way, those of the next are handed over,
// and the slab of the ones before is given back. fp32 sums them one by one.
template <typename K>
struct Products {
  Slabs queue;
  int lane;
  bool held = false;  // the slab of the last products is still this warp's

  // d = or += what multiply(to, slab, add) hands over.
  template <int N, typename Multiply>
  __device__ __forceinline__ void sum(float (&d)[N][4], bool add, Multiply multiply) {
    const std::uint32_t slab = queue.wait();
    wgmma_fence();
    if constexpr (kSplit<K>) {
      sum_products<K>(d, add, [&](float(&to)[N][4], bool also) { multiply(to, slab, also); });
      queue.release(lane);
    } else {
      multiply(d, slab, add);
      wgmma_commit();
      wgmma_wait_left<1>();
      if (held) queue.release(lane);
      held = true;
    }
  }
  template <int N>
  __device__ __forceinline__ void finish(float (&d)[N][4]) {
    wgmma_wait<0>(d);
    if (held) queue.release(lane);
    held = false;
  }
};

// Calls f(i, units) for the slabs of a matrix, `units` a constant.
template <int Units, int Most, int I = 0, typename F>
__device__ __forceinline__ void for_slabs(F f) {
  if constexpr (I < slab_count(Units, Most)) {
    f(std::integral_constant<int, I>{}, std::integral_constant<int, slab_units(Units, Most, I)>{});
    for_slabs<Units, Most, I + 1>(f);
  }
}

// Tiles as operands: copied as they are, then each thread turns 8 channels of a pixel, which lie in
// the two parts of a unit, into what K makes of them.
template <typename K>
__device__ __forceinline__ void bring_tiles(const LfeArgs& p, int tiles, char* tile,
                                            std::uint32_t full, std::uint32_t empty) {
  const int thread = static_cast<int>(threadIdx.x) - (kHopperThreads - kTileThreads);
  const int chunk = thread % kChunks, parity = thread / kChunks;
  const int dy = p.chunk_y[chunk] - 1, dx = p.chunk_x[chunk] - 1 + parity;
  const std::uint32_t to = shared_address(tile) + chunk * kWidePart + parity * 16;
  int phase = 1;
#pragma unroll 1
  for (int index = static_cast<int>(blockIdx.x); index < tiles;
       index += static_cast<int>(gridDim.x)) {
    const TileOrigin o = wide_origin(index, p.grid);
    const float4* image =
        static_cast<const float4*>(p.x) +
        static_cast<std::size_t>(o.image) * p.grid.height * p.grid.width * kChunks + chunk;
    barrier_wait(empty, phase);
    phase ^= 1;
    if (thread < kCopyThreads) {
#pragma unroll 1
      for (int row = 0; row < kWideRows; ++row) {
        const int y = o.y + row + dy;
        const bool in_y = y >= 0 && y < p.grid.height;
#pragma unroll
        for (int i = 0; i < kWideRow; i += 2) {
          const int x = o.x + i + dx;
          const bool inside = in_y && x >= 0 && x < p.grid.width;
          cp_async16_or_zeros(to + (row * kWideRow + i) * 16,
                              inside ? image + (y * p.grid.width + x) * kChunks : image, inside);
        }
      }
    }
    cp_async_commit();
    cp_async_wait<0>();
    named_barrier<kTileThreads>(3);
#pragma unroll 1
    for (int u = 0; u < kU; ++u) {
#pragma unroll
      for (int i = 0; i < kPixels; i += kTileThreads) {
        if (i + thread >= kPixels) break;
        auto* first = reinterpret_cast<uint4*>(tile + u * kWideUnit) + i + thread;
        auto* second = first + kWidePart / 16;
        const float4 a = *reinterpret_cast<const float4*>(first);
        const float4 b = *reinterpret_cast<const float4*>(second);
        if constexpr (kSplit<K>) {
          uint4 high, low;
          split_half(a.x, a.y, high.x, low.x);
          split_half(a.z, a.w, high.y, low.y);
          split_half(b.x, b.y, high.z, low.z);
          split_half(b.z, b.w, high.w, low.w);
          *first = high;
          *second = low;
        } else {
          *first = make_uint4(to_tf32(a.x), to_tf32(a.y), to_tf32(a.z), to_tf32(a.w));
          *second = make_uint4(to_tf32(b.x), to_tf32(b.y), to_tf32(b.z), to_tf32(b.w));
        }
      }
    }
    publish_stores();
    barrier_arrive(full);
  }
}

template <typename K>
__device__ __forceinline__ void bring_slabs(const LfeArgs& p, int tiles, const SlabPlaces& places) {
  SlabSource<kWideStageBytes> source(places);
  const int project = kWindowGroups * (p.has_q ? 2 : 1);
  for (int index = static_cast<int>(blockIdx.x); index < tiles;
       index += static_cast<int>(gridDim.x)) {
    const char* from = p.weights;
    const auto bring = [&](int units, int most, int tiles_of_8) {
      for (int i = 0; i < slab_count(units, most); ++i) {
        const int bytes = wide_slab_bytes(slab_units(units, most, i), tiles_of_8);
        source.bring(from, bytes);
        from += bytes;
      }
    };
    for (int group = 0; group < p.groups; ++group) {
      bring(kU, kWideConv0Units, kHT);
      for (int i = 0; i < kConv1Pieces<K>; ++i) bring(kHT, kConv1Units<K>, kConv1Tiles<K>);
    }
    for (int i = 0; i < project; ++i) bring(kU, kWideProjectUnits, kGU);
  }
}

template <typename K>
__device__ __forceinline__ void compute(const LfeArgs& p, int tiles, std::uint32_t tile,
                                        const float* biases, Products<K> products,
                                        std::uint32_t tile_full, std::uint32_t tile_empty) {
  const int thread = static_cast<int>(threadIdx.x) % kGroupThreads;
  const int warpgroup = static_cast<int>(threadIdx.x) / kGroupThreads;
  const int lane = thread & 31, warp = thread >> 5;
  const int g = lane >> 2, t = lane & 3;
  const auto* stream = static_cast<const float*>(p.x);
  auto* result = static_cast<float*>(p.y);
  const auto bias_at = [&](int i) { return *(reinterpret_cast<const float2*>(biases + i) + t); };
  const std::uint32_t own = tile + ((warpgroup + 1) * kWideRow + 1) * 16;
  const float unscale0 = p.unscale0, unscale1 = p.unscale1, unscale_project = p.unscale_project;
  int phase = 0;

#pragma unroll 1
  for (int index = static_cast<int>(blockIdx.x); index < tiles;
       index += static_cast<int>(gridDim.x)) {
    const TileOrigin o = wide_origin(index, p.grid);
    const int y0 = o.y + 4 * warp + warpgroup, x0 = o.x + g;
    barrier_wait(tile_full, phase);
    phase ^= 1;

    // Zeroed, not left to the first product: a register that may be read is kept through the loop.
    float out[kConv1Pieces<K> * kConv1Tiles<K>][4] = {};
#pragma unroll 1
    for (int group = 0; group < p.groups; ++group) {
      const int dy = p.hidden_y[group], dx = p.hidden_x[group];
      const bool in_x = x0 + dx >= 0 && x0 + dx < p.grid.width;
      const bool in0 = in_x && y0 + dy >= 0 && y0 + dy < p.grid.height;
      const bool in1 = in_x && y0 + 2 + dy >= 0 && y0 + 2 + dy < p.grid.height;
      const std::uint32_t at = own + (dy * kWideRow + dx) * 16;
      float hidden[kHT][4];
      for_slabs<kU, kWideConv0Units>([&](auto i, auto units) {
        products.sum(hidden, i > 0, [&](float(&d)[kHT][4], std::uint32_t slab, bool add) {
          multiply_shared<K, units>(d, at + i * kWideConv0Units * kWideUnit, kWideTileCores, slab,
                                    slab_cores(kHT), add);
        });
      });
      products.finish(hidden);
      if (group + 1 == p.groups && lane == 0) barrier_arrive(tile_empty);
      UnitA4 h[kHT];
#pragma unroll
      for (int n = 0; n < kHT; ++n) {
        const float2 b = bias_at(kWideBias0 + (group * kHT + n) * 8);
        const float c[4] = {fmaf(hidden[n][0], unscale0, b.x), fmaf(hidden[n][1], unscale0, b.y),
                            fmaf(hidden[n][2], unscale0, b.x), fmaf(hidden[n][3], unscale0, b.y)};
        h[n] = K::encode_relu(c);
        keep_rows(h[n], in0, in1);
      }
      for_slabs<kConv1Pieces<K>, 1>([&](auto piece, auto) {
        auto& columns = reinterpret_cast<float(&)[kConv1Tiles<K>][4]>(out[piece * kConv1Tiles<K>]);
        for_slabs<kHT, kConv1Units<K>>([&](auto i, auto units) {
          products.sum(columns, true,
                       [&](float(&d)[kConv1Tiles<K>][4], std::uint32_t slab, bool add) {
                         multiply_units<K, units>(d, h + i * kConv1Units<K>, slab,
                                                  slab_cores(kConv1Tiles<K>), add);
                       });
        });
      });
    }

    // The residual; y leaves and stays as an operand.
    UnitA4 y[kU];
    const auto pixel = (static_cast<std::size_t>(o.image) * p.grid.height + y0) * p.grid.width + x0;
    const std::size_t row0 = pixel * (8 * kU),
                      row1 = row0 + 2 * static_cast<std::size_t>(p.grid.width) * (8 * kU);
    // A few tiles at a time, the first of them before conv1 has ended: registers are scarce while
    // what was `out` becomes `y`.
    constexpr int kPiece = 4, kPieces = (kU + kPiece - 1) / kPiece, kAhead = 3;
    RowPair<float, kU, kPiece> residual[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) residual[i].fetch(i * kPiece, stream + row0, stream + row1, t);
    products.finish(out);
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      float piece[kPiece][4];
#pragma unroll
      for (int n = 0; n < kPiece; ++n) {
        if (i * kPiece + n >= kU) break;
        const float(&d)[4] = out[i * kPiece + n];
        const float2 b = bias_at(kWideBias1 + (i * kPiece + n) * 8);
        piece[n][0] = fmaf(d[0], unscale1, b.x);
        piece[n][1] = fmaf(d[1], unscale1, b.y);
        piece[n][2] = fmaf(d[2], unscale1, b.x);
        piece[n][3] = fmaf(d[3], unscale1, b.y);
      }
      residual[i % kAhead].add(piece);
      store_rows<kU>(piece, i * kPiece, result + row0, result + row1, t);
      if (i + kAhead < kPieces) {
        residual[i % kAhead].fetch((i + kAhead) * kPiece, stream + row0, stream + row1, t);
      }
#pragma unroll
      for (int n = 0; n < kPiece; ++n) {
        if (i * kPiece + n < kU) {
          y[i * kPiece + n] = K::encode(piece[n]);
          settle(y[i * kPiece + n]);
        }
      }
    }

    // q and v of a window group at a time, those of windows of 16 as core matrices; one's products
    // handed over while another is stored. A warp has tokens of two blocks: in rows the pixel's
    // column tells which, in columns of v transposed the lane's quarter.
    const int block = ((o.image * p.grid.height + o.y) / 4 + warp) * (p.grid.width / 4) + o.x / 4;
    constexpr std::size_t kBlock = block_bytes(kL, 4), kGroup = group_bytes(kL, 4);
    char* const q_block = p.q + (block + g / 4) * kBlock;
    char* const v_block = p.v + (block + t / 2) * kBlock;
    const int token = 4 * warpgroup + g % 4, pair = 2 * warpgroup + t % 2;  // in half a block
    float acc[2][kGU][4];
    const auto project = [&](auto is_v, const float* bias, char* to, char* cores) {
      const auto multiply = [&](float(&d)[kGU][4], auto from, auto end) {
        for_slabs<kU, kWideProjectUnits>([&](auto i, auto units) {
          if constexpr (i >= from && i < end) {
            products.sum(d, i > 0, [&](float(&to)[kGU][4], std::uint32_t slab, bool add) {
              multiply_units<K, units>(to, y + i * kWideProjectUnits, slab, slab_cores(kGU), add);
            });
          }
        });
      };
      constexpr std::integral_constant<int, 0> kBegin;
      constexpr std::integral_constant<int, 1> kAfterFirst;
      constexpr std::integral_constant<int, kU> kEnd;
      multiply(acc[0], kBegin, kEnd);
#pragma unroll
      for (int s = 0; s < kWindowGroups; ++s) {
        auto& d = acc[s % 2];
        auto& next = acc[(s + 1) % 2];
        if (s + 1 < kWindowGroups) {
          multiply(next, kBegin, kAfterFirst);
          wgmma_wait<1>(d);
        } else {
          products.finish(d);
        }
#pragma unroll
        for (int n = 0; n < kGU; ++n) {
          const float2 b = *(reinterpret_cast<const float2*>(bias + (s * kGU + n) * 8) + t);
          const float c[4] = {
              fmaf(d[n][0], unscale_project, b.x), fmaf(d[n][1], unscale_project, b.y),
              fmaf(d[n][2], unscale_project, b.x), fmaf(d[n][3], unscale_project, b.y)};
          UnitA4 u = K::encode(c);
          if constexpr (decltype(is_v)::value) K::transpose(u);
          if (s + 1 < kWindowGroups) {
            *reinterpret_cast<uint4*>(to + s * kGroup + n * 512) =
                make_uint4(u.r[0], u.r[2], u.r[1], u.r[3]);
          } else {
#pragma unroll
            for (int i = 0; i < 4; ++i) {  // the half is the lower bit, the part the upper one
              *reinterpret_cast<std::uint32_t*>(cores + i % 2 * kWideHalf + n * 256 + i / 2 * 128) =
                  u.r[i];
            }
          }
        }
        if (s + 1 < kWindowGroups) multiply(next, kAfterFirst, kEnd);
      }
    };
    const float* bias = biases + kWideBiasProject;
    constexpr std::size_t kLast = (kWindowGroups - 1) * kGroup;
    if (p.has_q) {
      project(std::false_type{}, bias, q_block + (4 * token + t) * 16,
              q_block + kLast + token * 16 + t * 4);
      bias += kWindowGroups * kGU * 8;
    }
    project(std::true_type{}, bias, v_block + (4 * g + pair) * 16,
            v_block + kLast + g * 16 + pair * 4);
  }
}

#endif

template <typename K>
__global__ __launch_bounds__(kHopperThreads,
                             1) void lfe_wide_kernel(const __grid_constant__ LfeArgs p) {
#if ELAN_HOPPER
  ELAN_DYNAMIC_SHARED(shared);
  __shared__ __align__(8) std::uint64_t barriers[2 * kWideMostStages + 2];
  const int thread = static_cast<int>(threadIdx.x);
  const int tiles =
      p.grid.width / kWideTileWidth * (p.grid.height / kWideTileHeight) * p.grid.batch;
  const std::uint32_t tile_full = shared_address(barriers), tile_empty = tile_full + 8;
  const SlabPlaces places{shared_address(shared) + kWideTileBytes, tile_full + 16,
                          tile_full + 16 + 8 * static_cast<std::uint32_t>(p.shape.stages),
                          p.shape.stages};

  auto* biases =
      reinterpret_cast<float*>(shared + kWideTileBytes + p.shape.stages * kWideStageBytes);
  stage_biases(biases, p);
  if (thread == 0) {
    barrier_init(tile_full, kTileThreads);
    barrier_init(tile_empty, kComputeThreads / 32);
    places.init();
    barrier_init_fence();
  }
  __syncthreads();
  if (thread >= kComputeThreads) {
    give_registers<40>();
    if (thread == kComputeThreads) bring_slabs<K>(p, tiles, places);
    if (thread >= kHopperThreads - kTileThreads) {
      wait_for_previous();
      bring_tiles<K>(p, tiles, shared, tile_full, tile_empty);
    }
  } else {
    take_registers<232>();
    wait_for_previous();
    compute<K>(p, tiles, shared_address(shared), biases, {Slabs(places), thread & 31}, tile_full,
               tile_empty);
  }
#else
  __trap();
#endif
}

}  // namespace

void prepare_lfe_hopper_wide() {
  for (const auto kernel : {&lfe_wide_kernel<CodecTf32>, &lfe_wide_kernel<CodecFp32>}) {
    allow_shared(reinterpret_cast<const void*>(kernel));
  }
}

void launch_lfe_hopper_wide(Operand operand, const LfeArgs& a, cudaStream_t stream) {
  launch_kernel(
      operand == Operand::tf32 ? &lfe_wide_kernel<CodecTf32> : &lfe_wide_kernel<CodecFp32>,
      dim3(static_cast<unsigned>(a.shape.blocks)), kHopperThreads,
      static_cast<std::size_t>(a.shape.shared_bytes), stream, a);
}

}  // namespace elan::cuda
