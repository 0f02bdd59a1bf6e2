// The forward pass: which kernel runs on what, in order.
#pragma once

#include <functional>

#include "cuda/cuda_backend.h"
#include "cuda/kernels/kernels.h"
#include "cuda/pack.h"
#include "cuda/plan.h"

namespace elan::cuda {

// Everything on the device that a pass works on.
struct ForwardArgs {
  const Network& net;
  const PackedNetwork& packed;  // offsets into `weights`
  const NetworkShape& shape;
  const Plan& plan;
  const std::byte* weights;
  std::byte* arena;
  unsigned* not_finite;
};

// Called after each stage of the body with the memory that holds it: the stream, [pixel][stride],
// FP16 if shape.half_stream, else FP32.
using StageHook = std::function<void(const std::string& name, const void* stream)>;

// Enqueues the whole network. Throws Error (device) when a launch fails.
void forward(const ForwardArgs& args, const DevicePictures& pictures, cudaStream_t stream,
             const StageHook& hook = {});

// The last convolution again, for observers: its padded result without the mean, as f32.
void forward_tail(const ForwardArgs& args, float* output, cudaStream_t stream);

}  // namespace elan::cuda
