// Hopper's asynchronous matrix products (wgmma) with D in registers and B in shared memory, and the
// barriers and bulk copies that feed them. Nothing is compiled without sm_90a.
#pragma once

#include "cuda/kernels/cores.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define ELAN_HOPPER 1
#else
#define ELAN_HOPPER 0
#endif

namespace elan::cuda {

#if ELAN_HOPPER

__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N>
__device__ __forceinline__ void wgmma_claim(float (&d)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n) {
    asm volatile("" : "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])::"memory");
  }
}
// Waits until at most `Left` groups of products are under way; only then may the others' results,
// here d, be touched.
template <int Left, int... N>
__device__ __forceinline__ void wgmma_wait(float (&... d)[N][4]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Left) : "memory");
  (wgmma_claim(d), ...);
}
template <int Left, int N>
__device__ __forceinline__ void wgmma_wait(int (&d)[N][4]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Left) : "memory");
#pragma unroll
  for (int n = 0; n < N; ++n) {
    asm volatile("" : "+r"(d[n][0]), "+r"(d[n][1]), "+r"(d[n][2]), "+r"(d[n][3])::"memory");
  }
}

// Of n tiles d[0] .. d[n - 1], four results each: the registers' numbers, and the operands in C.
#define ELAN_REGISTERS_3 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11"
#define ELAN_REGISTERS_4 ELAN_REGISTERS_3 ",%12,%13,%14,%15"
#define ELAN_REGISTERS_8 \
  ELAN_REGISTERS_4 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define ELAN_REGISTERS_9 ELAN_REGISTERS_8 ",%32,%33,%34,%35"
#define ELAN_REGISTERS_10 ELAN_REGISTERS_9 ",%36,%37,%38,%39"
#define ELAN_REGISTERS_23                                            \
  ELAN_REGISTERS_10                                                  \
  ",%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55" \
  ",%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71" \
  ",%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87" \
  ",%88,%89,%90,%91"
#define ELAN_TILE(C, n) C(d[n][0]), C(d[n][1]), C(d[n][2]), C(d[n][3])
#define ELAN_TILES_3(C) ELAN_TILE(C, 0), ELAN_TILE(C, 1), ELAN_TILE(C, 2)
#define ELAN_TILES_4(C) ELAN_TILES_3(C), ELAN_TILE(C, 3)
#define ELAN_TILES_8(C) \
  ELAN_TILES_4(C), ELAN_TILE(C, 4), ELAN_TILE(C, 5), ELAN_TILE(C, 6), ELAN_TILE(C, 7)
#define ELAN_TILES_9(C) ELAN_TILES_8(C), ELAN_TILE(C, 8)
#define ELAN_TILES_10(C) ELAN_TILES_9(C), ELAN_TILE(C, 9)
#define ELAN_TILES_23(C)                                                                        \
  ELAN_TILES_10(C), ELAN_TILE(C, 10), ELAN_TILE(C, 11), ELAN_TILE(C, 12), ELAN_TILE(C, 13),     \
      ELAN_TILE(C, 14), ELAN_TILE(C, 15), ELAN_TILE(C, 16), ELAN_TILE(C, 17), ELAN_TILE(C, 18), \
      ELAN_TILE(C, 19), ELAN_TILE(C, 20), ELAN_TILE(C, 21), ELAN_TILE(C, 22)

// d (64 x 8N over a warpgroup) = or += A (64 x 16) * B; `accumulate` 0 or 1.
#define ELAN_WGMMA_8(TYPE)                                                              \
  asm volatile(                                                                         \
      "{.reg .pred p; setp.ne.b32 p, %37, 0;"                                           \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " {" ELAN_REGISTERS_8 \
      "}, {%32,%33,%34,%35}, %36, p, 1, 1, 0;}"                                         \
      : ELAN_TILES_8("+f")                                                              \
      : "r"(a0.r[0]), "r"(a0.r[1]), "r"(a1.r[0]), "r"(a1.r[1]), "l"(b), "r"(accumulate))
