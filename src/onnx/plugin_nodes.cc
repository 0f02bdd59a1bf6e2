#include "onnx/plugin_nodes.h"

#include <array>

#include "cuda/layout.h"
#include "cuda/pack.h"
#include "cuda/shape.h"

namespace elan {
namespace {

void add_weights(Attributes& attributes, const std::string& name, const Dims& dims,
                 const std::vector<float>& values) {
  attributes.emplace_back(name, make_tensor(name, dims, values, ElementType::f32));
}

// Floats, or integers with their scales where there are any.
void add_linear(Attributes& attributes, const std::string& name, const Linear& linear,
                const std::optional<QuantizedMatrix>& int8) {
  const std::string weight = name + "_weight";
  const Dims dims{linear.out, linear.in};
  if (int8) {
    attributes.emplace_back(weight, make_tensor(weight, dims, int8->weight));
    add_weights(attributes, weight + "_scale", {linear.out}, int8->weight_scale);
    add_weights(attributes, name + "_input_scale", {1}, {int8->input_scale});
  } else {
    add_weights(attributes, weight, dims, linear.weight);
  }
  add_weights(attributes, name + "_bias", {linear.out}, linear.bias);
}

void add_shift_conv(Attributes& attributes, const std::string& name, const ShiftConv& conv,
                    bool int8) {
  add_weights(attributes, name + "_mask", {conv.in, 1, 3, 3}, conv.mask);
  add_linear(attributes, name, {conv.in, conv.out, conv.weight, conv.bias},
             int8 ? conv.int8 : std::nullopt);
}

Attributes common(const std::string& stage, int channels, const PluginPair& pair,
                  const PluginContext& context) {
  const PluginBlock& block = pair.block;
  Attributes attributes{{"plugin_version", std::string(kPluginVersion)},
                        {"plugin_namespace", std::string(kPluginDomain)},
                        {"stage", stage},
                        {"fingerprint", context.fingerprint},
                        {"precision", std::string(to_string(block.precision))},
                        {"half_stream", block.half_stream ? 1 : 0},
                        {"int8_block", block.int8_block ? 1 : 0},
                        {"channels", channels},
                        {"stream", context.stream}};
  if (block.int8_block && pair.attention) {
    const auto add = [&](const char* name, const std::array<float, 3>& scales) {
      add_weights(attributes, name, {3}, {scales.begin(), scales.end()});
    };
    add("q_scale", pair.attention->q_scale);
    add("v_scale", pair.attention->v_scale);
  }
  return attributes;
}

}  // namespace

void check_plugins(const Network& net) {
  cuda::check_network(net);
}

PluginContext plugin_context(const Network& net, Precision precision) {
  const std::vector<int> order = cuda::stream_order(net);
  PluginContext context{net.fingerprint, {order.begin(), order.end()}, {}};
  const bool int8 = precision == Precision::int8;
  cuda::DeviceWishes wishes;
  wishes.stream = int8 ? cuda::StreamFormat::fp16 : cuda::StreamFormat::fp32;
  wishes.hopper = net.arch.channels == cuda::kHopperLayout.channels;
  for (const cuda::PairKind& kind : cuda::plan_shape(net, precision, wishes).body) {
    const bool exact = int8 && kind.operand != cuda::Operand::int8;
    context.blocks.push_back({exact ? Precision::fp16 : precision,
                              kind.stream == cuda::StreamFormat::fp16,
                              cuda::uses_8_bit_kernels(kind)});
  }
  return context;
}

std::string add_plugin_pair(OnnxGraph& graph, const Lfe& lfe, const Gmsa& gmsa,
                            const PluginPair& pair, const PluginContext& context) {
  const int channels = lfe.conv0.in;
  const bool int8 = pair.block.precision == Precision::int8;
  Attributes attributes = common(pair.lfe_stage, channels, pair, context);
  attributes.emplace_back("hidden", lfe.conv0.out);
  attributes.emplace_back("gives_q", gmsa.computes_attention ? 1 : 0);
  add_shift_conv(attributes, "conv0", lfe.conv0, int8);
  add_shift_conv(attributes, "conv1", lfe.conv1, int8);
  add_linear(attributes, "project_inp", gmsa.folded_project_inp(),
             int8 ? gmsa.int8_project_inp() : std::nullopt);
  const std::string v = pair.lfe_stage + ".v";
  std::vector<std::string> outputs{pair.lfe_stage, v};
  if (gmsa.computes_attention) outputs.push_back(pair.q);
  graph.node("ElanLFE", {pair.x}, outputs, attributes, kPluginDomain);

  attributes = common(pair.gmsa_stage, channels, pair, context);
  attributes.emplace_back("windows", pair.windows);
  attributes.emplace_back("shifted", pair.shifted ? 1 : 0);
  add_linear(attributes, "project_out", gmsa.project_out, int8 ? gmsa.int8_out : std::nullopt);
  graph.node("ElanGMSA", {pair.lfe_stage, v, pair.q}, {pair.gmsa_stage}, attributes, kPluginDomain);
  return pair.gmsa_stage;
}

}  // namespace elan
