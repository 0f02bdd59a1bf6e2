// The nodes of an export with plugins: two for each pair of modules, cut where the fused kernels
// begin and end, with their weights as tensor attributes, since those are what an ONNX parser hands
// to a plugin's creator. Fields, tensors and their meaning: docs/onnx.md.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "elan/precision.h"
#include "model/network.h"
#include "onnx/export.h"
#include "onnx/graph.h"

namespace elan {

// What the nodes of one ELAB compute with; as the CUDA backend's uniform plan has it.
struct PluginBlock {
  Precision precision = Precision::fp32;  // fp16 for int8 where no matrix is in 8 bits
  bool half_stream = false;
  bool int8_block = false;  // all matrices are in 8 bits, for kernels that want that
};

// What every plugin node says beside its weights.
struct PluginContext {
  std::string fingerprint;  // of the network
  Dims stream;              // the channel at each place of a stream's pixel; -1: a zero
  std::vector<PluginBlock> blocks;

  // All blocks or none.
  [[nodiscard]] bool half_stream() const { return blocks.front().half_stream; }
};

// Throws Error (model) for a network whose modules the plugins cannot compute.
void check_plugins(const Network& net);

// Of a network that check_plugins() accepts.
PluginContext plugin_context(const Network& net, Precision precision);

// One pair. The LFE node gives y = x + LFE(x), named `lfe_stage`, and from it `lfe_stage`.v and,
// for the ELAB's first pair, `lfe_stage`.q; the GMSA node gives y + GMSA(y), named `gmsa_stage`.
struct PluginPair {
  std::string lfe_stage, gmsa_stage;
  std::string x;  // input, a stream
  std::string q;  // of the ELAB's first pair
  Dims windows;
  bool shifted = false;
  PluginBlock block;
  std::optional<QuantizedAttention> attention;  // with the scales of q of the ELAB's first pair
};

// Returns the GMSA's output.
std::string add_plugin_pair(OnnxGraph& graph, const Lfe& lfe, const Gmsa& gmsa,
                            const PluginPair& pair, const PluginContext& context);

}  // namespace elan
