#include "cuda/body.h"

#include <algorithm>

namespace elan::cuda {
namespace {

const float* floats(const BodyArgs& b, std::size_t offset) {
  return reinterpret_cast<const float*>(b.weights + offset);
}
const char* bytes(const BodyArgs& b, std::size_t offset) {
  return reinterpret_cast<const char*>(b.weights + offset);
}

}  // namespace

bool hopper_able(const NetworkShape& shape, const DeviceInfo& device) {
  return shape.channels == 180 && device.major == 9 && device.minor == 0 && hopper_compiled();
}

void prepare_body(const NetworkShape& shape) {
  prepare_kernels();
  if (shape.hopper) {
    prepare_lfe_hopper();
    prepare_gmsa_hopper();
    prepare_lfe_hopper_wide();
  }
}

void enqueue_lfe(const BodyArgs& b, const PackedLfe& p, const LfeTensors& t, cudaStream_t stream) {
  LfeArgs l;
  l.x = t.x;
  l.y = t.y;
  l.half = b.shape.half_stream;
  l.q = static_cast<char*>(t.q);
  l.v = static_cast<char*>(t.v);
  l.weights = bytes(b, p.weights);
  l.bias0 = floats(b, p.bias0);
  l.bias1 = floats(b, p.bias1);
  l.bias_project = floats(b, p.bias_project);
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
  l.grid = b.plan.grid;
  l.shape = p.has_q ? b.plan.lfe : b.plan.lfe_later;
  const bool wide = operand_bytes(b.shape.body) == 4;
  if (b.shape.hopper && wide) {
    launch_lfe_hopper_wide(b.shape.body, l, stream);
  } else if (b.shape.hopper) {
    launch_lfe_hopper(b.shape.body, l, stream);
  } else {
    launch_lfe(b.shape.channels, b.shape.body, l, stream);
  }
}

void enqueue_gmsa(const BodyArgs& b, const PackedOut& p, bool shifted, const GmsaTensors& t,
                  cudaStream_t stream) {
  GmsaArgs g;
  g.y = t.y;
  g.x = t.x;
  g.half = b.shape.half_stream;
  g.q = static_cast<const char*>(t.q);
  g.v = static_cast<const char*>(t.v);
  g.weights = bytes(b, p.weights);
  g.bias = floats(b, p.bias);
  g.unscale = p.unscale;
  g.shifted = shifted;
  g.grid = b.plan.grid;
  g.shape = b.plan.gmsa;
  if (b.shape.hopper && operand_bytes(b.shape.body) == 2) {
    launch_gmsa_hopper(b.shape.body, g, stream);
  } else {
    launch_gmsa(b.shape.channels, b.shape.body, g, stream);
  }
}

}  // namespace elan::cuda
