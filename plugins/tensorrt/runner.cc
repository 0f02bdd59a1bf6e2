#include "runner.h"

#include <algorithm>
#include <utility>

#include "cuda/device.h"
#include "cuda/kernels/kernels.h"
#include "cuda/pack.h"
#include "cuda/plan.h"

namespace elan::plugins {

using namespace cuda;

namespace {

// What make_plan() must know of a network, of which this is a part; the tail is not run here, so it
// is the one that needs least.
NetworkShape shape_of(const Module& m, const DeviceInfo& device) {
  NetworkShape shape;
  shape.channels = m.channels;
  shape.scale = 2;
  shape.tail = Operand::fp16;
  switch (m.precision) {
    case Precision::fp16:
      shape.body = Operand::fp16;
      break;
    case Precision::bf16:
      shape.body = Operand::bf16;
      break;
    case Precision::tf32:
      shape.body = Operand::tf32;
      break;
    default:
      shape.body = Operand::fp32;
  }
  if (m.kind == Kind::lfe) {
    const int width = 8 * layout_of(m.channels).hidden_tiles;
    shape.hidden_groups = static_cast<int>(hidden_order(m.lfe.conv1.taps, width).taps.size());
  }
  // Both kinds or neither: what one leaves, the other reads.
  shape.hopper = m.channels == 180 && operand_bytes(shape.body) == 2 && device.major == 9 &&
                 device.minor == 0 && hopper_compiled();
  return shape;
}

}  // namespace

class DeviceModule {
 public:
  DeviceModule(const Module& m, int device)
      : device_(device), info_(open_device(device)), module_(m), shape_(shape_of(m, info_)) {
    prepare_kernels();
    if (shape_.hopper) {
      prepare_lfe_hopper();
      prepare_gmsa_hopper();
    }
    ELAN_CUDA(cudaGetLastError());
    const ModuleLayout layout{m.channels, shape_.body, shape_.hopper};
    if (m.kind == Kind::lfe) {
      const PackedModule<PackedLfe> packed = pack_lfe_alone(m.lfe, m.gmsa, m.stream, layout);
      lfe_ = packed.at;
      upload(packed.data);
    } else {
      const PackedModule<PackedOut> packed = pack_out_alone(m.gmsa.project_out, m.stream, layout);
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
               cudaStream_t stream) const {
    const Plan plan = make_plan(shape_, info_.limits, size.width, size.height, size.batch);
    if (module_.kind == Kind::lfe) {
      enqueue_lfe(plan, inputs, outputs, stream);
    } else {
      enqueue_gmsa(plan, inputs, outputs, stream);
    }
    ELAN_CUDA(cudaGetLastError());
  }

 private:
  void upload(const std::vector<std::byte>& data) {
    weights_.reserve(data.size());
    ELAN_CUDA(cudaMemcpy(weights_.data(), data.data(), data.size(), cudaMemcpyHostToDevice));
  }
  [[nodiscard]] const float* floats(std::size_t offset) const {
    return reinterpret_cast<const float*>(weights_.data() + offset);
  }
  [[nodiscard]] const char* bytes(std::size_t offset) const {
    return reinterpret_cast<const char*>(weights_.data() + offset);
  }

  void enqueue_lfe(const Plan& plan, const void* const* inputs, void* const* outputs,
                   cudaStream_t stream) const {
    LfeArgs a;
    a.x = inputs[0];
    a.y = outputs[0];
    a.v = static_cast<char*>(outputs[1]);
    a.q = lfe_.has_q ? static_cast<char*>(outputs[2]) : nullptr;
    a.weights = bytes(lfe_.weights);
    a.bias0 = floats(lfe_.bias0);
    a.bias1 = floats(lfe_.bias1);
    a.bias_project = floats(lfe_.bias_project);
    a.unscale0 = lfe_.unscale0;
    a.unscale1 = lfe_.unscale1;
    a.scale1 = 1 / lfe_.unscale1;
    a.unscale_project = lfe_.unscale_project;
    a.groups = lfe_.groups;
    std::copy(lfe_.hidden_y.begin(), lfe_.hidden_y.end(), a.hidden_y);
    std::copy(lfe_.hidden_x.begin(), lfe_.hidden_x.end(), a.hidden_x);
    std::copy(lfe_.chunk_y.begin(), lfe_.chunk_y.end(), a.chunk_y);
    std::copy(lfe_.chunk_x.begin(), lfe_.chunk_x.end(), a.chunk_x);
    a.has_q = lfe_.has_q;
    a.grid = plan.grid;
    a.shape = lfe_.has_q ? plan.lfe : plan.lfe_later;
    if (shape_.hopper) {
      launch_lfe_hopper(shape_.body, a, stream);
    } else {
      launch_lfe(shape_.channels, shape_.body, a, stream);
    }
  }

  void enqueue_gmsa(const Plan& plan, const void* const* inputs, void* const* outputs,
                    cudaStream_t stream) const {
    GmsaArgs a;
    a.y = inputs[0];
    a.v = static_cast<const char*>(inputs[1]);
    a.q = static_cast<const char*>(inputs[2]);
    a.x = outputs[0];
    a.weights = bytes(out_.weights);
    a.bias = floats(out_.bias);
    a.unscale = out_.unscale;
    a.shifted = module_.shifted;
    a.grid = plan.grid;
    a.shape = plan.gmsa;
    if (shape_.hopper) {
      launch_gmsa_hopper(shape_.body, a, stream);
    } else {
      launch_gmsa(shape_.channels, shape_.body, a, stream);
    }
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
             void* const* outputs, cudaStream_t stream) {
  module.enqueue(size, inputs, outputs, stream);
}

}  // namespace elan::plugins
