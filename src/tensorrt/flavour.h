// What is done with TensorRT, whichever it is: build a plan from a graph, load a plan, run it. One
// implementation for each of TensorRT's interfaces, compiled from flavour.cc with that one's
// headers.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "tensorrt/engine_key.h"
#include "tensorrt/library.h"

namespace elan::tensorrt {

struct BuildInput {
  std::string onnx;  // serialised
  BuildOptions options;
  std::filesystem::path plugins;                   // the plugin library; empty: none
  std::vector<std::byte>* timing_cache = nullptr;  // read if not empty, and renewed; null: none
  // With options.calibration: what TensorRT's calibrator finds; used if not empty, otherwise found
  // on those pictures, at the profile's best size.
  std::vector<std::byte>* scales = nullptr;
  std::function<void(const std::string& phase, int done, int of)> progress;  // of 0: not known
  std::stop_token stop;
};

// A plan on the device, ready to run. For one thread at a time.
class RunningEngine {
 public:
  virtual ~RunningEngine() = default;
  [[nodiscard]] virtual std::size_t device_bytes() const = 0;  // working memory, beside the weights
  // Enqueues [batch, 3, height, width] -> [batch, 3, scale * height, scale * width], float 0..255.
  // Throws Error (device).
  virtual void enqueue(const float* input, float* output, int batch, int height, int width,
                       cudaStream_t stream) = 0;
};

class Flavour {
 public:
  virtual ~Flavour() = default;
  // Throws Error: device (what TensorRT reports), model (a graph that it refuses), cancelled.
  virtual std::vector<std::byte> build(const BuildInput& input) = 0;
  virtual std::unique_ptr<RunningEngine> load(std::span<const std::byte> plan,
                                              const std::filesystem::path& plugins) = 0;
};

// Of those compiled in, by FlavourName::name.
std::vector<std::string> compiled_flavours();

// Opens TensorRT: the newest that is compiled in and installed, or the one named. Needs a device
// for all but TensorRT-RTX's builder. Throws Error (device).
std::unique_ptr<Flavour> make_flavour(const Library& library);

}  // namespace elan::tensorrt
