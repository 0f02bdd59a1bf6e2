// Products of operands of 32 bits on Hopper, from core matrices as layout_wide.h has them: tf32 in
// one instruction a unit of 8 k; fp32 in three for two units, of their upper and lower terms, or in
// two for one.
#pragma once

#include <type_traits>

#include "cuda/kernels/wgmma_wide.cuh"
#include "cuda/layout_wide.h"

namespace elan::cuda {

template <typename K>
constexpr bool kSplit = std::is_same_v<K, CodecFp32>;
template <typename K>
constexpr Operand kWideOperand = kSplit<K> ? Operand::fp32 : Operand::tf32;

#if ELAN_HOPPER

// Calls once(unit, part, b, accumulate) for every instruction of d = or += A * B over `Units`
// units: A's part of a unit and, if that is split, of the next; part 2: both parts of the unit.
template <typename K, int Units, typename Once>
__device__ __forceinline__ void multiply_wide(std::uint32_t b, Cores cores, bool accumulate,
                                              Once once) {
  if constexpr (!kSplit<K>) {
#pragma unroll
    for (int u = 0; u < Units; ++u) {
      once(u, 0, core_descriptor(b + u * cores.unit, cores.part, cores.rows),
           accumulate || u > 0 ? 1 : 0);
    }
  } else {
    // Upper terms with each other last: until then the sums are small, and with them what tensor
    // cores cut off. Of an odd unit both terms of A side by side, times the lower and the upper one
    // of B.
    constexpr bool kOdd = Units % 2 == 1;
    const std::uint32_t odd = b + (Units - 1) * cores.unit;
#pragma unroll
    for (int u = 0; u + 1 < Units; u += 2) {
      const std::uint32_t high = b + u * cores.unit;
      once(u, 0, core_descriptor(high + cores.part, cores.unit, cores.rows),
           accumulate || u > 0 ? 1 : 0);
      once(u, 1, core_descriptor(high, cores.unit, cores.rows), 1);
    }
    if constexpr (kOdd) {
      once(Units - 1, 2, core_descriptor(odd + cores.part, 0, cores.rows),
           accumulate || Units > 1 ? 1 : 0);
    }
#pragma unroll
    for (int u = 0; u + 1 < Units; u += 2) {
      once(u, 0, core_descriptor(b + u * cores.unit, cores.unit, cores.rows), 1);
    }
    if constexpr (kOdd) once(Units - 1, 2, core_descriptor(odd, 0, cores.rows), 1);
  }
}

// A from shared memory.
template <typename K, int Units, int N>
__device__ __forceinline__ void multiply_shared(float (&d)[N][4], std::uint32_t a, Cores a_cores,
                                                std::uint32_t b, Cores b_cores, bool accumulate) {
  multiply_wide<K, Units>(
      b, b_cores, accumulate, [&](int u, int part, std::uint64_t b_at, int add) {
        const std::uint32_t at = a + u * a_cores.unit + (part == 1 ? a_cores.part : 0);
        const int next_k = kSplit<K> && part != 2 ? a_cores.unit : a_cores.part;
        wgmma_wide_shared<kSplit<K>>(d, core_descriptor(at, next_k, a_cores.rows), b_at, add);
      });
}

// A from registers, units a[0 .. Units).
template <typename K, int Units, int N>
__device__ __forceinline__ void multiply_units(float (&d)[N][4], const UnitA4* a, std::uint32_t b,
                                               Cores b_cores, bool accumulate) {
  multiply_wide<K, Units>(
      b, b_cores, accumulate, [&](int u, int part, std::uint64_t b_at, int add) {
        if (kSplit<K> && part != 2) {
          const std::uint32_t both[4] = {a[u].r[2 * part], a[u].r[2 * part + 1],
                                         a[u + 1].r[2 * part], a[u + 1].r[2 * part + 1]};
          wgmma_wide<true>(d, both, b_at, add);
        } else {
          wgmma_wide<kSplit<K>>(d, a[u].r, b_at, add);
        }
      });
}

// d = or += what multiply(to, add) hands over, committed and complete; fp32 in registers, because
// tensor cores round toward zero what they add to.
template <typename K, int N, typename Multiply>
__device__ __forceinline__ void sum_products(float (&d)[N][4], bool add, Multiply multiply) {
  if constexpr (kSplit<K>) {
    float part[N][4];
    multiply(part, false);
    wgmma_commit();
    wgmma_wait<0>(part);
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) d[n][i] = add ? d[n][i] + part[n][i] : part[n][i];
    }
  } else {
    multiply(d, add);
    wgmma_commit();
    wgmma_wait<0>(d);
  }
}

#endif

}  // namespace elan::cuda
