#include "engine/devices.h"

#include "core/thread_pool.h"
#include "model/network.h"

namespace elan {
namespace {

Device open_cpu(const Model& model, const EngineOptions& options) {
  Device device;
  device.name = "cpu";
  device.backends.push_back(make_cpu_backend(model.shared_network(),
                                             options.precision.value_or(Precision::fp32),
                                             std::make_shared<ThreadPool>(options.threads)));
  return device;
}

Device open_reference(const Model& model, const EngineOptions& options) {
  Device device;
  device.name = "reference";
  device.backends.push_back(
      make_reference_backend(model.shared_network(), options.precision.value_or(Precision::fp32)));
  return device;
}

}  // namespace

Device open_device(const Model& model, const EngineOptions& options) {
  if (options.device == "reference") return open_reference(model, options);
  if (options.device == "cpu") return open_cpu(model, options);
  if (options.device == "auto") {
    if (model.network().one_hot_shifts()) return open_cpu(model, options);
    Device device = open_reference(model, options);
    device.warnings.emplace_back(
        "the shift masks of this model are not one-hot: running on the reference, which is slow");
    return device;
  }
  if (options.device.starts_with("cuda")) {
    throw Error(ErrorKind::device, "device: expected cuda in this build, found a build without it");
  }
  throw Error(ErrorKind::usage,
              "device: expected auto, cpu, reference or cuda[:N,...], found " + options.device);
}

}  // namespace elan
