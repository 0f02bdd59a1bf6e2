#include "engine/devices.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "core/thread_pool.h"
#include "model/network.h"
#include "model/plan.h"
#if ELANSR_HAVE_CUDA
#include "cuda/cuda_backend.h"
#endif

namespace elan {
namespace {

// CPU and reference compute 8-bit models as such unless told otherwise.
Precision int8_or(Precision fallback, const Model& model) {
  return model.network().quantized() ? Precision::int8 : fallback;
}

// What the options ask for; `fallback` is the device's own default.
PrecisionPlan plan_of(const Model& model, const EngineOptions& options, Precision fallback) {
  if (options.precision == Precision::int8 && !model.network().quantized()) {
    throw Error(ErrorKind::usage,
                "precision int8: expected a model with 8-bit scales (elan-sr quantize makes one), "
                "found one without");
  }
  if (options.precision_plan.empty()) return options.precision.value_or(fallback);
  if (options.precision) {
    throw Error(ErrorKind::usage, "precision and precision plan contradict each other: give one");
  }
  PrecisionPlan plan = PrecisionPlan::read(options.precision_plan, fallback);
  plan.check(model.architecture());
  return plan;
}

Device make_device(const std::string& name, const PrecisionPlan& plan) {
  Device device;
  device.name = name;
  if (!plan.uniform()) device.precision_plan = plan.to_json();
  return device;
}

Device open_cpu(const Model& model, const EngineOptions& options) {
  const PrecisionPlan plan = plan_of(model, options, int8_or(Precision::fp32, model));
  Device device = make_device("cpu", plan);
  device.backends.push_back(make_cpu_backend(model.shared_network(), plan,
                                             std::make_shared<ThreadPool>(options.threads)));
  return device;
}

Device open_reference(const Model& model, const EngineOptions& options) {
  const PrecisionPlan plan = plan_of(model, options, int8_or(Precision::fp32, model));
  Device device = make_device("reference", plan);
  device.backends.push_back(make_reference_backend(model.shared_network(), plan));
  return device;
}

// For those who named no device: what the CPU backend refuses runs on the reference.
Device open_slower(const Model& model, const EngineOptions& options) {
  try {
    return open_cpu(model, options);
  } catch (const Error& refusal) {
    if (refusal.kind() != ErrorKind::model) throw;
    Device device = open_reference(model, options);
    device.warnings.emplace_back(std::string(refusal.what()) +
                                 "; running on the reference, which is slow");
    return device;
  }
}

#if ELANSR_HAVE_CUDA
Device open_cuda(const Model& model, const EngineOptions& options) {
  const std::vector<int> indices = cuda_indices(options.device);
  const PrecisionPlan plan =
      plan_of(model, options, default_cuda_precision(model.network(), indices.front()));
  Device device = make_device("cuda", plan);
  for (const int index : indices) {
    device.backends.push_back(make_cuda_backend(model.shared_network(), plan, index));
  }
  return device;
}
#endif

bool is_cuda(const std::string& name) {
  return name == "cuda" || name.starts_with("cuda:");
}

}  // namespace

std::vector<int> cuda_indices(const std::string& device) {
  if (device == "cuda") return {0};
  std::vector<int> indices;
  const char *at = device.data() + std::string_view("cuda:").size(), *const end = device.data() +
                                                                                  device.size();
  while (true) {
    int index = 0;
    const auto [next, error] = std::from_chars(at, end, index);
    if (error != std::errc{} || index < 0 || (next != end && *next != ',')) {
      throw Error(ErrorKind::usage, "device: expected cuda[:N,...], found " + device);
    }
    if (std::find(indices.begin(), indices.end(), index) != indices.end()) {
      throw Error(ErrorKind::usage, "device: expected each GPU once, found " +
                                        std::to_string(index) + " twice in " + device);
    }
    indices.push_back(index);
    if (next == end) return indices;
    at = next + 1;
  }
}

Device open_device(const Model& model, const EngineOptions& options) {
  if (options.device == "reference") return open_reference(model, options);
  if (options.device == "cpu") return open_cpu(model, options);
  if (is_cuda(options.device)) {
#if ELANSR_HAVE_CUDA
    return open_cuda(model, options);
#else
    cuda_indices(options.device);  // what makes no sense is told first
    throw Error(ErrorKind::device,
                options.device + ": expected a build with CUDA, found one without");
#endif
  }
#if ELANSR_HAVE_CUDA
  if (options.device == "auto" && cuda_device_count() > 0) {
    try {
      EngineOptions named = options;
      named.device = "cuda";
      return open_cuda(model, named);
    } catch (const Error& error) {
      Device device = open_slower(model, options);
      device.warnings.emplace_back(std::string("not using the GPU: ") + error.what());
      return device;
    }
  }
#endif
  if (options.device == "auto") return open_slower(model, options);
  throw Error(ErrorKind::usage,
              "device: expected auto, cpu, reference or cuda[:N,...], found " + options.device);
}

}  // namespace elan
