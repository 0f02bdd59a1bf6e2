// The residual stream from one format to another, where one ELAB keeps it otherwise than the next.

#include "cuda/kernels/split.cuh"

namespace elan::cuda {
namespace {

constexpr int kThreads = 256;

template <typename From, typename To>
__global__ __launch_bounds__(kThreads) void stream_kernel(const __grid_constant__ StreamArgs p) {
  wait_for_previous();
  const auto i = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= p.pixels * (2 * p.units)) return;
  const std::size_t pixel = i / (2 * p.units);
  const int quad = static_cast<int>(i % (2 * p.units));
  store_quad(stream_at<To>(p.to, p.pixels, p.units), pixel, quad, p.units,
             load_quad(stream_at<From>(p.from, p.pixels, p.units), pixel, quad, p.units));
}

template <typename From>
auto kernel_from(StreamFormat to) {
  return to == StreamFormat::fp32   ? &stream_kernel<From, float>
         : to == StreamFormat::fp16 ? &stream_kernel<From, __half>
                                    : &stream_kernel<From, Split>;
}

}  // namespace

void launch_stream(const StreamArgs& a, cudaStream_t stream) {
  const dim3 blocks(static_cast<unsigned>((a.pixels * (2 * a.units) + kThreads - 1) / kThreads));
  launch_kernel(a.from_format == StreamFormat::fp32   ? kernel_from<float>(a.to_format)
                : a.from_format == StreamFormat::fp16 ? kernel_from<__half>(a.to_format)
                                                      : kernel_from<Split>(a.to_format),
                blocks, kThreads, 0, stream, a);
}

}  // namespace elan::cuda
