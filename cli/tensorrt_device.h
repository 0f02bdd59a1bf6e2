// The device "tensorrt", which lies beside the engine library: that one needs neither ONNX nor
// TensorRT's headers.
#pragma once

#include <string>

#include "elan/engine.h"
#include "tensorrt/tensorrt_backend.h"
#include "terminal.h"

namespace elan::cli {

// Engine(model, options), and for the devices tensorrt, tensorrt:N and tensorrt:FILE.plan one on
// TensorRT; an engine that has to be built first shows how that goes. Throws as Engine does.
Engine make_engine(Model model, const EngineOptions& options);

// Shows a build's phases on a line of the terminal; nothing elsewhere. The line is gone when the
// object is.
class BuildDisplay {
 public:
  // Progress and warnings to this display; it must outlive the context.
  [[nodiscard]] tensorrt::BuildContext context();

 private:
  void show(const std::string& phase, int done, int of);

  StatusLine line_;
};

}  // namespace elan::cli
