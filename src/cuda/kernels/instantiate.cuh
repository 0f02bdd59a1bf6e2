// Defines the launch functions of one operand; included once by each file that names a codec.
#pragma once

#include "cuda/kernels/gmsa.cuh"
#include "cuda/kernels/lfe.cuh"

namespace elan::cuda {

inline void allow_shared(const void* kernel) {
  cudaFuncAttributes attributes{};
  int device = 0, most = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess) {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         most - static_cast<int>(attributes.sharedSizeBytes));
  }
}

template <typename K, int C>
void allow_channels() {
  allow_shared(reinterpret_cast<const void*>(&lfe_kernel<K, C, 4, 1>));
  allow_shared(reinterpret_cast<const void*>(&lfe_kernel<K, C, 4, 2>));
  allow_shared(reinterpret_cast<const void*>(&gmsa_kernel<K, C, true>));
  allow_shared(reinterpret_cast<const void*>(&gmsa_kernel<K, C, false>));
}

#define ELAN_INSTANTIATE(NAME, CODEC)                                                \
  void launch_lfe_##NAME(int channels, const LfeArgs& args, cudaStream_t stream) {   \
    launch_lfe_as<CODEC>(channels, args, stream);                                    \
  }                                                                                  \
  void launch_gmsa_##NAME(int channels, const GmsaArgs& args, cudaStream_t stream) { \
    launch_gmsa_as<CODEC>(channels, args, stream);                                   \
  }                                                                                  \
  void prepare_##NAME() {                                                            \
    allow_channels<CODEC, 60>();                                                     \
    allow_channels<CODEC, 180>();                                                    \
  }

}  // namespace elan::cuda
