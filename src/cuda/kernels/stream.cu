// The residual stream from FP32 to FP16, or back, where one ELAB keeps it otherwise than the next.

#include "cuda/kernels/tile.cuh"

namespace elan::cuda {
namespace {

constexpr int kThreads = 256;

template <typename From, typename To>
__global__ __launch_bounds__(kThreads) void stream_kernel(const __grid_constant__ StreamArgs p) {
  allow_next();
  wait_for_previous();
  const auto i = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= p.quads) return;
  const float4 v = widen(static_cast<const Quad<From>*>(p.from)[i]);
  narrow(static_cast<Quad<To>*>(p.to)[i], v.x, v.y, v.z, v.w);
}

}  // namespace

void launch_stream(const StreamArgs& a, cudaStream_t stream) {
  const dim3 blocks(static_cast<unsigned>((a.quads + kThreads - 1) / kThreads));
  launch_kernel(a.to_half ? &stream_kernel<float, __half> : &stream_kernel<__half, float>, blocks,
                kThreads, 0, stream, a);
}

}  // namespace elan::cuda
