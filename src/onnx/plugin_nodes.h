// The nodes of an export with plugins: one for each module, carrying its weights as tensor
// attributes, since those are what an ONNX parser hands to a plugin's creator. Fields and their
// meaning: docs/onnx.md.
#pragma once

#include <string>
#include <vector>

#include "elan/precision.h"
#include "model/network.h"
#include "onnx/graph.h"

namespace elan {

constexpr const char* kPluginDomain = "elan_sr";
constexpr const char* kPluginVersion = "1";

// What every plugin node says beside its weights.
struct PluginContext {
  Precision precision = Precision::fp32;
  std::string fingerprint;  // of the network
};

// Adds y = x + LFE(x); returns y, named `stage`.
std::string add_lfe_plugin(OnnxGraph& graph, const Lfe& lfe, const std::string& x,
                           const std::string& stage, const PluginContext& context);

struct GmsaPlugin {
  std::string stage;     // name of the output
  std::string x;         // input
  std::string q;         // of the ELAB's first pair: its input for a later pair,
  bool gives_q = false;  // or its second output, named `q`
  std::vector<std::int64_t> windows;
  bool shifted = false;
};

// Adds y = x + GMSA(x); returns y.
std::string add_gmsa_plugin(OnnxGraph& graph, const Gmsa& gmsa, const GmsaPlugin& node,
                            const PluginContext& context);

}  // namespace elan
