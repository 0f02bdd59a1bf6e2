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

Grid grid_of(const BodyArgs& b) {
  Grid grid = b.grid;
  grid.overlap = b.pair.overlap;
  return grid;
}

}  // namespace

bool hopper_able(int channels, const DeviceInfo& device) {
  return has_layout(channels) && device.major == 9 && device.minor == 0 && hopper_compiled();
}

void prepare_body(const NetworkShape& shape) {
  prepare_kernels();
  const std::vector<PairKind> kinds = shape.kinds();
  if (std::any_of(kinds.begin(), kinds.end(), [](const PairKind& k) { return k.hopper; })) {
    prepare_lfe_hopper();
    prepare_lfe_hopper_narrow();
    prepare_gmsa_hopper();
    prepare_gmsa_hopper_narrow();
    prepare_lfe_hopper_wide();
    prepare_gmsa_hopper_wide();
    prepare_lfe_int8();
    prepare_gmsa_int8();
  }
}

void enqueue_lfe(const BodyArgs& b, const PackedLfe& p, const LfeTensors& t, cudaStream_t stream) {
  LfeArgs l;
  l.x = t.x;
  l.y = t.y;
  l.format = b.pair.kind.stream;
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
  l.scale0 = floats(b, p.scale0);
  l.scale_out = floats(b, p.scale1);
  l.scale_project = floats(b, p.scale_project);
  l.input = p.input;
  l.hidden = p.hidden;
  l.projected = p.projected;
  l.integers = reinterpret_cast<const char*>(t.integers);
  l.columns = bytes(b, p.columns);
  l.int8_attention = p.int8_attention;
  l.groups = p.groups;
  std::copy(p.hidden_y.begin(), p.hidden_y.end(), l.hidden_y);
  std::copy(p.hidden_x.begin(), p.hidden_x.end(), l.hidden_x);
  std::copy(p.chunk_y.begin(), p.chunk_y.end(), l.chunk_y);
  std::copy(p.chunk_x.begin(), p.chunk_x.end(), l.chunk_x);
  l.has_q = p.has_q;
  l.grid = grid_of(b);
  l.shape = p.has_q ? b.pair.lfe : b.pair.lfe_later;
  if (uses_wide_kernels(b.pair.kind)) {
    launch_lfe_hopper_wide(b.pair.kind.operand, l, stream);
  } else if (uses_8_bit_kernels(b.pair.kind)) {
    launch_lfe_int8_hopper(b.pair.kind.operand, l, stream);
  } else if (b.pair.kind.hopper && b.channels == 60) {
    launch_lfe_hopper_narrow(b.pair.kind.operand, l, stream);
  } else if (b.pair.kind.hopper) {
    launch_lfe_hopper(b.pair.kind.operand, l, stream);
  } else {
    launch_lfe(b.channels, b.pair.kind.operand, l, stream);
  }
}

void enqueue_integers(const BodyArgs& b, const PackedLfe& p, const LfeTensors& t,
                      cudaStream_t stream) {
  IntegersArgs i;
  i.x = t.x;
  i.integers = reinterpret_cast<char*>(t.integers);
  i.factor = p.input.factor;
  i.grid = grid_of(b);
  launch_integers(b.pair.kind.operand, i, stream);
}

void enqueue_gmsa(const BodyArgs& b, const PackedOut& p, bool shifted, const GmsaTensors& t,
                  cudaStream_t stream) {
  GmsaArgs g;
  g.y = t.y;
  g.x = t.x;
  g.format = b.pair.kind.stream;
  g.q = static_cast<const char*>(t.q);
  g.v = static_cast<const char*>(t.v);
  g.weights = bytes(b, p.weights);
  g.bias = floats(b, p.bias);
  g.unscale = p.unscale;
  g.scale = floats(b, p.scale);
  g.input = p.input;
  g.columns = bytes(b, p.columns);
  g.int8_attention = p.int8_attention;
  std::copy(p.power.begin(), p.power.end(), g.power);
  std::copy(p.value.begin(), p.value.end(), g.value);
  if (t.next != nullptr) {
    g.integers = reinterpret_cast<char*>(t.integers);
    g.next_factor = t.next->input.factor;
  }
  g.shifted = shifted;
  g.references = reinterpret_cast<char*>(t.references);
  g.find_references = t.references != nullptr && t.references_found;
  g.leave_references = t.references != nullptr && !t.references_found;
  g.grid = grid_of(b);
  g.shape = b.pair.gmsa;
  if (uses_wide_kernels(b.pair.kind)) {
    launch_gmsa_hopper_wide(b.pair.kind.operand, g, stream);
  } else if (uses_8_bit_kernels(b.pair.kind)) {
    launch_gmsa_int8_hopper(b.pair.kind.operand, g, stream);
  } else if (b.pair.kind.hopper && b.channels == 180) {
    launch_gmsa_hopper(b.pair.kind.operand, g, stream);
  } else if (b.pair.kind.hopper && !shifted && b.pair.gmsa.walkers > 0) {
    launch_gmsa_hopper_narrow(b.pair.kind.operand, g, stream);
  } else {
    if (b.pair.kind.hopper) g.weights += kNarrowOutBytes;
    launch_gmsa(b.channels, b.pair.kind.operand, g, stream);
  }
}

}  // namespace elan::cuda
