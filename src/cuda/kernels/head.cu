// x = head(picture - mean): the 3x3 convolution from 3 colours, with reflect padding on the right
// and below, the mean and the conversion of samples in its prologue. Or x += the same, for the
// skip around the body: computing it twice is cheaper than keeping it.

#include "cuda/kernels/samples.cuh"
#include "cuda/kernels/split.cuh"

namespace elan::cuda {
namespace {

constexpr int kPixels = 64;  // along a row, of one thread block

// Reflection about the edge pixels, repeated as often as needed; never negative indices.
__device__ int reflect(int i, int size) {
  if (i < size) return i;
  if (size == 1) return 0;
  const int period = 2 * (size - 1);
  i %= period;
  return i < size ? i : period - i;
}

// Threads: (4 channels, lane); a thread keeps its 27 weights of 4 channels in registers.
template <int C, typename S>
__global__ void head_kernel(const __grid_constant__ HeadArgs p) {
  constexpr int kQuads = 2 * layout_of(C).units;
  __shared__ float patch[3][kPixels + 2][3];
  const int x0 = static_cast<int>(blockIdx.x) * kPixels, y = static_cast<int>(blockIdx.y);
  const int image = static_cast<int>(blockIdx.z);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);

  allow_next();
  const int quad = thread % kQuads, first = thread / kQuads, lanes = threads / kQuads;
  float4 w[27];
#pragma unroll
  for (int i = 0; i < 27; ++i)
    w[i] = __ldg(reinterpret_cast<const float4*>(p.weights) + i * kQuads + quad);
  const float4 b = __ldg(reinterpret_cast<const float4*>(p.bias) + quad);
  const auto out = stream_at<S, C>(p.x, p.grid);
  wait_for_previous();
  for (int i = thread; i < 3 * (kPixels + 2) * 3; i += threads) {
    const int c = i % 3, px = x0 + i / 3 % (kPixels + 2) - 1, py = y + i / (3 * (kPixels + 2)) - 1;
    float v = 0;
    if (px >= 0 && px < p.grid.width && py >= 0 && py < p.grid.height) {
      const auto row =
          static_cast<std::size_t>(image) * p.input_height + reflect(py, p.input_height);
      const auto at = (row * p.input_width + reflect(px, p.input_width)) * 3 + c;
      v = load_sample(p.input, p.sample, at) - p.mean[c];
    }
    (&patch[0][0][0])[i] = v;
  }
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

template <int C, typename S>
void launch(const HeadArgs& a, cudaStream_t stream) {
  constexpr int kQuads = 2 * layout_of(C).units;
  const dim3 blocks(static_cast<unsigned>((a.grid.width + kPixels - 1) / kPixels),
                    static_cast<unsigned>(a.grid.height), static_cast<unsigned>(a.grid.batch));
  launch_kernel(&head_kernel<C, S>, blocks, kQuads * (C == 180 ? 4 : 8), 0, stream, a);
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
      return launch_as<__half>(args, stream);
    case StreamFormat::split:
      return launch_as<Split>(args, stream);
  }
}

}  // namespace elan::cuda
