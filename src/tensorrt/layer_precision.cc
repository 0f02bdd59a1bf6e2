#include "tensorrt/layer_precision.h"

#include <string>

namespace elan::tensorrt {
namespace {

// "body.3.gmsa.0" of "body.3.gmsa.0.av.window4"; empty outside the modules.
std::string_view module_of(std::string_view layer) {
  if (!layer.starts_with("body.")) return {};
  std::size_t at = 0;
  for (int dots = 0; dots < 4; ++dots) {
    at = layer.find('.', at);
    if (at == std::string_view::npos) return {};
    ++at;
  }
  return layer.substr(0, at - 1);
}

// The operation that a layer belongs to; empty for those that are FP32 always.
std::string operation_of(std::string_view layer) {
  const std::string_view module = module_of(layer);
  if (module.empty()) return {};
  const std::string_view rest = layer.substr(module.size() + 1);
  for (const std::string_view name :
       {"conv0", "conv1", "project_inp.q", "project_inp", "av", "project_out"}) {
    if (!rest.starts_with(name)) continue;
    if (rest.size() > name.size() && rest[name.size()] != '.') continue;
    const std::string operation = std::string(module) + "." + std::string(name);
    return name == "project_inp" ? operation + ".v" : operation;
  }
  return {};
}

}  // namespace

std::optional<Precision> layer_precision(std::string_view layer, const PrecisionPlan& plan) {
  const std::string operation = operation_of(layer);
  if (operation.empty()) return Precision::fp32;
  switch (plan.at(operation)) {
    case Precision::fp16:
      return Precision::fp16;
    case Precision::int8:
    case Precision::fp8:
      return std::nullopt;
    default:
      return Precision::fp32;
  }
}

}  // namespace elan::tensorrt
