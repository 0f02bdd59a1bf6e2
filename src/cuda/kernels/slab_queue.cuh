// What the LFEs on Hopper share. Weights on their way through shared memory: one thread brings
// slabs with bulk copies, two warpgroups multiply by them.
#pragma once

#include "cuda/kernels/kernels.h"
#include "cuda/kernels/wgmma.cuh"

namespace elan::cuda {

// Two warpgroups compute; the third one brings what they need. Registers move from it to them.
constexpr int kGroupThreads = 128, kComputeThreads = 2 * kGroupThreads;
constexpr int kHopperThreads = 3 * kGroupThreads;

#if ELAN_HOPPER

// Addresses of slabs of StageBytes each, and of two barriers for each: it is there, it is free.
struct SlabPlaces {
  std::uint32_t slabs, full, empty;
  int stages;

  // By one thread, before the others use them; so many warps compute.
  __device__ __forceinline__ void init(int warps = kComputeThreads / 32) const {
    for (int i = 0; i < stages; ++i) {
      barrier_init(full + i * 8, 1);
      barrier_init(empty + i * 8, warps);
    }
  }
};

// The consumers' side. Slabs are released in order, some later than the next one is waited for: the
// products that read them are still under way.
template <int StageBytes>
struct SlabQueue {
  SlabPlaces places;
  int slot = 0, parity = 0, oldest = 0;

  __device__ __forceinline__ explicit SlabQueue(const SlabPlaces& p) : places(p) {}
  __device__ __forceinline__ std::uint32_t wait() {
    barrier_wait(places.full + slot * 8, parity);
    const std::uint32_t slab = places.slabs + slot * StageBytes;
    if (++slot == places.stages) {
      slot = 0;
      parity ^= 1;
    }
    return slab;
  }
  // This warp is done with the oldest slab.
  __device__ __forceinline__ void release(int lane) {
    if (lane == 0) barrier_arrive(places.empty + oldest * 8);
    if (++oldest == places.stages) oldest = 0;
  }
};

// The other side, of one thread.
template <int StageBytes>
struct SlabSource {
  SlabPlaces places;
  int slot = 0, parity = 1;  // a fresh barrier counts as passed

  __device__ __forceinline__ explicit SlabSource(const SlabPlaces& p) : places(p) {}
  __device__ __forceinline__ void bring(const char* from, int bytes) {
    barrier_wait(places.empty + slot * 8, parity);
    barrier_expect(places.full + slot * 8, bytes);
    copy_bulk(places.slabs + slot * StageBytes, from, bytes, places.full + slot * 8);
    if (++slot == places.stages) {
      slot = 0;
      parity ^= 1;
    }
  }
};

// All biases of an LFE, by all threads: of conv1, of q and v, of the hidden groups.
__device__ __forceinline__ void stage_biases(float* biases, const LfeArgs& p) {
  constexpr ChannelLayout l = kHopperLayout;
  const int projected = kWindowGroups * l.group_units * 8 * (p.has_q ? 2 : 1);
  for (int i = static_cast<int>(threadIdx.x); i < kWideBias0 + p.groups * l.hidden_tiles * 8;
       i += kHopperThreads) {
    if (i < kWideBiasProject) {
      biases[i] = p.bias1[i];
    } else if (i < kWideBias0) {
      biases[i] = i - kWideBiasProject < projected ? p.bias_project[i - kWideBiasProject] : 0.F;
    } else {
      biases[i] = p.bias0[i - kWideBias0];
    }
  }
}

#endif

}  // namespace elan::cuda
