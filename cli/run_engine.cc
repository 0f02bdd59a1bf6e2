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
  std::filesystem::path path = choice.file;
  if (path.empty()) {
    const auto preferred = choice.by_scale.find(choice.scale != 0 ? choice.scale : 4);
    path =
        preferred != choice.by_scale.end() ? preferred->second : choice.by_scale.rbegin()->second;
  }
  Model model = Model::load(path);
  if (choice.scale != 0 && model.scale() != choice.scale) {
    throw Error(ErrorKind::usage, "--scale: expected " + std::to_string(model.scale()) +
                                      ", the scale of " + path.string() + "; found " +
                                      std::to_string(choice.scale));
  }
  LoadedEngine loaded{std::move(path), make_engine(std::move(model), options)};
  for (const std::string& warning : loaded.engine.warnings()) print_warning("", warning);
  return loaded;
}

nlohmann::json describe_run(const LoadedEngine& loaded) {
  const Model& model = loaded.engine.model();
  return {{"model", valid_utf8(loaded.path.stem().native())},
          {"variant", model.architecture().variant()},
          {"scale", model.scale()},
          {"fingerprint", model.fingerprint()},
          {"device", loaded.engine.device()},
          {"description", loaded.engine.description()},
          {"precision", to_string(loaded.engine.precision())},
          {"version", version()},
          {"commit", commit()}};
}

std::string title_of(const LoadedEngine& loaded) {
  return printable(loaded.path.stem().native(), true) + " on " + loaded.engine.description() +
         ", " + std::string(to_string(loaded.engine.precision()));
}

}  // namespace elan::cli
