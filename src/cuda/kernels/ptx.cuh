// The instructions that the kernels name themselves, one function each; those of Hopper alone are
// in wgmma.cuh, wgmma_wide.cuh and tensor_map.cuh. Nothing else in this folder is written in PTX:
// tests/cuda/emulator puts plain C++ in the place of these files.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

namespace elan::cuda {

// char NAME[]: what the launch asked for as shared memory.
#define ELAN_DYNAMIC_SHARED(NAME) extern __shared__ __align__(128) char NAME[]

__device__ __forceinline__ std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// threadIdx.x, read anew: what is computed from it is not kept in registers from long before.
__device__ __forceinline__ int thread_now() {
  int r;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(r));
  return r;
}

// A number is computed here and stays in a register: the compiler would compute it anew.
__device__ __forceinline__ void hold(int& v) {
  asm volatile("" : "+r"(v));
}

// Two numbers in a word, `a` in the lower half; _relu: of max(., 0), NaN as NaN.
#define ELAN_PACK(NAME, CONVERSION)                                          \
  __device__ __forceinline__ std::uint32_t NAME(float a, float b) {          \
    std::uint32_t r;                                                         \
    asm("cvt.rn." CONVERSION ".f32 %0, %2, %1;" : "=r"(r) : "f"(a), "f"(b)); \
    return r;                                                                \
  }
ELAN_PACK(pack_half, "f16x2")
ELAN_PACK(pack_bf16, "bf16x2")
ELAN_PACK(pack_half_relu, "relu.f16x2")
ELAN_PACK(pack_bf16_relu, "relu.bf16x2")
#undef ELAN_PACK

// NaN stays NaN: a plain maximum would hide an overflow.
__device__ __forceinline__ float relu(float v) {
  float r;
  asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(r) : "f"(v));
  return r;
}

// Within -most..most, NaN as NaN.
__device__ __forceinline__ float limit(float v, float most) {
  float r;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(v), "f"(most));
  asm("max.NaN.f32 %0, %0, %1;" : "+f"(r) : "f"(-most));
  return r;
}

// Four numbers as signed bytes, the first lowest: to the nearest integer (halves to even), within
// -128..127.
__device__ __forceinline__ std::uint32_t pack_int8(float a, float b, float c, float d) {
  std::uint32_t upper, r;
  asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, 0;"
      : "=r"(upper)
      : "r"(__float2int_rn(d)), "r"(__float2int_rn(c)));
  asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;"
      : "=r"(r)
      : "r"(__float2int_rn(b)), "r"(__float2int_rn(a)), "r"(upper));
  return r;
}

// Four numbers as E4M3, the first lowest: to the nearest (halves to even), within -448..448, NaN as
// NaN; _relu: of max(., 0). From compute capability 8.9 on.
#if __CUDA_ARCH__ >= 890
#define ELAN_PACK_E4M3(NAME, RELU)                                                    \
  __device__ __forceinline__ std::uint32_t NAME(float a, float b, float c, float d) { \
    std::uint32_t r;                                                                  \
    asm("{.reg .b16 lower, upper;\n"                                                  \
        "cvt.rn.satfinite" RELU                                                       \
        ".e4m3x2.f32 lower, %2, %1;\n"                                                \
        "cvt.rn.satfinite" RELU                                                       \
        ".e4m3x2.f32 upper, %4, %3;\n"                                                \
        "mov.b32 %0, {lower, upper};}"                                                \
        : "=r"(r)                                                                     \
        : "f"(a), "f"(b), "f"(c), "f"(d));                                            \
    return r;                                                                         \
  }
ELAN_PACK_E4M3(pack_e4m3, "")
ELAN_PACK_E4M3(pack_e4m3_relu, ".relu")
#undef ELAN_PACK_E4M3
#else
__device__ __forceinline__ std::uint32_t pack_e4m3(float, float, float, float) {
  __trap();
  return 0;
}
#endif

// Each byte's sign, eight times. (__byte_perm() has no selectors for that.)
__device__ __forceinline__ std::uint32_t byte_signs(std::uint32_t v) {
  std::uint32_t r;
  asm("prmt.b32 %0, %1, 0, 0xba98;" : "=r"(r) : "r"(v));
  return r;
}

__device__ __forceinline__ float exp2_fast(float v) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}

__device__ __forceinline__ float reciprocal_fast(float v) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}

