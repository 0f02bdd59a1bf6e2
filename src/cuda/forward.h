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
  // Pairs are two kernels, and the body's end is computed as well, after the picture.
  bool every_stage = false;
};

// The memory that holds a stage of the body: the residual stream, [pixel][stride].
struct StageStream {
  const void* data = nullptr;
  StreamFormat format = StreamFormat::fp32;
};

// Called after each stage of the body.
using StageHook = std::function<void(const std::string& name, const StageStream& stream)>;

// Enqueues the whole network. Throws Error (device) when a launch fails.
void forward(const ForwardArgs& args, const DevicePictures& pictures, cudaStream_t stream,
             const StageHook& hook = {});

// The last convolution again, for observers: its padded result without the mean, as f32. `body` is
// the stage that a pass with `every_stage` has shown last.
void forward_tail(const ForwardArgs& args, const StageStream& body, float* output,
                  cudaStream_t stream);

}  // namespace elan::cuda
