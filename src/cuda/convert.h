// Between the pictures of the public interface and what the network's own kernels read and write:
// dense interleaved f32 on 0..255.
#pragma once

#include <cuda_runtime_api.h>

#include "elan/cuda.h"

namespace elan::cuda {

// Whether the kernels take such pictures as they are.
template <typename Pointer>
bool is_native(const BasicCudaPictures<Pointer>& p) {
  return p.layout == CudaLayout::nhwc && (p.type == CudaType::u8 || p.type == CudaType::u16 ||
                                          (p.type == CudaType::f32 && p.white == 255));
}

// `rgb` is [batch][height][width][3]. Nothing waits; cudaGetLastError() tells.
void launch_to_rgb(const ConstCudaPictures& from, float* rgb, cudaStream_t stream);
void launch_from_rgb(const float* rgb, const CudaPictures& to, cudaStream_t stream);

}  // namespace elan::cuda
