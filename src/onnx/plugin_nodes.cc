#include "onnx/plugin_nodes.h"

#include "cuda/pack.h"

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

Attributes common(const std::string& stage, int channels, const PluginContext& context) {
  return {{"plugin_version", std::string(kPluginVersion)},
          {"plugin_namespace", std::string(kPluginDomain)},
          {"stage", stage},
          {"fingerprint", context.fingerprint},
          {"precision", std::string(to_string(context.precision))},
          {"channels", channels},
          {"stream", context.stream}};
}

}  // namespace

void check_plugins(const Network& net) {
  cuda::check_network(net);
}

PluginContext plugin_context(const Network& net, Precision precision) {
  const std::vector<int> order = cuda::stream_order(net);
  return {precision, net.fingerprint, {order.begin(), order.end()}};
}

std::string add_plugin_pair(OnnxGraph& graph, const Lfe& lfe, const Gmsa& gmsa,
                            const PluginPair& pair, const PluginContext& context) {
  const int channels = lfe.conv0.in;
  Attributes attributes = common(pair.lfe_stage, channels, context);
  attributes.emplace_back("hidden", lfe.conv0.out);
  attributes.emplace_back("gives_q", gmsa.computes_attention ? 1 : 0);
  add_shift_conv(attributes, "conv0", lfe.conv0);
  add_shift_conv(attributes, "conv1", lfe.conv1);
  add_linear(attributes, "project_inp", gmsa.folded_project_inp());
  const std::string v = pair.lfe_stage + ".v";
  std::vector<std::string> outputs{pair.lfe_stage, v};
  if (gmsa.computes_attention) outputs.push_back(pair.q);
  graph.node("ElanLFE", {pair.x}, outputs, attributes, kPluginDomain);

  attributes = common(pair.gmsa_stage, channels, context);
  attributes.emplace_back("windows", pair.windows);
  attributes.emplace_back("shifted", pair.shifted ? 1 : 0);
  add_linear(attributes, "project_out", gmsa.project_out);
  graph.node("ElanGMSA", {pair.lfe_stage, v, pair.q}, {pair.gmsa_stage}, attributes, kPluginDomain);
  return pair.gmsa_stage;
}

}  // namespace elan
