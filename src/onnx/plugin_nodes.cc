#include "onnx/plugin_nodes.h"

namespace elan {
namespace {

void add_weights(Attributes& attributes, const std::string& name, const Dims& dims,
                 const std::vector<float>& values) {
  attributes.emplace_back(name, make_tensor(name, dims, values, ElementType::f32));
}

void add_shift_conv(Attributes& attributes, const std::string& name, const ShiftConv& conv) {
  add_weights(attributes, name + "_mask", {conv.in, 1, 3, 3}, conv.mask);
  add_weights(attributes, name + "_weight", {conv.out, conv.in}, conv.weight);
  add_weights(attributes, name + "_bias", {conv.out}, conv.bias);
}

void add_linear(Attributes& attributes, const std::string& name, const Linear& linear) {
  add_weights(attributes, name + "_weight", {linear.out, linear.in}, linear.weight);
  add_weights(attributes, name + "_bias", {linear.out}, linear.bias);
}

Attributes common(const std::string& stage, const PluginContext& context) {
  return {{"plugin_version", std::string(kPluginVersion)},
          {"plugin_namespace", std::string(kPluginDomain)},
          {"stage", stage},
          {"fingerprint", context.fingerprint},
          {"precision", std::string(to_string(context.precision))}};
}

}  // namespace

std::string add_lfe_plugin(OnnxGraph& graph, const Lfe& lfe, const std::string& x,
                           const std::string& stage, const PluginContext& context) {
  Attributes attributes = common(stage, context);
  attributes.emplace_back("channels", lfe.conv0.in);
  attributes.emplace_back("hidden", lfe.conv0.out);
  add_shift_conv(attributes, "conv0", lfe.conv0);
  add_shift_conv(attributes, "conv1", lfe.conv1);
  graph.node("ElanLFE", {x}, {stage}, attributes, kPluginDomain);
  return stage;
}

std::string add_gmsa_plugin(OnnxGraph& graph, const Gmsa& gmsa, const GmsaPlugin& node,
                            const PluginContext& context) {
  Attributes attributes = common(node.stage, context);
  attributes.emplace_back("channels", gmsa.project_out.in);
  attributes.emplace_back("windows", node.windows);
  attributes.emplace_back("shifted", node.shifted ? 1 : 0);
  attributes.emplace_back("computes_attention", gmsa.computes_attention ? 1 : 0);
  attributes.emplace_back("gives_q", node.gives_q ? 1 : 0);
  add_linear(attributes, "project_inp", gmsa.folded_project_inp());
  add_linear(attributes, "project_out", gmsa.project_out);
  std::vector<std::string> inputs{node.x};
  if (!gmsa.computes_attention) inputs.push_back(node.q);
  std::vector<std::string> outputs{node.stage};
  if (node.gives_q) outputs.push_back(node.q);
  graph.node("ElanGMSA", inputs, outputs, attributes, kPluginDomain);
  return node.stage;
}

}  // namespace elan