#define ELAN_WGMMA_9(TYPE)                                                              \
  asm volatile(                                                                         \
      "{.reg .pred p; setp.ne.b32 p, %41, 0;"                                           \
      "wgmma.mma_async.sync.aligned.m64n72k16.f32." TYPE "." TYPE " {" ELAN_REGISTERS_9 \
      "}, {%36,%37,%38,%39}, %40, p, 1, 1, 0;}"                                         \
      : ELAN_TILES_9("+f")                                                              \
      : "r"(a0.r[0]), "r"(a0.r[1]), "r"(a1.r[0]), "r"(a1.r[1]), "l"(b), "r"(accumulate))
#define ELAN_WGMMA_23(TYPE)                                                               \
  asm volatile(                                                                           \
      "{.reg .pred p; setp.ne.b32 p, %97, 0;"                                             \
      "wgmma.mma_async.sync.aligned.m64n184k16.f32." TYPE "." TYPE " {" ELAN_REGISTERS_23 \
      "}, {%92,%93,%94,%95}, %96, p, 1, 1, 0;}"                                           \
      : ELAN_TILES_23("+f")                                                               \
      : "r"(a0.r[0]), "r"(a0.r[1]), "r"(a1.r[0]), "r"(a1.r[1]), "l"(b), "r"(accumulate))

template <bool F16, int N>
__device__ __forceinline__ void wgmma(float (&d)[N][4], const UnitA2& a0, const UnitA2& a1,
                                      std::uint64_t b, int accumulate) {
  static_assert(N == 8 || N == 9 || N == 23);
  if constexpr (F16) {
    if constexpr (N == 8) ELAN_WGMMA_8("f16");
    if constexpr (N == 9) ELAN_WGMMA_9("f16");
    if constexpr (N == 23) ELAN_WGMMA_23("f16");
  } else {
    if constexpr (N == 8) ELAN_WGMMA_8("bf16");
    if constexpr (N == 9) ELAN_WGMMA_9("bf16");
    if constexpr (N == 23) ELAN_WGMMA_23("bf16");
  }
}
#undef ELAN_WGMMA_8
#undef ELAN_WGMMA_9
#undef ELAN_WGMMA_23

// d = or += A * B with 24 or 32 columns; what d was before is nothing that registers have to hold.
#define ELAN_WGMMA_AS(N, COLUMNS, A, B, TYPE, TO, ACCUMULATE)                       \
  asm volatile("{.reg .pred p; setp.ne.b32 p, " ACCUMULATE                          \
               ", 0;"                                                               \
               "wgmma.mma_async.sync.aligned.m64n" COLUMNS "k16.f32." TYPE "." TYPE \
               " {" ELAN_REGISTERS_##N "}, " A ", " B ", p, 1, 1, 0;}"              \
               : ELAN_TILES_##N(TO)                                                 \
               : "r"(a0.r[0]), "r"(a0.r[1]), "r"(a1.r[0]), "r"(a1.r[1]), "l"(b))
#define ELAN_WGMMA_3(...) ELAN_WGMMA_AS(3, "24", "{%12,%13,%14,%15}", "%16", __VA_ARGS__)
#define ELAN_WGMMA_4(...) ELAN_WGMMA_AS(4, "32", "{%16,%17,%18,%19}", "%20", __VA_ARGS__)

template <bool F16, bool Accumulate, int N>
__device__ __forceinline__ void wgmma(float (&d)[N][4], const UnitA2& a0, const UnitA2& a1,
                                      std::uint64_t b) {
  static_assert(N == 3 || N == 4);
  if constexpr (F16 && Accumulate) {
    if constexpr (N == 3) ELAN_WGMMA_3("f16", "+f", "1");
    if constexpr (N == 4) ELAN_WGMMA_4("f16", "+f", "1");
  } else if constexpr (F16) {
    if constexpr (N == 3) ELAN_WGMMA_3("f16", "=f", "0");
    if constexpr (N == 4) ELAN_WGMMA_4("f16", "=f", "0");
  } else if constexpr (Accumulate) {
    if constexpr (N == 3) ELAN_WGMMA_3("bf16", "+f", "1");
    if constexpr (N == 4) ELAN_WGMMA_4("bf16", "+f", "1");
  } else {
    if constexpr (N == 3) ELAN_WGMMA_3("bf16", "=f", "0");
    if constexpr (N == 4) ELAN_WGMMA_4("bf16", "=f", "0");
  }
}
#undef ELAN_WGMMA_3
#undef ELAN_WGMMA_4
#undef ELAN_WGMMA_AS

