// A thread a pixel; rounding and clamping as in the last kernel of the network.
#include <cuda_fp16.h>

#include "cuda/convert.h"
#include "cuda/kernels/samples.cuh"

namespace elan::cuda {
namespace {

constexpr int kThreads = 256;

template <typename Pointer>
struct Args {
  BasicCudaPictures<Pointer> pictures;
  std::size_t pixels = 0;  // of one picture
  float gain = 1;
};

// Where colour `c` of pixel `i` of a picture is.
template <typename Pointer>
__device__ std::size_t place(const Args<Pointer>& a, std::size_t image, std::size_t i, int c) {
  return a.pictures.layout == CudaLayout::nhwc ? (image * a.pixels + i) * 3 + c
                                               : (image * 3 + c) * a.pixels + i;
}

__global__ void to_rgb(const __grid_constant__ Args<const void*> a, float* rgb) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::size_t image = blockIdx.y;
  if (i >= a.pixels) return;
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    const std::size_t at = place(a, image, i, c);
    const void* data = a.pictures.data;
    float v = 0;
    switch (a.pictures.type) {
      case CudaType::u8:
        v = load_u8(data, at);
        break;
      case CudaType::u16:
        v = load_u16(data, at);
        break;
      case CudaType::f16:
        v = __half2float(static_cast<const __half*>(data)[at]) * a.gain;
        break;
      case CudaType::f32:
        v = static_cast<const float*>(data)[at] * a.gain;
        break;
    }
    rgb[(image * a.pixels + i) * 3 + c] = v;
  }
}

__global__ void from_rgb(const float* rgb, const __grid_constant__ Args<void*> a) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::size_t image = blockIdx.y;
  if (i >= a.pixels) return;
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    const std::size_t at = place(a, image, i, c);
    void* data = a.pictures.data;
    const float v = rgb[(image * a.pixels + i) * 3 + c];
    switch (a.pictures.type) {
      case CudaType::u8:
        store_u8(data, at, v);
        break;
      case CudaType::u16:
        store_u16(data, at, v);
        break;
      case CudaType::f16:
        static_cast<__half*>(data)[at] = __float2half_rn(v * a.gain);
        break;
      case CudaType::f32:
        static_cast<float*>(data)[at] = v * a.gain;
        break;
    }
  }
}

template <typename Pointer>
dim3 blocks_of(const BasicCudaPictures<Pointer>& p) {
  const std::size_t pixels = static_cast<std::size_t>(p.width) * p.height;
  return {static_cast<unsigned>((pixels + kThreads - 1) / kThreads),
          static_cast<unsigned>(p.batch)};
}

}  // namespace

void launch_to_rgb(const ConstCudaPictures& from, float* rgb, cudaStream_t stream) {
  const Args<const void*> args{from, static_cast<std::size_t>(from.width) * from.height,
                               255.F / from.white};
  to_rgb<<<blocks_of(from), kThreads, 0, stream>>>(args, rgb);
}

void launch_from_rgb(const float* rgb, const CudaPictures& to, cudaStream_t stream) {
  const Args<void*> args{to, static_cast<std::size_t>(to.width) * to.height, to.white / 255.F};
  from_rgb<<<blocks_of(to), kThreads, 0, stream>>>(rgb, args);
}

}  // namespace elan::cuda
