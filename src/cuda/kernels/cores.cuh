// Core matrices, the form in which wgmma reads operands from shared memory: 8 columns x 8 k of 16
// bits, 128 bytes each, for B in the order [k unit][column tile].
#pragma once

#include "cuda/kernels/codec.cuh"

namespace elan::cuda {

// From one core matrix to the one 8 k, or 8 columns, further: bytes.
__device__ __forceinline__ std::uint64_t core_descriptor(std::uint32_t address, int next_k,
                                                         int next_columns) {
  return static_cast<std::uint64_t>((address & 0x3ffffU) >> 4) |
         static_cast<std::uint64_t>(next_k >> 4) << 16 |
         static_cast<std::uint64_t>(next_columns >> 4) << 32;
}
__device__ __forceinline__ std::uint64_t core_descriptor(std::uint32_t address, int tiles) {
  return core_descriptor(address, tiles * 128, 128);
}

// Core matrices from an address on. Of their descriptors the lower words alone differ.
template <int NextK, int NextColumns>
struct CoreMatrices {
  std::uint32_t low;

  __device__ __forceinline__ explicit CoreMatrices(std::uint32_t address)
      : low(static_cast<std::uint32_t>(core_descriptor(address, NextK, NextColumns))) {}
  __device__ __forceinline__ std::uint64_t at(int bytes) const {
    return std::uint64_t{NextColumns >> 4} << 32 | (low + static_cast<std::uint32_t>(bytes) / 16);
  }
};

// A slab of such matrices of Tiles column tiles, units of 8 k after one another.
template <int Tiles>
struct CoreSlab : CoreMatrices<Tiles * 128, 128> {
  using CoreMatrices<Tiles * 128, 128>::CoreMatrices;
  // Of unit `u` and the next.
  __device__ __forceinline__ std::uint64_t unit(int u) const { return this->at(u * Tiles * 128); }
};

// Units of a block of 16 tokens as core matrices of 8 tokens x 8 channels (or the other way round,
// transposed): [half of the tokens][unit].
template <int N>
__device__ __forceinline__ void store_cores(const UnitA2 (&u)[N], char* p, int lane) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
      reinterpret_cast<std::uint32_t*>(p + (h * N + n) * 128)[lane] = u[n].r[h];
    }
  }
}

}  // namespace elan::cuda