// The same with 8-bit integers: d = or += A (64 x 32) * B.
#define ELAN_WGMMA_INT8_8(TYPE)                              \
  asm volatile(                                              \
      "{.reg .pred p; setp.ne.b32 p, %37, 0;"                \
      "wgmma.mma_async.sync.aligned.m64n64k32.s32." TYPE     \
      ".s8"                                                  \
      " {" ELAN_REGISTERS_8 "}, {%32,%33,%34,%35}, %36, p;}" \
      : ELAN_TILES_8("+r")                                   \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate))
#define ELAN_WGMMA_S8_10()                                    \
  asm volatile(                                               \
      "{.reg .pred p; setp.ne.b32 p, %45, 0;"                 \
      "wgmma.mma_async.sync.aligned.m64n80k32.s32.s8.s8"      \
      " {" ELAN_REGISTERS_10 "}, {%40,%41,%42,%43}, %44, p;}" \
      : ELAN_TILES_10("+r")                                   \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate))

template <int N>
__device__ __forceinline__ void wgmma_int8(int (&d)[N][4], const std::uint32_t (&a)[4],
                                           std::uint64_t b, int accumulate) {
  static_assert(N == 8 || N == 10);
  if constexpr (N == 8) ELAN_WGMMA_INT8_8("s8");
  if constexpr (N == 10) ELAN_WGMMA_S8_10();
}
// A unsigned.
__device__ __forceinline__ void wgmma_u8(int (&d)[8][4], const std::uint32_t (&a)[4],
                                         std::uint64_t b, int accumulate) {
  ELAN_WGMMA_INT8_8("u8");
}
#undef ELAN_WGMMA_INT8_8
#undef ELAN_WGMMA_S8_10

#define ELAN_WGMMA_E4M3_8()                                        \
  asm volatile(                                                    \
      "{.reg .pred p; setp.ne.b32 p, %37, 0;"                      \
      "wgmma.mma_async.sync.aligned.m64n64k32.f32.e4m3.e4m3"       \
      " {" ELAN_REGISTERS_8 "}, {%32,%33,%34,%35}, %36, p, 1, 1;}" \
      : ELAN_TILES_8("+f")                                         \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate))
#define ELAN_WGMMA_E4M3_9()                                        \
  asm volatile(                                                    \
      "{.reg .pred p; setp.ne.b32 p, %41, 0;"                      \
      "wgmma.mma_async.sync.aligned.m64n72k32.f32.e4m3.e4m3"       \
      " {" ELAN_REGISTERS_9 "}, {%36,%37,%38,%39}, %40, p, 1, 1;}" \
      : ELAN_TILES_9("+f")                                         \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate))

// The same with E4M3 and sums in FP32.
template <int N>
__device__ __forceinline__ void wgmma_e4m3(float (&d)[N][4], const std::uint32_t (&a)[4],
                                           std::uint64_t b, int accumulate) {
  static_assert(N == 8 || N == 9);
  if constexpr (N == 8) ELAN_WGMMA_E4M3_8();
  if constexpr (N == 9) ELAN_WGMMA_E4M3_9();
}
#undef ELAN_WGMMA_E4M3_8
#undef ELAN_WGMMA_E4M3_9

// The same with A in shared memory, too.
__device__ __forceinline__ void wgmma_shared_s8(int (&d)[8][4], std::uint64_t a, std::uint64_t b,
                                                int accumulate) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %34, 0;"
      "wgmma.mma_async.sync.aligned.m64n64k32.s32.s8.s8"
      " {" ELAN_REGISTERS_8 "}, %32, %33, p;}"
      : ELAN_TILES_8("+r")
      : "l"(a), "l"(b), "r"(accumulate));
}

// As the first with A in shared memory, too.
#define ELAN_WGMMA_SHARED_4(TYPE)                                                       \
  asm volatile(                                                                         \
      "{.reg .pred p; setp.ne.b32 p, %18, 0;"                                           \
      "wgmma.mma_async.sync.aligned.m64n32k16.f32." TYPE "." TYPE " {" ELAN_REGISTERS_4 \
      "}, %16, %17, p, 1, 1, 0, 0;}"                                                    \
      : ELAN_TILES_4("+f")                                                              \
      : "l"(a), "l"(b), "r"(accumulate))
