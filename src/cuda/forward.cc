#include "cuda/forward.h"

#include <algorithm>

#include "cuda/body.h"
#include "cuda/device.h"
#include "model/stages.h"

namespace elan::cuda {
namespace {

const float* floats(const ForwardArgs& a, std::size_t offset) {
  return reinterpret_cast<const float*>(a.weights + offset);
}
const char* bytes(const ForwardArgs& a, std::size_t offset) {
  return reinterpret_cast<const char*>(a.weights + offset);
}

HeadArgs head_args(const ForwardArgs& a, const DevicePictures& pictures) {
  HeadArgs h;
  h.input = pictures.input;
  h.sample = static_cast<int>(pictures.input_type);
  h.input_width = pictures.width;
  h.input_height = pictures.height;
  std::copy(a.net.mean.begin(), a.net.mean.end(), h.mean);
  h.weights = floats(a, a.packed.head_weights);
  h.bias = floats(a, a.packed.head_bias);
  h.x = a.arena + a.plan.arena.x;
  h.half = a.shape.half_stream;
  h.grid = a.plan.grid;
  h.channels = a.shape.channels;
  return h;
}

TailArgs tail_args(const ForwardArgs& a) {
  TailArgs t;
  t.x = a.arena + a.plan.arena.x;
  t.half = a.shape.half_stream;
  t.weights = bytes(a, a.packed.tail.weights);
  t.bias = floats(a, a.packed.tail.bias);
  t.unscale = a.packed.tail.unscale;
  t.scale = a.shape.scale;
  t.not_finite = a.not_finite;
  t.grid = a.plan.grid;
  t.shape = a.plan.tail;
  return t;
}

}  // namespace

void forward(const ForwardArgs& a, const DevicePictures& pictures, cudaStream_t stream,
             const StageHook& hook) {
  HeadArgs head = head_args(a, pictures);
  launch_head(head, stream);
  if (hook) hook("head", head.x);

  const BodyArgs body{a.shape, a.plan, a.weights};
  std::byte* const x = a.arena + a.plan.arena.x;
  std::byte* const y = a.arena + a.plan.arena.y;
  std::byte* const q = a.arena + a.plan.arena.q;
  std::byte* const v = a.arena + a.plan.arena.v;
  for (std::size_t i = 0; i < a.packed.body.size(); ++i) {
    for (std::size_t j = 0; j < a.packed.body[i].size(); ++j) {
      const PackedPair& pair = a.packed.body[i][j];
      enqueue_lfe(body, pair.lfe, {.x = x, .y = y, .q = q, .v = v}, stream);
      if (hook) hook(lfe_stage(static_cast<int>(i), static_cast<int>(j)), y);
      enqueue_gmsa(body, pair.out, a.net.body[i].shifted, {.y = y, .q = q, .v = v, .x = x}, stream);
      if (hook) hook(gmsa_stage(static_cast<int>(i), static_cast<int>(j)), x);
    }
  }

  head.accumulate = true;
  launch_head(head, stream);
  if (hook) hook("body", head.x);

  TailArgs tail = tail_args(a);
  std::copy(a.net.mean.begin(), a.net.mean.end(), tail.mean);
  tail.output = pictures.output;
  tail.sample = static_cast<int>(pictures.output_type);
  tail.output_width = pictures.width * a.shape.scale;
  tail.output_height = pictures.height * a.shape.scale;
  launch_tail(a.shape.channels, a.shape.tail, tail, stream);
  ELAN_CUDA(cudaGetLastError());
}

void forward_tail(const ForwardArgs& a, float* output, cudaStream_t stream) {
  TailArgs tail = tail_args(a);
  tail.output = output;
  tail.sample = static_cast<int>(SampleType::f32);
  tail.output_width = a.plan.grid.width * a.shape.scale;
  tail.output_height = a.plan.grid.height * a.shape.scale;
  launch_tail(a.shape.channels, a.shape.tail, tail, stream);
  ELAN_CUDA(cudaGetLastError());
}

}  // namespace elan::cuda
