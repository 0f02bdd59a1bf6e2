// The network on an NVIDIA GPU by way of TensorRT, as a backend and as a builder of engines. In a
// build without TensorRT's headers or without CUDA everything here throws Error (device) that says
// so.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "backend.h"
#include "elan/model.h"
#include "tensorrt/engine_key.h"

namespace elan::tensorrt {

// How a build goes, for a display; `of` is 0 where it is not known.
using BuildProgress = std::function<void(const std::string& phase, int done, int of)>;
using Warning = std::function<void(const std::string& text)>;

struct BuildContext {
  BuildProgress progress = {};
  Warning warning = {};
  std::stop_token stop = {};
  bool again = false;  // even if the cache has it
};

struct Built {
  std::filesystem::path path;
  std::uintmax_t bytes = 0;
  double seconds = 0;  // 0: it was there
  std::string description;
};

// Builds an engine on device `device_index` into `path`, or, where that is empty, into the cache,
// unless it is there. A bad file in the cache is built again, with a warning. Throws Error: usage,
// model, device, input, cancelled.
Built build_engine(const Model& model, const BuildOptions& options,
                   const std::filesystem::path& path, int device_index,
                   const BuildContext& context);

// Runs an engine. Empty `plan`: the cache's, built first if it is not there, for `options`.
struct BackendOptions {
  std::filesystem::path plan = {};
  BuildOptions options = {};
  int device_index = 0;
};
std::unique_ptr<Backend> make_tensorrt_backend(const Model& model, const BackendOptions& options,
                                               const BuildContext& context);

}  // namespace elan::tensorrt
