// The operations of the body, for whoever runs them: one place that fills the kernels' arguments
// and chooses between the portable kernels and Hopper's.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "cuda/device.h"
#include "cuda/kernels/kernels.h"
#include "cuda/pack.h"
#include "cuda/plan.h"

namespace elan::cuda {

// Whether Hopper's own kernels can run on this device, the current one. Both LFE and GMSA of a pair
// or neither, for what one leaves, the other reads.
bool hopper_able(int channels, const DeviceInfo& device);

// Before the first launch on the current device; cudaGetLastError() tells.
void prepare_body(const NetworkShape& shape);

struct BodyArgs {
  int channels;
  const Grid& grid;
  const PairPlan& pair;      // what the operation is part of
  const std::byte* weights;  // on the device; packed offsets are into them
};

// Device memory; streams are what the kind's `stream` says. The LFE's y may be its x where
// keeps_stream_in_place(), the GMSA's x may be its y on Hopper with 180 channels in 8 and
// 16 bits, and must be there with a split stream.
struct LfeTensors {
  const void* x = nullptr;
  void* y = nullptr;
  void* q = nullptr;  // unused unless the LFE computes it
  void* v = nullptr;
  std::byte* integers = nullptr;  // 8 bits on Hopper: x in bytes, by enqueue_integers()
};
struct GmsaTensors {
  const void* y = nullptr;
  const void* q = nullptr;
  const void* v = nullptr;
  void* x = nullptr;
  // q, where pairs share it and may pass on the references of their softmaxes; whether one before
  // has left them there.
  std::byte* references = nullptr;
  bool references_found = false;
  std::byte* integers = nullptr;    // 8 bits on Hopper: where x goes in bytes, too ...
  const PackedLfe* next = nullptr;  // ... for this LFE; null: nowhere
};

// Each enqueues one kernel; cudaGetLastError() tells.
void enqueue_lfe(const BodyArgs& body, const PackedLfe& packed, const LfeTensors& tensors,
                 cudaStream_t stream);
// For the first LFE in 8 bits on Hopper; later ones find what a GMSA left.
void enqueue_integers(const BodyArgs& body, const PackedLfe& packed, const LfeTensors& tensors,
                      cudaStream_t stream);
void enqueue_gmsa(const BodyArgs& body, const PackedOut& packed, bool shifted,
                  const GmsaTensors& tensors, cudaStream_t stream);

// Both at once where the plan has whole pairs, of an unshifted ELAB: from the LFE's x to the
// GMSA's, which is another place; y and v are not used.
void enqueue_pair(const BodyArgs& body, const PackedPair& packed, const LfeTensors& lfe,
                  const GmsaTensors& gmsa, cudaStream_t stream);

}  // namespace elan::cuda
