// x = head(picture - mean): the 3x3 convolution from 3 colours, with reflect padding on the right
// and below, the mean and the conversion of samples in its prologue. Or x += the same, for the
// skip around the body: computing it twice is cheaper than keeping it.

#include "cuda/kernels/head.cuh"

namespace elan::cuda {
namespace {

constexpr int kPixels = 64;  // along a row, of one thread block
constexpr int kRows = 8;     // of one on a stream of FP16

// Rows x Columns pixels of the picture from (y, x) on.
template <int Rows, int Columns>
__device__ __forceinline__ void load_patch(float (&patch)[Rows][Columns][3], const HeadArgs& p,
                                           int image, int y, int x, int thread, int threads) {
  for (int i = thread; i < Rows * Columns; i += threads) {
    const float3 v = load_pixel(p, image, y + i / Columns, x + i % Columns);
    float* const to = &patch[0][0][0] + 3 * i;
    to[0] = v.x;
    to[1] = v.y;
    to[2] = v.z;
  }
}

// The operands of 16 pixels: k = 9 * ky + 3 * kx + colour, in four units.
struct HeadOperand {
  int at[kHeadUnits][2];  // of this lane's numbers, from its pixel's patch of 3 x 3

  __device__ __forceinline__ HeadOperand(int columns, int t) {
#pragma unroll
    for (int u = 0; u < kHeadUnits; ++u) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int k = 8 * u + 2 * t + i;
        at[u][i] = k < 27 ? k / 9 * columns * 3 + k % 9 : 0;  // weights beyond are zero
      }
    }
  }
  // Rows g and g + 8 have their patches at these places.
  __device__ __forceinline__ void load(UnitA4 (&a)[kHeadUnits], const float* patch0,
                                       const float* patch1) const {
#pragma unroll
    for (int u = 0; u < kHeadUnits; ++u) {
      a[u] = CodecFp32::encode(
          {patch0[at[u][0]], patch0[at[u][1]], patch1[at[u][0]], patch1[at[u][1]]});
    }
  }
};

// acc = A * a slab, whose `i`th 16 bytes of this lane are words(i), and the bias of its columns. It
// goes to FP16, so that tensor cores, which round sums toward zero, may add all of it up.
template <typename Words>
__device__ __forceinline__ void multiply_head(float (&acc)[kHeadTiles][4],
                                              const UnitA4 (&a)[kHeadUnits], Words words,
                                              const float* bias, float unscale, int t) {
#pragma unroll
  for (int n = 0; n < kHeadTiles; ++n) acc[n][0] = acc[n][1] = acc[n][2] = acc[n][3] = 0;
#pragma unroll
  for (int u = 0; u < kHeadUnits; u += 2) {
#pragma unroll
    for (int n = 0; n < kHeadTiles; ++n) {
      const uint4 w = words(u / 2 * kHeadTiles + n);
      CodecFp32::chain16(acc[n], a[u], a[u + 1], {{w.x, w.y}}, {{w.z, w.w}});
    }
  }
#pragma unroll
  for (int n = 0; n < kHeadTiles; ++n) {
    const float2 b = __ldg(reinterpret_cast<const float2*>(bias + n * 8) + t);
    apply(acc[n], acc[n], make_float2(unscale, unscale), b);
  }
}

// Of thread blocks: those of a column of pictures in x, as y and z end at 65,535; across in y, and
// pictures (or their slabs) in z.
dim3 blocks_of(const Grid& grid, int rows, int layers) {
  return {static_cast<unsigned>(grid.height / rows),
          static_cast<unsigned>((grid.width + kPixels - 1) / kPixels),
          static_cast<unsigned>(grid.batch * layers)};
}

// Threads: (4 channels, lane); a thread keeps its 27 weights of 4 channels in registers.
template <int C, typename S>
__global__ void head_kernel(const __grid_constant__ HeadArgs p) {
  constexpr int kQuads = 2 * layout_of(C).units;
  __shared__ float patch[3][kPixels + 2][3];
  const int x0 = static_cast<int>(blockIdx.y) * kPixels, y = static_cast<int>(blockIdx.x);
  const int image = static_cast<int>(blockIdx.z);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);

  const int quad = thread % kQuads, first = thread / kQuads, lanes = threads / kQuads;
  float4 w[27];
