#include "tensorrt_device.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "elan/error.h"
#include "model/network.h"

namespace elan::cli {
namespace {

constexpr std::string_view kDevice = "tensorrt";

tensorrt::BackendOptions backend_options(const EngineOptions& options, bool quantized) {
  tensorrt::BackendOptions result;
  if (quantized) result.options.precision = Precision::int8;
  if (options.precision) result.options.precision = *options.precision;
  const std::string rest =
      options.device.substr(std::min(kDevice.size() + 1, options.device.size()));
  if (rest.ends_with(".plan")) {
    if (options.precision || !options.precision_plan.empty()) {
      throw Error(ErrorKind::usage, std::string(options.precision ? "--precision" : "--plan") +
                                        ": an engine's plan has its own; give it to elan-sr build");
    }
    result.plan = rest;
    return result;
  }
  if (!options.precision_plan.empty()) {
    result.options.precision = PrecisionPlan::read(options.precision_plan, Precision::fp16);
  }
  if (rest.empty()) return result;
  const auto [end, error] =
      std::from_chars(rest.data(), rest.data() + rest.size(), result.device_index);
  if (error != std::errc{} || end != rest.data() + rest.size()) {
    throw Error(ErrorKind::usage, "--device: expected one GPU for tensorrt, found " + rest);
  }
  return result;
}

}  // namespace

Engine make_engine(Model model, const EngineOptions& options) {
  if (!options.device.starts_with(kDevice)) return Engine(std::move(model), options);
  BuildDisplay display;
  auto backend = tensorrt::make_tensorrt_backend(
      model, backend_options(options, model.network().quantized()), display.context());
  return Engine(std::move(model), options, std::move(backend));
}

tensorrt::BuildContext BuildDisplay::context() {
  tensorrt::BuildContext context;
  context.progress = [this](const std::string& phase, int done, int of) { show(phase, done, of); };
  context.warning = [this](const std::string& text) {
    line_.clear();
    print_warning("", text);
  };
  return context;
}

void BuildDisplay::show(const std::string& phase, int done, int of) {
  std::string text = "building the engine: " + printable(phase, true);
  if (of > 0 && done <= of) text += " " + std::to_string(done) + "/" + std::to_string(of);
  line_.show(text);
}

}  // namespace elan::cli
