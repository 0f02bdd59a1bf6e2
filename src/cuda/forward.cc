#include "cuda/forward.h"

#include <algorithm>

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

LfeArgs lfe_args(const ForwardArgs& a, const PackedLfe& p) {
  LfeArgs l;
  l.x = a.arena + a.plan.arena.x;
  l.y = a.arena + a.plan.arena.y;
  l.half = a.shape.half_stream;
  l.q = reinterpret_cast<char*>(a.arena + a.plan.arena.q);
  l.v = reinterpret_cast<char*>(a.arena + a.plan.arena.v);
  l.weights = bytes(a, p.weights);
  l.bias0 = floats(a, p.bias0);
  l.bias1 = floats(a, p.bias1);
  l.bias_project = floats(a, p.bias_project);
  l.unscale0 = p.unscale0;
  l.unscale1 = p.unscale1;
  l.scale1 = 1 / p.unscale1;
  l.unscale_project = p.unscale_project;
  l.groups = p.groups;
  std::copy(p.hidden_y.begin(), p.hidden_y.end(), l.hidden_y);
  std::copy(p.hidden_x.begin(), p.hidden_x.end(), l.hidden_x);
  std::copy(p.chunk_y.begin(), p.chunk_y.end(), l.chunk_y);
  std::copy(p.chunk_x.begin(), p.chunk_x.end(), l.chunk_x);
  l.has_q = p.has_q;
  l.grid = a.plan.grid;
  l.shape = p.has_q ? a.plan.lfe : a.plan.lfe_later;
  return l;
}

GmsaArgs gmsa_args(const ForwardArgs& a, const PackedOut& p, bool shifted) {
  GmsaArgs g;
  g.y = a.arena + a.plan.arena.y;
  g.x = a.arena + a.plan.arena.x;
  g.half = a.shape.half_stream;
  g.q = reinterpret_cast<const char*>(a.arena + a.plan.arena.q);
  g.v = reinterpret_cast<const char*>(a.arena + a.plan.arena.v);
  g.weights = bytes(a, p.weights);
  g.bias = floats(a, p.bias);
  g.unscale = p.unscale;
  g.shifted = shifted;
  g.grid = a.plan.grid;
  g.shape = a.plan.gmsa;
  return g;
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

  for (std::size_t i = 0; i < a.packed.body.size(); ++i) {
    for (std::size_t j = 0; j < a.packed.body[i].size(); ++j) {
      const PackedPair& pair = a.packed.body[i][j];
      const LfeArgs lfe = lfe_args(a, pair.lfe);
      if (a.shape.hopper) {
        launch_lfe_hopper(a.shape.body, lfe, stream);
      } else {
        launch_lfe(a.shape.channels, a.shape.body, lfe, stream);
      }
      if (hook) hook(lfe_stage(static_cast<int>(i), static_cast<int>(j)), lfe.y);
      const GmsaArgs gmsa = gmsa_args(a, pair.out, a.net.body[i].shifted);
      if (a.shape.hopper) {
        launch_gmsa_hopper(a.shape.body, gmsa, stream);
      } else {
        launch_gmsa(a.shape.channels, a.shape.body, gmsa, stream);
      }
      if (hook) hook(gmsa_stage(static_cast<int>(i), static_cast<int>(j)), gmsa.x);
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
