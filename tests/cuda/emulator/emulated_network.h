// A network run by the CUDA kernels on the emulator, through the forward pass that a GPU gets.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend.h"
#include "cuda/kernels/kernels.h"
#include "cuda/pack.h"
#include "cuda/plan.h"
#include "emulator.h"
#include "model/network.h"

namespace elan::emulator {

class EmulatedNetwork {
 public:
  EmulatedNetwork(const Network& net, cuda::NetworkShape shape, const cuda::DeviceLimits& device);

  // One picture of 8-bit samples; returns f32, [scale * height][scale * width][3]. `observer` sees
  // the stages of the body, all of them with `every_stage`.
  std::vector<float> run(const ConstImageView& in, const StageObserver& observer = {},
                         bool every_stage = true);

  // The launches of a pass over so much, checked but not run.
  void check_launches(int width, int height, int batch);

 private:
  cuda::Plan plan_with_memory(int width, int height);

  const Network& net_;
  cuda::NetworkShape shape_;
  cuda::DeviceLimits device_;
  cuda::PackedNetwork packed_;  // its offsets lead from `base_` into weights_
  const std::byte* base_ = nullptr;
  std::vector<std::unique_ptr<Memory>> weights_, arena_;
};

}  // namespace elan::emulator
