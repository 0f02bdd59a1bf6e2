// Writes a network as an ONNX graph, straight from its weight table. What the graph looks like,
// its inputs, outputs and metadata: docs/onnx.md.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "core/picture_size.h"
#include "elan/model.h"
#include "elan/precision.h"

namespace elan {

constexpr const char* kPluginDomain = "elan_sr";  // of plugin nodes
constexpr const char* kPluginVersion = "1";       // of their fields and tensors

struct OnnxOptions {
  std::optional<PictureSize> size = std::nullopt;  // none: batch, height and width are dynamic
  bool padding = true;  // inside the graph; false: sides are multiples of 16, the caller pads
  // fp32; fp16: what LFE and GMSA compute, on a residual stream in FP32, with FP32 logits. Input
  // and output stay FP32.
  Precision precision = Precision::fp32;
  bool plugins = false;  // one ElanLFE or ElanGMSA node for each module; docs/onnx.md
};

// The serialised ModelProto. Throws Error: usage (a precision that cannot be exported, a size below
// 1 or, without padding, one that is not a multiple of 16), model (a weight beyond FP16's range, a
// network that the plugins cannot compute).
std::string onnx_model(const Model& model, const OnnxOptions& options = {});

// The same into a file, which appears only when it is complete. Also throws Error (input) when it
// cannot be written.
void export_onnx(const Model& model, const OnnxOptions& options, const std::filesystem::path& path);

}  // namespace elan
