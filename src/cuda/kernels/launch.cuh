// Launching kernels that may overlap: the next kernel's blocks start as those of this one leave the
// multiprocessors, fetch their weights, and wait before they touch what this one reads or writes.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace elan::cuda {

// Device side, from compute capability 9.0 on. A kernel calls allow_next() early and
// wait_for_previous() before its first access to anything but weights.
__device__ __forceinline__ void allow_next() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

template <typename Args>
void launch_kernel(void (*kernel)(Args), dim3 blocks, int threads, std::size_t shared,
                   cudaStream_t stream, const Args& args) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = args.grid.overlap ? 1 : 0;
  cudaLaunchKernelEx(&config, kernel, args);
}

}  // namespace elan::cuda