#pragma unroll
  for (int i = 0; i < 27; ++i)
    w[i] = __ldg(reinterpret_cast<const float4*>(p.weights) + i * kQuads + quad);
  const float4 b = __ldg(reinterpret_cast<const float4*>(p.bias) + quad);
  const auto out = stream_at<S, C>(p.x, p.grid);
  wait_for_previous();
  load_patch(patch, p, image, y - 1, x0 - 1, thread, threads);
  __syncthreads();

  for (int i = first; i < kPixels && x0 + i < p.grid.width; i += lanes) {
    float4 acc = b;
#pragma unroll
    for (int k = 0; k < 27; ++k) {
      const float v = patch[k / 9][i + k / 3 % 3][k % 3];
      acc.x = fmaf(w[k].x, v, acc.x);
      acc.y = fmaf(w[k].y, v, acc.y);
      acc.z = fmaf(w[k].z, v, acc.z);
      acc.w = fmaf(w[k].w, v, acc.w);
    }
    const auto at = (static_cast<std::size_t>(image) * p.grid.height + y) * p.grid.width + x0 + i;
    if (p.accumulate) {
      const float4 old = load_quad(out, at, quad, kQuads / 2);
      acc = make_float4(acc.x + old.x, acc.y + old.y, acc.z + old.z, acc.w + old.w);
    }
    store_quad(out, at, quad, kQuads / 2, acc);
  }
}

// Onto a stream of FP16: a warp has a row of pixels, sixteen at a time, and the weights of 64
// channels in its registers.
template <int C>
__global__ __launch_bounds__(32 * kRows,
                             2) void head_half_kernel(const __grid_constant__ HeadArgs p) {
  constexpr int kUnits = layout_of(C).units, kSlabs = head_slabs(layout_of(C));
  __shared__ float patch[kRows + 2][kPixels + 2][3];
  const int x0 = static_cast<int>(blockIdx.y) * kPixels, y0 = static_cast<int>(blockIdx.x) * kRows;
  const int image = static_cast<int>(blockIdx.z) / kSlabs;
  const int slab = static_cast<int>(blockIdx.z) % kSlabs;
  const int thread = static_cast<int>(threadIdx.x), lane = thread & 31, row = thread >> 5;
  const int g = lane >> 2, t = lane & 3;

  uint4 w[kHeadUnits / 2 * kHeadTiles];
#pragma unroll
  for (int i = 0; i < kHeadUnits / 2 * kHeadTiles; ++i) {
    w[i] = __ldg(reinterpret_cast<const uint4*>(p.slabs + slab * kHeadSlabBytes) + i * 32 + lane);
  }
  const float* bias = p.column_bias + slab * kHeadTiles * 8;
  const HeadOperand operand(kPixels + 2, t);
  __half* out = stream_at<__half, C>(p.x, p.grid);
  wait_for_previous();
  load_patch(patch, p, image, y0 - 1, x0 - 1, thread, 32 * kRows);
  __syncthreads();

  const auto first =
      (static_cast<std::size_t>(image) * p.grid.height + y0 + row) * p.grid.width + x0 + g;
#pragma unroll 1
  for (int i = 0; i < kPixels && x0 + i < p.grid.width; i += 16) {
    UnitA4 a[kHeadUnits];
    operand.load(a, patch[row][i + g], patch[row][i + g + 8]);
    float acc[kHeadTiles][4];
    multiply_head(acc, a, [&](int j) { return w[j]; }, bias, p.unscale, t);
    __half* row0 = at_pixel<C>(out, first + i);
    __half* row1 = at_pixel<C>(out, first + i + 8);
    if (p.accumulate) {
      RowPair<__half, kUnits, kHeadTiles> own;
      own.fetch(slab * kHeadTiles, row0, row1, t);
      own.add(acc);
    }
    store_rows<kUnits>(acc, slab * kHeadTiles, row0, row1, t);
  }
}

template <int C>
void launch_half(const HeadArgs& a, cudaStream_t stream) {
  launch_kernel(&head_half_kernel<C>, blocks_of(a.grid, kRows, head_slabs(layout_of(C))),
                32 * kRows, 0, stream, a);
}

template <int C, typename S>
void launch(const HeadArgs& a, cudaStream_t stream) {
  constexpr int kQuads = 2 * layout_of(C).units;
  launch_kernel(&head_kernel<C, S>, blocks_of(a.grid, 1, 1), kQuads * (C == 180 ? 4 : 8), 0, stream,
                a);
}

template <typename S>
void launch_as(const HeadArgs& a, cudaStream_t stream) {
  a.channels == 180 ? launch<180, S>(a, stream) : launch<60, S>(a, stream);
}

}  // namespace

void launch_head(const HeadArgs& args, cudaStream_t stream) {
  switch (args.format) {
    case StreamFormat::fp32:
      return launch_as<float>(args, stream);
    case StreamFormat::fp16:
      return args.channels == 180 ? launch_half<180>(args, stream) : launch_half<60>(args, stream);
    case StreamFormat::split:
      return launch_as<Split>(args, stream);
  }
}

}  // namespace elan::cuda
