// src/cuda/kernels/ptx.cuh in C++: each instruction as the emulator has it.
#pragma once

#include <cuda_fp8.h>

#include "emulator.h"

#define ELAN_DYNAMIC_SHARED(NAME) char* const NAME = elan::emulator::dynamic_shared()

namespace elan::cuda {

using emulator::Format;
using emulator::shared_address;

inline void mma32_s8(int (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  emulator::multiply(Format::s8, Format::s8, 32, c, a, b);
}
inline void mma32_u8(int (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  emulator::multiply(Format::u8, Format::s8, 32, c, a, b);
}
inline void mma16_u8(int (&c)[4], const std::uint32_t (&a)[2], std::uint32_t b) {
  emulator::multiply(Format::u8, Format::s8, 16, c, a, &b);
}
inline int thread_now() {
  return static_cast<int>(threadIdx.x);
}
inline void hold(int&) {}
inline std::uint32_t pack_half(float a, float b) {
  return __half_as_ushort(__float2half_rn(a)) |
         static_cast<std::uint32_t>(__half_as_ushort(__float2half_rn(b))) << 16;
}
inline std::uint32_t pack_bf16(float a, float b) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(a)) |
         static_cast<std::uint32_t>(__bfloat16_as_ushort(__float2bfloat16_rn(b))) << 16;
}
inline float relu(float v) {
  return v <= 0 ? 0 : v;
}
inline std::uint32_t pack_int8(float a, float b, float c, float d) {
  std::uint32_t r = 0;
  for (const float v : {d, c, b, a}) {
    r = r << 8 | (static_cast<std::uint32_t>(std::clamp(__float2int_rn(v), -128, 127)) & 255);
  }
  return r;
}
inline std::uint32_t pack_e4m3(float a, float b, float c, float d) {
  std::uint32_t r = 0;
  for (const float v : {d, c, b, a}) {
    r = r << 8 | __nv_cvt_float_to_fp8(v, __NV_SATFINITE, __NV_E4M3);
  }
  return r;
}
inline std::uint32_t pack_e4m3_relu(float a, float b, float c, float d) {
  return pack_e4m3(relu(a), relu(b), relu(c), relu(d));
}
inline std::uint32_t byte_signs(std::uint32_t v) {
  return (v >> 7 & 0x01010101U) * 255;
}
inline float limit(float v, float most) {
  return v > most ? most : v < -most ? -most : v;
}
inline std::uint32_t pack_half_relu(float a, float b) {
  return pack_half(relu(a), relu(b));
}
inline std::uint32_t pack_bf16_relu(float a, float b) {
  return pack_bf16(relu(a), relu(b));
}
inline float exp2_fast(float v) {
  const float r = std::exp2(v);
  return r < 0x1p-126F ? 0 : r;
}

inline float reciprocal_fast(float v) {
  return 1 / v;
}

#define ELAN_MMA(NAME, FORMAT)                                                                  \
  inline void mma16_##NAME(float(&c)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,  \
                           std::uint32_t a3, std::uint32_t b0, std::uint32_t b1) {              \
    const std::uint32_t a[4] = {a0, a1, a2, a3}, b[2] = {b0, b1};                               \
    emulator::multiply(FORMAT, FORMAT, 16, c, a, b);                                            \
  }                                                                                             \
  inline void mma8_##NAME(float(&c)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t b0) { \
    const std::uint32_t a[2] = {a0, a1};                                                        \
    emulator::multiply(FORMAT, FORMAT, 8, c, a, &b0);                                           \
  }
ELAN_MMA(f16, Format::f16)
ELAN_MMA(bf16, Format::bf16)
#undef ELAN_MMA
inline void mma8_tf32(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  emulator::multiply(Format::tf32, Format::tf32, 8, c, a, b);
}

inline void ldmatrix4(std::uint32_t (&r)[4], std::uint32_t address) {
  emulator::load_matrices(r, 4, address, false);
}
inline void ldmatrix2(std::uint32_t (&r)[2], std::uint32_t address) {
  emulator::load_matrices(r, 2, address, false);
}
inline std::uint32_t transpose16(std::uint32_t v) {
  return emulator::transpose_matrix(v);
}
inline void load_shared2(std::uint32_t& a, std::uint32_t& b, std::uint32_t address) {
  const auto* p = reinterpret_cast<const uint2*>(emulator::shared_pointer(address));
  const uint2 v = *p;
  a = v.x;
  b = v.y;
}

inline void store_shared2(std::uint32_t address, std::uint32_t a, std::uint32_t b) {
  *reinterpret_cast<uint2*>(emulator::shared_pointer(address)) = make_uint2(a, b);
}
inline uint4 load_shared4(std::uint32_t address) {
  return *reinterpret_cast<const uint4*>(emulator::shared_pointer(address));
}

inline void prefetch_line(const void*) {}
inline void cp_async16(void* shared, const void* global) {
  emulator::copy_async(shared, global, 16);
}
inline void cp_async16_or_zeros(std::uint32_t shared, const void* global, bool there) {
  emulator::copy_async(emulator::shared_pointer(shared), there ? global : nullptr, 16);
}
inline void cp_async8(std::uint32_t shared, const void* global, bool there) {
  emulator::copy_async(emulator::shared_pointer(shared), there ? global : nullptr, 8);
}
inline void cp_async_commit() {
  emulator::copy_async_commit();
}
template <int Left>
void cp_async_wait() {
  emulator::copy_async_wait(Left);
}

inline void wait_for_previous() {
  emulator::wait_for_previous();
}

}  // namespace elan::cuda
