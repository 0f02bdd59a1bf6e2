// Defines the launch functions of one operand; included once by each file that names a codec.
#pragma once

#include "cuda/kernels/gmsa_narrow.cuh"
#include "cuda/kernels/lfe.cuh"

namespace elan::cuda {

template <typename K, typename S, int C>
void allow_channels() {
  allow_shared(reinterpret_cast<const void*>(&lfe_kernel<K, S, C, 1, 1>));
  allow_shared(reinterpret_cast<const void*>(&lfe_kernel<K, S, C, 2, 1>));
  constexpr int kFixed = gmsa_static_shared(layout_of(C), K::kWords);
  allow_shared(reinterpret_cast<const void*>(&gmsa_kernel<K, S, C, true>), kFixed);
  allow_shared(reinterpret_cast<const void*>(&gmsa_kernel<K, S, C, false>), kFixed);
}

template <typename K, typename S>
void allow_stream() {
  allow_channels<K, S, 60>();
  allow_channels<K, S, 180>();
  if constexpr (K::kWords == 2) {
    allow_shared(reinterpret_cast<const void*>(&gmsa_narrow_kernel<K, S>));
  }
  if constexpr (!std::is_same_v<S, float>) {
    allow_shared(reinterpret_cast<const void*>(&lfe_kernel<K, S, 60, 2, 2>));
  }
}

// What the streams of an operand's kernels may be kept as.
template <typename... S>
struct Streams {};

template <typename S>
constexpr StreamFormat kFormat = std::is_same_v<S, float>   ? StreamFormat::fp32
                                 : std::is_same_v<S, Split> ? StreamFormat::split
                                                            : StreamFormat::fp16;

template <typename K, typename... S>
void launch_lfe_in(Streams<S...>, int channels, const LfeArgs& a, cudaStream_t stream) {
  ((a.format == kFormat<S> ? launch_lfe_as<K, S>(channels, a, stream) : void()), ...);
}
template <typename K, typename... S>
void launch_gmsa_in(Streams<S...>, int channels, const GmsaArgs& a, cudaStream_t stream) {
  ((a.format == kFormat<S> ? launch_gmsa_as<K, S>(channels, a, stream) : void()), ...);
}
template <typename K, typename... S>
void allow_streams(Streams<S...>) {
  (allow_stream<K, S>(), ...);
}

// Of a codec, with the streams that its kernels take.
#define ELAN_INSTANTIATE(NAME, CODEC, ...)                                           \
  void launch_lfe_##NAME(int channels, const LfeArgs& args, cudaStream_t stream) {   \
    launch_lfe_in<CODEC>(Streams<__VA_ARGS__>{}, channels, args, stream);            \
  }                                                                                  \
  void launch_gmsa_##NAME(int channels, const GmsaArgs& args, cudaStream_t stream) { \
    launch_gmsa_in<CODEC>(Streams<__VA_ARGS__>{}, channels, args, stream);           \
  }                                                                                  \
  void prepare_##NAME() {                                                            \
    allow_streams<CODEC>(Streams<__VA_ARGS__>{});                                    \
  }

}  // namespace elan::cuda
