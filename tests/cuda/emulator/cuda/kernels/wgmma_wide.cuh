// src/cuda/kernels/wgmma_wide.cuh in C++: each instruction as the emulator has it.
#pragma once

#include "cuda/kernels/wgmma.cuh"

namespace elan::cuda {

template <bool F16, int N>
void wgmma_wide(float (&d)[N][4], const std::uint32_t (&a)[4], std::uint64_t b, int accumulate) {
  emulator::multiply_async(F16 ? Format::f16 : Format::tf32, N, d, a, 0, b, accumulate != 0);
}
template <bool F16, int N>
void wgmma_wide_shared(float (&d)[N][4], std::uint64_t a, std::uint64_t b, int accumulate) {
  emulator::multiply_async(F16 ? Format::f16 : Format::tf32, N, d, nullptr, a, b, accumulate != 0);
}

template <int Left>
void wgmma_wait_left() {
  emulator::multiply_wait(Left);
}
inline void settle(UnitA4&) {}

}  // namespace elan::cuda
