// Hopper's products for operands of 32 bits: TF32, and FP16 as the halves of what fp32 splits. A
// from registers or from shared memory, where it is a picture tile; see wgmma.cuh for the rest.
#pragma once

#include "cuda/kernels/wgmma.cuh"

namespace elan::cuda {

#if ELAN_HOPPER

// d (64 x 8N over a warpgroup) = or += A (64 x 32 bytes of k) * B. SHAPE and TYPES name the
// instruction, TAIL what it takes at its end, I0.. the operands behind d's.
#define ELAN_D(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define ELAN_D4 ELAN_D(0), ELAN_D(1), ELAN_D(2), ELAN_D(3)
#define ELAN_D8 ELAN_D4, ELAN_D(4), ELAN_D(5), ELAN_D(6), ELAN_D(7)
#define ELAN_D9 ELAN_D8, ELAN_D(8)
#define ELAN_D23                                                                              \
  ELAN_D9, ELAN_D(9), ELAN_D(10), ELAN_D(11), ELAN_D(12), ELAN_D(13), ELAN_D(14), ELAN_D(15), \
      ELAN_D(16), ELAN_D(17), ELAN_D(18), ELAN_D(19), ELAN_D(20), ELAN_D(21), ELAN_D(22)
#define ELAN_REGISTERS_4 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define ELAN_REGISTERS_8                                   \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define ELAN_REGISTERS_9                                             \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"           \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
  "%32,%33,%34,%35"
#define ELAN_REGISTERS_23                                            \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"           \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63," \
  "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79," \
  "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91"
#define ELAN_WGMMA_A(D, REGISTERS, SHAPE, TYPES, TAIL, I0, I1, I2, I3, I4, I5)                \
  asm volatile("{.reg .pred p; setp.ne.b32 p, " I5 ", 0; wgmma.mma_async.sync.aligned." SHAPE \
               ".f32." TYPES " {" REGISTERS "}, {" I0 "," I1 "," I2 "," I3 "}, " I4           \
               ", p, 1, 1" TAIL ";}"                                                          \
               : D                                                                            \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate))
#define ELAN_WGMMA_SHARED(D, REGISTERS, SHAPE, TYPES, TAIL, I0, I1, I2)                       \
  asm volatile("{.reg .pred p; setp.ne.b32 p, " I2 ", 0; wgmma.mma_async.sync.aligned." SHAPE \
               ".f32." TYPES " {" REGISTERS "}, " I0 ", " I1 ", p, 1, 1" TAIL ";}"            \
               : D                                                                            \
               : "l"(a), "l"(b), "r"(accumulate))

template <bool F16, int N>
__device__ __forceinline__ void wgmma_wide(float (&d)[N][4], const std::uint32_t (&a)[4],
                                           std::uint64_t b, int accumulate) {
  static_assert(N == 8 || N == 23);
  if constexpr (F16) {
    wgmma<true>(d, {{a[0], a[1]}}, {{a[2], a[3]}}, b, accumulate);
  } else if constexpr (N == 8) {
    ELAN_WGMMA_A(ELAN_D8, ELAN_REGISTERS_8, "m64n64k8", "tf32.tf32", "", "%32", "%33", "%34", "%35",
                 "%36", "%37");
  } else {
    ELAN_WGMMA_A(ELAN_D23, ELAN_REGISTERS_23, "m64n184k8", "tf32.tf32", "", "%92", "%93", "%94",
                 "%95", "%96", "%97");
  }
}

// The same with A in shared memory.
template <bool F16, int N>
__device__ __forceinline__ void wgmma_wide_shared(float (&d)[N][4], std::uint64_t a,
                                                  std::uint64_t b, int accumulate) {
  static_assert(N == 4 || N == 9);
  if constexpr (F16 && N == 4) {
    wgmma_shared<true>(d, a, b, accumulate);
  } else if constexpr (F16) {
    ELAN_WGMMA_SHARED(ELAN_D9, ELAN_REGISTERS_9, "m64n72k16", "f16.f16", ", 0, 0", "%36", "%37",
                      "%38");
  } else if constexpr (N == 4) {
    ELAN_WGMMA_SHARED(ELAN_D4, ELAN_REGISTERS_4, "m64n32k8", "tf32.tf32", "", "%16", "%17", "%18");
  } else {
    ELAN_WGMMA_SHARED(ELAN_D9, ELAN_REGISTERS_9, "m64n72k8", "tf32.tf32", "", "%36", "%37", "%38");
  }
}
#undef ELAN_WGMMA_A
#undef ELAN_WGMMA_SHARED
#undef ELAN_REGISTERS_4
#undef ELAN_REGISTERS_8
#undef ELAN_REGISTERS_9
#undef ELAN_REGISTERS_23
#undef ELAN_D23
#undef ELAN_D9
#undef ELAN_D8
#undef ELAN_D4
#undef ELAN_D

// Waits until at most `Left` groups of products are under way; whoever touches a result says so
// with wgmma_wait().
template <int Left>
__device__ __forceinline__ void wgmma_wait_left() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Left) : "memory");
}

// An operand is computed here, not where it is used: the compiler would keep what it comes from.
__device__ __forceinline__ void settle(UnitA4& a) {
  asm volatile("" : "+r"(a.r[0]), "+r"(a.r[1]), "+r"(a.r[2]), "+r"(a.r[3]));
}

#endif

}  // namespace elan::cuda
