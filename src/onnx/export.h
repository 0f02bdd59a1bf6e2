// Writes a network as an ONNX graph, straight from its weight table. What the graph looks like,
// its inputs, outputs and metadata: docs/onnx.md.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "core/picture_size.h"
#include "elan/model.h"
#include "model/plan.h"

namespace elan {

constexpr const char* kPluginDomain = "elan_sr";  // of plugin nodes
constexpr const char* kPluginVersion = "4";       // of their fields and tensors

struct OnnxOptions {
  std::optional<PictureSize> size = std::nullopt;  // none: batch, height and width are dynamic
  bool padding = true;  // inside the graph; false: sides are multiples of 16, the caller pads
  // What the matrices of LFE and GMSA and the product with v are computed in; residual stream,
  // head, tail, logits, softmax, input and output are FP32 whatever is asked. int8 and fp8: those
  // matrices that have an 8-bit form in the model.
  PrecisionPlan precision = Precision::fp32;
  bool plugins = false;  // one ElanLFE or ElanGMSA node for each module; docs/onnx.md
};

// What a model is exported in unless something else is asked for: int8 if it is in 8 bits.
Precision natural_precision(const Model& model);

// The serialised ModelProto. Throws Error: usage (a precision that cannot be exported, 8 bits of a
// model without any, a size below 1 or, without padding, one that is not a multiple of 16), model
// (a plan for another network, a weight beyond FP16's range, a network that the plugins cannot
// compute).
std::string onnx_model(const Model& model, const OnnxOptions& options = {});

// The same into a file, which appears only when it is complete. Also throws Error (input) when it
// cannot be written.
void export_onnx(const Model& model, const OnnxOptions& options, const std::filesystem::path& path);

}  // namespace elan
