// Launching kernels that may overlap: the next kernel's blocks start where those of this one leave
// room on the multiprocessors, fetch their weights, and wait before they touch what this one reads
// or writes (wait_for_previous() of ptx.cuh).
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>

#include "cuda/layout.h"
#include "elan/error.h"

namespace elan::cuda {

// Lets a kernel ask for as much shared memory as the current device has. Throws Error (internal) if
// it holds more than `fixed` bytes of its own, on which plans count.
inline void allow_shared(const void* kernel, int fixed = kStaticShared) {
  cudaFuncAttributes attributes{};
  int device = 0, most = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess) {
    if (attributes.sharedSizeBytes > static_cast<std::size_t>(fixed)) {
      throw Error(ErrorKind::internal, "cuda: expected a kernel with at most " +
                                           std::to_string(fixed) +
                                           " bytes of static shared memory, found " +
                                           std::to_string(attributes.sharedSizeBytes));
    }
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         most - static_cast<int>(attributes.sharedSizeBytes));
  }
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