// c += A (16 x 16 or 16 x 8) * B, accumulated in FP32.
#define ELAN_MMA_16816(NAME, TYPE)                                                           \
  __device__ __forceinline__ void NAME(float(&c)[4], std::uint32_t a0, std::uint32_t a1,     \
                                       std::uint32_t a2, std::uint32_t a3, std::uint32_t b0, \
                                       std::uint32_t b1) {                                   \
    asm("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE                               \
        ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                         \
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                     \
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));                             \
  }
#define ELAN_MMA_1688(NAME, TYPE)                                                        \
  __device__ __forceinline__ void NAME(float(&c)[4], std::uint32_t a0, std::uint32_t a1, \
                                       std::uint32_t b0) {                               \
    asm("mma.sync.aligned.m16n8k8.row.col.f32." TYPE "." TYPE                            \
        ".f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"                              \
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                 \
        : "r"(a0), "r"(a1), "r"(b0));                                                    \
  }
ELAN_MMA_16816(mma16_f16, "f16")
ELAN_MMA_1688(mma8_f16, "f16")
ELAN_MMA_16816(mma16_bf16, "bf16")
ELAN_MMA_1688(mma8_bf16, "bf16")
#undef ELAN_MMA_16816
#undef ELAN_MMA_1688

__device__ __forceinline__ void mma8_tf32(float (&c)[4], const std::uint32_t (&a)[4],
                                          const std::uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The same with bytes, B signed: c += A (16 x 32 or 16 x 16) * B.
#define ELAN_MMA_INT8(NAME, TYPE)                                                      \
  __device__ __forceinline__ void mma32_##NAME(int(&c)[4], const std::uint32_t(&a)[4], \
                                               const std::uint32_t(&b)[2]) {           \
    asm("mma.sync.aligned.m16n8k32.row.col.s32." TYPE                                  \
        ".s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                \
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])                               \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));           \
  }
ELAN_MMA_INT8(s8, "s8")
ELAN_MMA_INT8(u8, "u8")
#undef ELAN_MMA_INT8
__device__ __forceinline__ void mma16_u8(int (&c)[4], const std::uint32_t (&a)[2],
                                         std::uint32_t b) {
  asm("mma.sync.aligned.m16n8k16.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
      "{%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(b));
}

__device__ __forceinline__ void ldmatrix4(std::uint32_t (&r)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

__device__ __forceinline__ void ldmatrix2(std::uint32_t (&r)[2], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(address));
}

// Transposes 8 x 8 16-bit numbers of a warp.
__device__ __forceinline__ std::uint32_t transpose16(std::uint32_t v) {
  std::uint32_t r;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(v));
  return r;
}

// Two words at a multiple of 8 bytes in shared memory.
__device__ __forceinline__ void load_shared2(std::uint32_t& a, std::uint32_t& b,
                                             std::uint32_t address) {
  asm volatile("ld.shared.v2.b32 {%0,%1}, [%2];" : "=r"(a), "=r"(b) : "r"(address));
}

__device__ __forceinline__ void store_shared2(std::uint32_t address, std::uint32_t a,
                                              std::uint32_t b) {
  asm volatile("st.shared.v2.b32 [%0], {%1,%2};" ::"r"(address), "r"(a), "r"(b) : "memory");
}
__device__ __forceinline__ uint4 load_shared4(std::uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}

// Has L2 fetch the line of 128 bytes at p.
__device__ __forceinline__ void prefetch_line(const void* p) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

__device__ __forceinline__ void cp_async16(void* shared, const void* global) {
  const std::uint32_t s = shared_address(shared);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(s), "l"(global));
}
__device__ __forceinline__ void cp_async16_or_zeros(std::uint32_t shared, const void* global,
                                                    bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global),
               "r"(there ? 16 : 0));
}
// 8 bytes, or zeros.
__device__ __forceinline__ void cp_async8(std::uint32_t shared, const void* global, bool there) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared), "l"(global),
               "r"(there ? 8 : 0));
}
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;");
}
template <int Left>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
}

// Launches that overlap, from compute capability 9.0 on: before it writes, or reads what another
// kernel has written, a kernel waits until the one before has ended. Only then the next one may
// start: were it earlier, blocks of several kernels that all wait would be on the multiprocessors,
// and the tail, which reads the picture before it waits, might do so before the picture is there.
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

}  // namespace elan::cuda
