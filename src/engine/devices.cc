#include "engine/devices.h"

#include <charconv>

#include "core/thread_pool.h"
#include "model/network.h"
#if ELANSR_HAVE_CUDA
#include "cuda/cuda_backend.h"
#endif

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
// "cuda" is "cuda:0"; "cuda:0,2" is one backend on each.
Device open_cuda(const Model& model, const EngineOptions& options) {
  Device device;
  device.name = "cuda";
  const std::string list = options.device == "cuda" ? "0" : options.device.substr(5);
  const char *at = list.data(), *const end = list.data() + list.size();
  while (true) {
    int index = 0;
    const auto [next, error] = std::from_chars(at, end, index);
    if (error != std::errc{} || (next != end && *next != ',')) {
      throw Error(ErrorKind::usage, "device: expected cuda[:N,...], found " + options.device);
    }
    device.backends.push_back(make_cuda_backend(
        model.shared_network(), options.precision.value_or(Precision::fp16), index));
    if (next == end) return device;
    at = next + 1;
  }
}

bool is_cuda(const std::string& name) {
  return name == "cuda" || name.starts_with("cuda:");
}
#endif

}  // namespace

Device open_device(const Model& model, const EngineOptions& options) {
  if (options.device == "reference") return open_reference(model, options);
  if (options.device == "cpu") return open_cpu(model, options);
#if ELANSR_HAVE_CUDA
  if (is_cuda(options.device)) return open_cuda(model, options);
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
  if (options.device.starts_with("cuda")) {
    throw Error(ErrorKind::device, "device: expected cuda in this build, found a build without it");
  }
  throw Error(ErrorKind::usage,
              "device: expected auto, cpu, reference or cuda[:N,...], found " + options.device);
}

}  // namespace elan
