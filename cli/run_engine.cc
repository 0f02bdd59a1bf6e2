#include "run_engine.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "elan/version.h"
#include "models.h"
#include "tensorrt_device.h"
#include "terminal.h"

namespace elan::cli {

LoadedEngine load_engine(const CLI::App& app, const EngineArguments& arguments) {
  const EngineOptions options = engine_options(app, arguments);
  const ModelChoice choice = choose_model(arguments.model, arguments.scale);
  LoadedEngine loaded{choice.one(), make_engine(choice.load(), options)};
  for (const std::string& warning : loaded.engine.warnings()) print_warning("", warning);
  return loaded;
}

std::string precision_of(const Engine& engine) {
  return engine.precision_plan().empty() ? std::string(to_string(engine.precision())) : "mixed";
}

nlohmann::json describe_run(const LoadedEngine& loaded) {
  const Model& model = loaded.engine.model();
  const std::string& plan = loaded.engine.precision_plan();
  const auto quantization = model.metadata().find("quantization");
  return {{"model", valid_utf8(loaded.path.stem().native())},
          {"variant", model.architecture().variant()},
          {"scale", model.scale()},
          {"fingerprint", model.fingerprint()},
          {"quantization", quantization == model.metadata().end()
                               ? nlohmann::json()
                               : nlohmann::json(valid_utf8(quantization->second))},
          {"device", loaded.engine.device()},
          {"description", loaded.engine.description()},
          {"precision", precision_of(loaded.engine)},
          {"plan", plan.empty() ? nlohmann::json() : nlohmann::json::parse(plan)},
          {"version", version()},
          {"commit", commit()}};
}

std::string title_of(const LoadedEngine& loaded) {
  return printable(loaded.path.stem().native(), true) + " on " + loaded.engine.description() +
         ", " + precision_of(loaded.engine);
}

}  // namespace elan::cli