#define ELAN_WGMMA_SHARED_8(TYPE)                                                       \
  asm volatile(                                                                         \
      "{.reg .pred p; setp.ne.b32 p, %34, 0;"                                           \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " {" ELAN_REGISTERS_8 \
      "}, %32, %33, p, 1, 1, 0, 0;}"                                                    \
      : ELAN_TILES_8("+f")                                                              \
      : "l"(a), "l"(b), "r"(accumulate))

template <bool F16, int N>
__device__ __forceinline__ void wgmma_shared(float (&d)[N][4], std::uint64_t a, std::uint64_t b,
                                             int accumulate) {
  static_assert(N == 4 || N == 8);
  if constexpr (F16) {
    if constexpr (N == 4) ELAN_WGMMA_SHARED_4("f16");
    if constexpr (N == 8) ELAN_WGMMA_SHARED_8("f16");
  } else {
    if constexpr (N == 4) ELAN_WGMMA_SHARED_4("bf16");
    if constexpr (N == 8) ELAN_WGMMA_SHARED_8("bf16");
  }
}
#undef ELAN_WGMMA_SHARED_4
#undef ELAN_WGMMA_SHARED_8
#undef ELAN_REGISTERS_3
#undef ELAN_REGISTERS_4
#undef ELAN_REGISTERS_8
#undef ELAN_REGISTERS_9
#undef ELAN_REGISTERS_10
#undef ELAN_REGISTERS_23
#undef ELAN_TILE
#undef ELAN_TILES_3
#undef ELAN_TILES_4
#undef ELAN_TILES_8
#undef ELAN_TILES_9
#undef ELAN_TILES_10
#undef ELAN_TILES_23

__device__ __forceinline__ void barrier_init(std::uint32_t barrier, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count));
}
__device__ __forceinline__ void barrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void barrier_expect(std::uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void barrier_wait(std::uint32_t barrier, int parity) {
  asm volatile(
      "{.reg .pred p;\n"
      "AGAIN_%=: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
      "@!p bra AGAIN_%=;}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
__device__ __forceinline__ void copy_bulk(std::uint32_t shared, const void* global, int bytes,
                                          std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared),
      "l"(global), "r"(bytes), "r"(barrier)
      : "memory");
}

// What this thread has stored, or copied asynchronously, to shared memory may be read by
// wgmma.
__device__ __forceinline__ void publish_stores() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// 4, 8 or 16 bytes, from and to places so many bytes further.
template <int Bytes, int To, int From>
__device__ __forceinline__ void cp_async_at(std::uint32_t shared, const void* global) {
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0+%2], [%1+%3], 16;" ::"r"(shared), "l"(global),
                 "n"(To), "n"(From));
  } else {
    asm volatile("cp.async.ca.shared.global [%0+%2], [%1+%3], %4;" ::"r"(shared), "l"(global),
                 "n"(To), "n"(From), "n"(Bytes));
  }
}

// Four (two) 8 x 8 matrices of 16-bit numbers, a register each, or their transposes, to shared
// memory; lane l has the address of row l % 8 of matrix l / 8.
template <bool Transposed>
__device__ __forceinline__ void store_matrices(std::uint32_t address, std::uint32_t a,
                                               std::uint32_t b, std::uint32_t c, std::uint32_t d) {
  if constexpr (Transposed) {
    asm volatile(
        "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address),
        "r"(a), "r"(b), "r"(c), "r"(d)
        : "memory");
  } else {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address),
                 "r"(a), "r"(b), "r"(c), "r"(d)
                 : "memory");
  }
}
template <bool Transposed>
__device__ __forceinline__ void store_matrices(std::uint32_t address, std::uint32_t a,
                                               std::uint32_t b) {
  if constexpr (Transposed) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1,%2};" ::"r"(address),
                 "r"(a), "r"(b)
                 : "memory");
  } else {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1,%2};" ::"r"(address), "r"(a),
                 "r"(b)
                 : "memory");
  }
}

// All of `Threads` threads, whole warps, that name barrier `id` (1..15; 0 is the block's).
template <int Threads>
__device__ __forceinline__ void named_barrier(int id) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(Threads) : "memory");
}
// Makes barriers that this thread has initialized known to bulk copies.
__device__ __forceinline__ void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
// From now on each thread of the warpgroup has this many registers: fewer, or more.
template <int Registers>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

#endif

}  // namespace elan::cuda
