// src/cuda/kernels/wgmma.cuh in C++: each instruction as the emulator has it.
#pragma once

#include "cuda/kernels/cores.cuh"

#define ELAN_HOPPER 1

namespace elan::cuda {

using emulator::barrier_arrive;
using emulator::barrier_expect;
using emulator::barrier_init;
using emulator::barrier_wait;
using emulator::copy_bulk;

inline void wgmma_fence() {
  emulator::multiply_fence();
}
inline void wgmma_commit() {
  emulator::multiply_commit();
}
template <int Left, typename... D>
void wgmma_wait(D&...) {
  emulator::multiply_wait(Left);
}

template <bool F16, int N>
void wgmma(float (&d)[N][4], const UnitA2& a0, const UnitA2& a1, std::uint64_t b, int accumulate) {
  const std::uint32_t a[4] = {a0.r[0], a0.r[1], a1.r[0], a1.r[1]};
  emulator::multiply_async(F16 ? Format::f16 : Format::bf16, N, d, a, 0, b, accumulate != 0);
}
template <bool F16, bool Accumulate, int N>
void wgmma(float (&d)[N][4], const UnitA2& a0, const UnitA2& a1, std::uint64_t b) {
  wgmma<F16, N>(d, a0, a1, b, Accumulate ? 1 : 0);
}
template <bool F16, int N>
void wgmma_shared(float (&d)[N][4], std::uint64_t a, std::uint64_t b, int accumulate) {
  emulator::multiply_async(F16 ? Format::f16 : Format::bf16, N, d, nullptr, a, b, accumulate != 0);
}

template <int N>
void wgmma_int8(int (&d)[N][4], const std::uint32_t (&a)[4], std::uint64_t b, int accumulate) {
  static_assert(N == 8 || N == 10);
  emulator::multiply_async(Format::s8, N, d, a, 0, b, accumulate != 0);
}

template <int N>
void wgmma_e4m3(float (&d)[N][4], const std::uint32_t (&a)[4], std::uint64_t b, int accumulate) {
  static_assert(N == 8 || N == 9);
  emulator::multiply_async(Format::e4m3, N, d, a, 0, b, accumulate != 0);
}

inline void wgmma_u8(int (&d)[8][4], const std::uint32_t (&a)[4], std::uint64_t b, int accumulate) {
  emulator::multiply_async(Format::u8, 8, d, a, 0, b, accumulate != 0);
}
inline void wgmma_shared_s8(int (&d)[8][4], std::uint64_t a, std::uint64_t b, int accumulate) {
  emulator::multiply_async(Format::s8, 8, d, nullptr, a, b, accumulate != 0);
}

inline void publish_stores() {
  emulator::proxy_fence();
}
template <int Bytes, int To, int From>
void cp_async_at(std::uint32_t shared, const void* global) {
  emulator::copy_async(emulator::shared_pointer(shared + To),
                       static_cast<const char*>(global) + From, Bytes);
}

template <bool Transposed>
void store_matrices(std::uint32_t address, std::uint32_t a, std::uint32_t b, std::uint32_t c,
                    std::uint32_t d) {
  const std::uint32_t r[4] = {a, b, c, d};
  emulator::store_matrices(r, 4, address, Transposed);
}
template <bool Transposed>
void store_matrices(std::uint32_t address, std::uint32_t a, std::uint32_t b) {
  const std::uint32_t r[2] = {a, b};
  emulator::store_matrices(r, 2, address, Transposed);
}

template <int Threads>
void named_barrier(int id) {
  emulator::block_barrier(id, Threads);
}
inline void barrier_init_fence() {}
template <int Registers>
void give_registers() {}
template <int Registers>
void take_registers() {}

}  // namespace elan::cuda
