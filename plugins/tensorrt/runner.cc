#include "runner.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>

#include "cuda/body.h"
#include "elan/error.h"

namespace elan::plugins {

using namespace cuda;

namespace {

std::string extent(const std::vector<float>& weights, const std::vector<float>& biases) {
  const auto largest = [](const std::vector<float>& values) {
    float most = 0;
    for (const float v : values) most = std::max(most, std::abs(v));
    return most;
  };
  char text[64];
  std::snprintf(text, sizeof text, "%.3g and %.3g", largest(weights), largest(biases));
  return text;
}

// What make_plan() must know of a network, of which this is a part; the tail is not run here, so it
// is the one that needs least.
NetworkShape shape_of(const Module& m, const DeviceInfo& device) {
  NetworkShape shape;
  shape.channels = m.channels;
  shape.scale = 2;
  shape.tail = Operand::fp16;
  PairKind& kind = shape.body.emplace_back();
  kind.operand = operand_of(m.precision);
  if (m.kind == Kind::lfe) {
    const int width = 8 * layout_of(m.channels).hidden_tiles;
    shape.hidden_groups = static_cast<int>(hidden_order(m.lfe.conv1.taps, width).taps.size());
  }
  kind.stream = m.half_stream ? StreamFormat::fp16 : StreamFormat::fp32;
  kind.hopper =
      hopper_able(m.channels, device) && has_hopper_kernels(m.channels, kind.operand) &&
      (kind.operand != Operand::int8 || m.int8_block) &&
      (m.kind != Kind::lfe || m.channels == 180 ||
       (narrow_layout_fits(m.lfe, m.stream) && lfe_numbers_fit(m.lfe, m.gmsa, kind.operand)));
  // What the backend would leave to other kernels: an LFE and its GMSA, modules of their own, have
  // to be of one kind, and neither knows the other.
  const auto refuse = [&](const std::string& expected, const std::string& found) {
    throw Error(ErrorKind::model, std::string(name_of(m.kind)) + " " + m.stage + ": expected " +
                                      expected + ", found " + found + "; TF32 and FP32 take any");
  };
  const std::string range =
      "a largest weight from 2^-11 to 2^13 and biases to 2^15 in each matrix, as FP16 has them";
  const bool half = operand_bytes(kind.operand) == 2 && !has_8_bits(kind.operand);
  const bool wide = m.channels == 180 && kind.hopper;
  if (half && wide && m.kind == Kind::lfe) {
    if (!hopper_layout_fits(m.lfe, m.stream)) refuse("shifts of 36 channels each", "others");
    if (!lfe_numbers_fit(m.lfe, m.gmsa, kind.operand)) {
      refuse(range, "conv0 " + extent(m.lfe.conv0.weight, m.lfe.conv0.bias) + ", conv1 " +
                        extent(m.lfe.conv1.weight, m.lfe.conv1.bias) + ", project_inp " +
                        extent(m.gmsa.project_inp.weight, m.gmsa.project_inp.bias));
    }
  }
  if (half && (wide || m.channels == 60) && m.kind == Kind::gmsa &&
      !out_numbers_fit(m.gmsa, kind.operand)) {
    refuse(range, "project_out " + extent(m.gmsa.project_out.weight, m.gmsa.project_out.bias));
  }
  return shape;
}

}  // namespace

class DeviceModule {
 public:
  DeviceModule(const Module& m, int device)
      : device_(device), info_(open_device(device)), module_(m), shape_(shape_of(m, info_)) {
    prepare_body(shape_);
    ELAN_CUDA(cudaGetLastError());
    const ModuleLayout layout{m.channels, kind().operand, kind().hopper};
    if (m.kind == Kind::lfe) {
      const PackedModule<PackedLfe> packed = pack_lfe_alone(m.lfe, m.gmsa, m.stream, layout);
      lfe_ = packed.at;
      upload(packed.data);
    } else {
      const PackedModule<PackedOut> packed = pack_out_alone(m.gmsa, m.stream, layout);
      out_ = packed.at;
      upload(packed.data);
    }
  }

  ~DeviceModule() {
    int before = 0;
    cudaGetDevice(&before);
    cudaSetDevice(device_);
    weights_.release();
    cudaSetDevice(before);
  }
  DeviceModule(const DeviceModule&) = delete;
  DeviceModule& operator=(const DeviceModule&) = delete;

  void enqueue(const StreamSize& size, const void* const* inputs, void* const* outputs,
               void* workspace, cudaStream_t stream) const {
    const Plan plan = make_plan(shape_, info_.limits, size.width, size.height, size.batch);
    const BodyArgs body{module_.channels, plan.grid, plan.pairs.front(), weights_.data()};
    if (module_.kind == Kind::lfe) {
      void* const q = lfe_.has_q ? outputs[2] : nullptr;
      const LfeTensors tensors{.x = inputs[0],
                               .y = outputs[0],
                               .q = q,
                               .v = outputs[1],
                               .integers = static_cast<std::byte*>(workspace)};
      if (uses_8_bit_kernels(kind())) enqueue_integers(body, lfe_, tensors, stream);
      enqueue_lfe(body, lfe_, tensors, stream);
    } else {
      const GmsaTensors tensors{.y = inputs[0], .q = inputs[2], .v = inputs[1], .x = outputs[0]};
      enqueue_gmsa(body, out_, module_.shifted, tensors, stream);
    }
    ELAN_CUDA(cudaGetLastError());
  }

 private:
  [[nodiscard]] const PairKind& kind() const { return shape_.body.front(); }
  void upload(const std::vector<std::byte>& data) {
    weights_.reserve(data.size());
    ELAN_CUDA(cudaMemcpy(weights_.data(), data.data(), data.size(), cudaMemcpyHostToDevice));
  }

  int device_;
  DeviceInfo info_;
  const Module& module_;
  NetworkShape shape_;
  PackedLfe lfe_;
  PackedOut out_;
  DeviceBuffer weights_;
};

SharedModule::SharedModule(Module module) : module_(std::move(module)) {}
SharedModule::~SharedModule() = default;

std::shared_ptr<DeviceModule> SharedModule::on_device() {
  int device = 0;
  ELAN_CUDA(cudaGetDevice(&device));
  const std::lock_guard lock(mutex_);
  std::shared_ptr<DeviceModule> found = devices_[device].lock();
  if (!found) {
    found = std::make_shared<DeviceModule>(module_, device);
    devices_[device] = found;
  }
  return found;
}

void enqueue(const DeviceModule& module, const StreamSize& size, const void* const* inputs,
             void* const* outputs, void* workspace, cudaStream_t stream) {
  module.enqueue(size, inputs, outputs, workspace, stream);
}

}  // namespace elan::plugins
