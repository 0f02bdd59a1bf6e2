// Defines the launch functions of one operand; included once by each file that names a codec.
#pragma once

#include "cuda/kernels/gmsa.cuh"
#include "cuda/kernels/lfe.cuh"

namespace elan::cuda {

template <typename K, typename S, int C>
void allow_channels() {
  allow_shared(reinterpret_cast<const void*>(&lfe_kernel<K, S, C, 1, 1>));
  allow_shared(reinterpret_cast<const void*>(&lfe_kernel<K, S, C, 2, 1>));
  allow_shared(reinterpret_cast<const void*>(&gmsa_kernel<K, S, C, true>));
  allow_shared(reinterpret_cast<const void*>(&gmsa_kernel<K, S, C, false>));
}

template <typename K, typename S>
void allow_stream() {
  allow_channels<K, S, 60>();
  allow_channels<K, S, 180>();
  if constexpr (std::is_same_v<S, __half>) {
    allow_shared(reinterpret_cast<const void*>(&lfe_kernel<K, S, 60, 2, 2>));
  }
}

// NARROW: what a stream of `half` is made of; float where there is no such stream.
#define ELAN_INSTANTIATE(NAME, CODEC, NARROW)                                        \
  void launch_lfe_##NAME(int channels, const LfeArgs& args, cudaStream_t stream) {   \
    args.half ? launch_lfe_as<CODEC, NARROW>(channels, args, stream)                 \
              : launch_lfe_as<CODEC, float>(channels, args, stream);                 \
  }                                                                                  \
  void launch_gmsa_##NAME(int channels, const GmsaArgs& args, cudaStream_t stream) { \
    args.half ? launch_gmsa_as<CODEC, NARROW>(channels, args, stream)                \
              : launch_gmsa_as<CODEC, float>(channels, args, stream);                \
  }                                                                                  \
  void prepare_##NAME() {                                                            \
    allow_stream<CODEC, float>();                                                    \
    if (!std::is_same_v<NARROW, float>) allow_stream<CODEC, NARROW>();               \
  }

}  // namespace elan::cuda
