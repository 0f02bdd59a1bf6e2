// What the commands that measure a model (bench, eval) share: one engine from the common options,
// and how to say what ran.
#pragma once

#include <CLI/App.hpp>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>

#include "arguments.h"
#include "elan/engine.h"

namespace elan::cli {

struct LoadedEngine {
  std::filesystem::path path;  // of the weights
  Engine engine;
};

// The one model that -m and -s mean (the default scale is 4) on the device asked for; prints the
// engine's warnings. Throws as choose_model, load_model and Engine do.
LoadedEngine load_engine(const CLI::App& app, const EngineArguments& arguments);

// "fp32" and so on; "mixed" for a plan.
std::string precision_of(const Engine& engine);

// {"model", "variant", "scale", "fingerprint", "quantization" (how the file says that it came by
// its 8 bits, null: it does not), "device", "description", "precision", "plan" (null: none),
// "version", "commit"}: what a measurement was taken on.
nlohmann::json describe_run(const LoadedEngine& loaded);

// "elan_light_x4 on cpu (avx512, 2 threads), fp32"
std::string title_of(const LoadedEngine& loaded);

}  // namespace elan::cli
