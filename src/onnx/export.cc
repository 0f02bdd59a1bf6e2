#include "onnx/export.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <span>

#include "core/whole_file.h"
#include "elan/error.h"
#include "elan/version.h"
#include "model/network.h"
#include "model/stages.h"
#include "onnx/graph.h"
#include "onnx/matrices.h"
#include "onnx/plugin_nodes.h"
#include "onnx/shapes.h"

namespace elan {
namespace {

// The oldest that have what a graph needs.
struct Versions {
  int opset = 17, ir = 8;
};
constexpr Versions kFp8Versions{19, 9};

bool asks_for(Precision precision, const Network& net, const OnnxOptions& options) {
  const std::vector<std::string> operations = operation_names(net.arch);
  return std::any_of(operations.begin(), operations.end(), [&](const std::string& operation) {
    return options.precision.at(operation) == precision;
  });
}

// Walks the network once.
class Exporter {
 public:
  Exporter(const Network& net, const OnnxOptions& options)
      : net_(net), options_(options), shape_(graph_, net.arch, options, "input") {
    if (options.plugins) plugins_ = plugin_context(net, options.precision.default_precision());
  }

  onnx::ModelProto run();

 private:
  std::string conv(const std::string& name, const std::string& x, const Conv3x3& conv);
  OnnxValue shift_conv(const std::string& name, const OnnxValue& x, const ShiftConv& conv);
  std::string mean();
  std::string add(const std::string& a, const OnnxValue& b, const std::string& stage);
  [[nodiscard]] ElementType in(const std::string& operation, bool has_int8 = false) const {
    return arithmetic(options_.precision.at(operation), has_int8);
  }

  std::string lfe(const Lfe& lfe, const std::string& x, const std::string& stage);
  OnnxValue project(const Gmsa& gmsa, const std::string& x, const std::string& stage);
  OnnxValue gather_groups(const OnnxValue& q, const OnnxValue& v, int channels,
                          const std::string& name);
  std::string gmsa(const Gmsa& gmsa, const std::string& x, const std::string& stage, bool shifted);
  std::string attention(const OnnxValue& q, ElementType type, const std::string& stage,
                        const std::string& suffix);
  std::string body(const std::string& head);
  std::string plain_phases(const std::string& centred);
  std::string body_of_plugins(const std::string& head);
  [[nodiscard]] Conv3x3 in_stream(const Conv3x3& conv, bool output) const;
  std::string plugin_phases(const std::string& centred);
  void declare_stage(const std::string& name, int channels, int scale = 1);
  void set_metadata(onnx::ModelProto& model) const;

  const Network& net_;
  const OnnxOptions& options_;
  OnnxGraph graph_;
  PictureShape shape_;
  std::optional<PluginContext> plugins_;  // set: the body is plugin nodes
  std::vector<OnnxValue> attention_;      // of the ELAB's first pair, by window
};

std::string Exporter::conv(const std::string& name, const std::string& x, const Conv3x3& conv) {
  const std::string w =
      graph_.tensor(name + ".weight", {conv.out, conv.in, 3, 3}, conv.weight, ElementType::f32);
  const std::string b = graph_.tensor(name + ".bias", {conv.out}, conv.bias, ElementType::f32);
  return graph_.node("Conv", {x, w, b}, name,
                     {{"kernel_shape", Dims{3, 3}}, {"pads", Dims{1, 1, 1, 1}}});
}

// The shift as a depthwise convolution with the mask itself: one node that every runtime reads,
// right for masks that are not one-hot, and the fastest on ONNX Runtime of the forms tried (slices
// and pads, a dense 3x3 convolution). In 8 bits what it moves is rounded after it, next to the
// matrix, where runtimes look for that.
OnnxValue Exporter::shift_conv(const std::string& name, const OnnxValue& x, const ShiftConv& conv) {
  const ElementType type = in(name, conv.int8.has_value());
  const OnnxValue from = cast(graph_, x, type == ElementType::f16 ? type : ElementType::f32);
  const std::string mask =
      graph_.shared_tensor(name + ".mask", {conv.in, 1, 3, 3}, conv.mask, from.type);
  const std::string shifted =
      graph_.node("Conv", {from.name, mask}, name + ".shift",
                  {{"group", conv.in}, {"kernel_shape", Dims{3, 3}}, {"pads", Dims{1, 1, 1, 1}}});
  return add_matrix(graph_, name, {shifted, from.type}, matrix_of(conv), type);
}

std::string Exporter::mean() {
  return graph_.shared_tensor("mean", {1, 3, 1, 1}, {net_.mean.begin(), net_.mean.end()},
                              ElementType::f32);
}

// The residual stream's a + b(a).
std::string Exporter::add(const std::string& a, const OnnxValue& b, const std::string& stage) {
  return graph_.node("Add", {a, cast(graph_, b, ElementType::f32).name}, stage);
}

std::string Exporter::lfe(const Lfe& lfe, const std::string& x, const std::string& stage) {
  const OnnxValue hidden = shift_conv(stage + ".conv0", {x}, lfe.conv0);
  const std::string relu = graph_.node("Relu", {hidden.name}, stage + ".conv0.relu");
  return add(x, shift_conv(stage + ".conv1", {relu, hidden.type}, lfe.conv1), stage);
}

// q and v of three groups each as one tensor: q0 v0 q1 v1 q2 v2, [N, C, H, W].
OnnxValue Exporter::gather_groups(const OnnxValue& q, const OnnxValue& v, int channels,
                                  const std::string& name) {
  const ElementType type = q.type == v.type ? q.type : ElementType::f32;
  std::vector<std::string> parts(6);
  for (const auto& [value, first] : {std::pair{&q, std::size_t{0}}, {&v, std::size_t{1}}}) {
    std::vector<std::string> groups;
    for (std::size_t group = 0; group < 3; ++group) {
      groups.push_back(value->name + ".group" + std::to_string(group));
      parts[2 * group + first] = groups.back();
    }
    graph_.node("Split",
                {cast(graph_, *value, type).name, graph_.ints(Dims(3, std::int64_t{channels / 3}))},
                groups, {{"axis", 1}});
  }
  return {graph_.node("Concat", parts, name, {{"axis", 1}}), type};
}

// Three groups of (q, v), or of v alone, [N, C, H, W].
OnnxValue Exporter::project(const Gmsa& gmsa, const std::string& x, const std::string& stage) {
  const std::string name = stage + ".project_inp";
  const ElementType v = in(name + ".v", gmsa.int8_v.has_value());
  const bool has_q = gmsa.computes_attention;
  const ElementType q = has_q ? in(name + ".q", gmsa.int8_q.has_value()) : v;
  if (q == v) return add_matrix(graph_, name, {x}, project_inp_of(gmsa), v);
  Gmsa folded = gmsa;
  folded.project_inp = gmsa.folded_project_inp();
  OnnxMatrix to_q = matrix_of(folded.projection_q(), gmsa.int8_q);
  OnnxMatrix to_v = matrix_of(folded.projection_v(), gmsa.int8_v);
  to_q.input_name = to_v.input_name = name + ".input";
  return gather_groups(add_matrix(graph_, name + ".q", {x}, to_q, q),
                       add_matrix(graph_, name + ".v", {x}, to_v, v), to_v.linear.out, name);
}

// softmax(q q^T), [windows, tokens, tokens].
std::string Exporter::attention(const OnnxValue& q, ElementType type, const std::string& stage,
                                const std::string& suffix) {
  const std::string wide = cast(graph_, q, ElementType::f32).name;
  const std::string turned = graph_.node("Transpose", {wide}, stage + ".q" + suffix + ".transposed",
                                         {{"perm", Dims{0, 2, 1}}});
  const std::string logits = graph_.node("MatMul", {wide, turned}, stage + ".qk" + suffix);
  const std::string a =
      graph_.node("Softmax", {logits}, stage + ".softmax" + suffix, {{"axis", -1}});
  return cast(graph_, {a}, type).name;
}

std::string Exporter::gmsa(const Gmsa& gmsa, const std::string& x, const std::string& stage,
                           bool shifted) {
  const OnnxValue projected = project(gmsa, x, stage);
  const int group = gmsa.project_inp.out / 3;  // q and v, or v alone
  const int values = gmsa.project_out.in / 3;
  const ElementType type = in(stage + ".av");
  const std::string last = graph_.node("Transpose", {projected.name}, stage + ".channels_last",
                                       {{"perm", Dims{0, 2, 3, 1}}});
  const std::string groups = stage + ".group";
  graph_.node("Split", {last, graph_.ints({group, group, group})},
              {groups + "0", groups + "1", groups + "2"}, {{"axis", 3}});
  if (gmsa.computes_attention) attention_.clear();

  std::vector<std::string> outputs;
  for (std::size_t k = 0; k < 3; ++k) {
    const int window = net_.arch.windows[k];
    const std::string suffix = ".window" + std::to_string(window);
    std::string t = groups + std::to_string(k);
    if (shifted) t = shape_.roll(t, window / 2, stage + ".roll" + suffix);
    t = shape_.to_windows(t, window, group, stage + ".windows" + suffix);
    if (gmsa.computes_attention) {
      const std::string q = stage + ".q" + suffix;
      graph_.node("Split", {t, graph_.ints({values, values})}, {q, stage + ".v" + suffix},
                  {{"axis", 2}});
      attention_.push_back({attention({q, projected.type}, type, stage, suffix), type});
      t = stage + ".v" + suffix;
    }
    const std::string v = cast(graph_, {t, projected.type}, type).name;
    const std::string a = cast(graph_, attention_[k], type).name;
    t = graph_.node("MatMul", {a, v}, stage + ".av" + suffix);
    t = shape_.from_windows(t, window, values, stage + ".picture" + suffix);
    if (shifted) t = shape_.roll(t, -window / 2, stage + ".roll_back" + suffix);
    outputs.push_back(t);
  }
  const std::string joined = graph_.node("Concat", outputs, stage + ".joined", {{"axis", 3}});
  const std::string first =
      graph_.node("Transpose", {joined}, stage + ".channels_first", {{"perm", Dims{0, 3, 1, 2}}});
  const std::string name = stage + ".project_out";
  return add(x,
             add_matrix(graph_, name, {first, type}, matrix_of(gmsa.project_out, gmsa.int8_out),
                        in(name, gmsa.int8_out.has_value())),
             stage);
}

std::string Exporter::body(const std::string& head) {
  std::string x = head;
  for (std::size_t i = 0; i < net_.body.size(); ++i) {
    const Elab& elab = net_.body[i];
    for (std::size_t j = 0; j < elab.lfe.size(); ++j) {
      const int block = static_cast<int>(i), pair = static_cast<int>(j);
      x = lfe(elab.lfe[j], x, lfe_stage(block, pair));
      x = gmsa(elab.gmsa[j], x, gmsa_stage(block, pair), elab.shifted);
    }
  }
  return x;
}

std::string Exporter::body_of_plugins(const std::string& head) {
  std::string x = head;
  for (std::size_t i = 0; i < net_.body.size(); ++i) {
    const Elab& elab = net_.body[i];
    const int block = static_cast<int>(i);
    for (std::size_t j = 0; j < elab.lfe.size(); ++j) {
      const int pair = static_cast<int>(j);
      std::optional<QuantizedAttention> attention = elab.gmsa[j].int8_attention;
      if (attention) attention->q_scale = elab.gmsa[0].int8_attention->q_scale;
      x = add_plugin_pair(graph_, elab.lfe[j], elab.gmsa[j],
                          {.lfe_stage = lfe_stage(block, pair),
                           .gmsa_stage = gmsa_stage(block, pair),
                           .x = x,
                           .q = lfe_stage(block, 0) + ".q",
                           .windows = {net_.arch.windows.begin(), net_.arch.windows.end()},
                           .shifted = elab.shifted,
                           .block = plugins_->blocks[i],
                           .attention = attention},
                          *plugins_);
    }
  }
  return x;
}

// The convolution with the channels of its result (or of its input) where a stream has them.
Conv3x3 Exporter::in_stream(const Conv3x3& conv, bool output) const {
  const Dims& order = plugins_->stream;
  const int places = static_cast<int>(order.size());
  Conv3x3 result{output ? conv.in : places, output ? places : conv.out, {}, {}};
  for (int o = 0; o < result.out; ++o) {
    const std::int64_t from_o = output ? order[o] : o;
    result.bias.push_back(from_o < 0 ? 0.F : conv.bias[from_o]);
    for (int i = 0; i < result.in; ++i) {
      const std::int64_t from_i = output ? i : order[i];
      for (int tap = 0; tap < 9; ++tap) {
        result.weight.push_back(
            from_o < 0 || from_i < 0 ? 0.F : conv.weight[(from_o * conv.in + from_i) * 9 + tap]);
      }
    }
  }
  return result;
}

// Head to the sum before the last convolution, between whose plugin nodes the stream stays as the
// kernels have it: [N, H, W, places], permuted by the weights of the convolutions around them.
std::string Exporter::plugin_phases(const std::string& centred) {
  const std::string places = conv("head.conv", centred, in_stream(net_.head, true));
  const std::string head = graph_.node("Transpose", {places}, "head", {{"perm", Dims{0, 2, 3, 1}}});
  const ElementType type = plugins_->half_stream() ? ElementType::f16 : ElementType::f32;
  const OnnxValue body{body_of_plugins(cast(graph_, {head}, type).name), type};
  const std::string sum =
      graph_.node("Add", {cast(graph_, body, ElementType::f32).name, head}, "body");
  const std::string first =
      graph_.node("Transpose", {sum}, "body.channels_first", {{"perm", Dims{0, 3, 1, 2}}});
  return conv("tail.conv", first, in_stream(net_.tail, false));
}

std::string Exporter::plain_phases(const std::string& centred) {
  const std::string head = conv("head", centred, net_.head);
  const std::string sum = graph_.node("Add", {body(head), head}, "body");
  return conv("tail.conv", sum, net_.tail);
}

void Exporter::declare_stage(const std::string& name, int channels, int scale) {
  std::vector<NamedDim> dims = shape_.padded_dims(channels, scale);
  if (plugins_ && name != "tail") {
    dims = {dims[0], dims[2], dims[3], static_cast<std::int64_t>(plugins_->stream.size())};
  }
  const bool half = plugins_ && plugins_->half_stream() && name.starts_with("body.");
  declare(*graph_.proto().add_value_info(), name, dims, half ? ElementType::f16 : ElementType::f32);
}

onnx::ModelProto Exporter::run() {
  const Architecture& arch = net_.arch;
  onnx::GraphProto& proto = graph_.proto();
  proto.set_name(arch.variant() + "_x" + std::to_string(arch.scale));
  declare(*proto.add_input(), "input", shape_.input_dims(), ElementType::f32);
  declare(*proto.add_output(), "output", shape_.output_dims(), ElementType::f32);

  const std::string centred =
      graph_.node("Sub", {shape_.pad("input"), mean()}, "input.without_mean");
  const std::string phases = plugins_ ? plugin_phases(centred) : plain_phases(centred);
  const std::string tail = graph_.node("DepthToSpace", {phases}, "tail",
                                       {{"blocksize", arch.scale}, {"mode", std::string("CRD")}});
  graph_.node("Add", {shape_.crop(tail, "tail.cropped"), mean()}, "output");

  for (const std::string& stage : stage_names(arch)) {
    if (stage == "tail") {
      declare_stage(stage, 3, arch.scale);
    } else if (stage != "output") {
      declare_stage(stage, arch.channels);
    }
  }
  onnx::ModelProto model;
  model.mutable_graph()->Swap(&proto);
  set_metadata(model);
  return model;
}

void Exporter::set_metadata(onnx::ModelProto& model) const {
  const Architecture& arch = net_.arch;
  const Versions versions = asks_for(Precision::fp8, net_, options_) ? kFp8Versions : Versions{};
  model.set_ir_version(versions.ir);
  onnx::OperatorSetIdProto& opset = *model.add_opset_import();
  opset.set_domain("");
  opset.set_version(versions.opset);
  if (options_.plugins) {
    onnx::OperatorSetIdProto& plugins = *model.add_opset_import();
    plugins.set_domain(kPluginDomain);
    plugins.set_version(1);
  }
  model.set_producer_name("elan-sr");
  model.set_producer_version(std::string(version()));
  model.set_doc_string("Enlarges an RGB picture " + std::to_string(arch.scale) +
                       " times. input and output: planar RGB, float, 0..255.");
  const auto put = [&](const std::string& key, const std::string& value) {
    onnx::StringStringEntryProto& entry = *model.add_metadata_props();
    entry.set_key(key);
    entry.set_value(value);
  };
  std::string windows;
  for (const int w : arch.windows) windows += (windows.empty() ? "" : ",") + std::to_string(w);
  put("architecture", arch.variant());
  put("fingerprint", net_.fingerprint);
  put("scale", std::to_string(arch.scale));
  put("windows", windows);
  put("range", "0..255");
  const PrecisionPlan& plan = options_.precision;
  put("precision",
      plan.uniform() ? std::string(to_string(plan.default_precision())) : plan.to_json());
  put("padding", options_.padding ? "inside" : "outside");
  put("plugins", options_.plugins ? kPluginVersion : "none");
}

void check_precisions(const Network& net, const OnnxOptions& options) {
  const PrecisionPlan& plan = options.precision;
  plan.check(net.arch);
  for (const std::string& operation : operation_names(net.arch)) {
    const std::vector<Precision>& able = export_precisions();
    const Precision asked = plan.at(operation);
    if (operation == "residual" || std::find(able.begin(), able.end(), asked) != able.end())
      continue;
    throw Error(ErrorKind::usage, "ONNX export: " + operation +
                                      ": expected fp32, tf32, fp16, fp8 or int8, found " +
                                      std::string(to_string(asked)));
  }
  for (const Precision narrow : {Precision::int8, Precision::fp8}) {
    if (net.quantized() || !asks_for(narrow, net, options)) continue;
    throw Error(ErrorKind::usage,
                "ONNX export: expected a model in 8 bits (elan-sr quantize) for " +
                    std::string(to_string(narrow)) + ", found one without");
  }
  const Precision first = plan.default_precision();
  if (!options.plugins) return;
  if (!plan.uniform() || first == Precision::fp8) {
    throw Error(
        ErrorKind::usage,
        "ONNX export with plugins: expected fp32, tf32, fp16 or int8 for all operations, found " +
            (plan.uniform() ? std::string(to_string(first)) : "a plan"));
  }
  check_plugins(net);
}

void check(const Network& net, const OnnxOptions& options) {
  check_precisions(net, options);
  if (!options.size) return;
  int multiple = 1;
  for (const int w : net.arch.windows) multiple = std::lcm(multiple, w);
  const auto [width, height] = *options.size;
  const std::string size = std::to_string(width) + "x" + std::to_string(height);
  if (width < 1 || height < 1) {
    throw Error(ErrorKind::usage, "ONNX export: size " + size + " is not a picture's size");
  }
  if (!options.padding && (width % multiple != 0 || height % multiple != 0)) {
    throw Error(ErrorKind::usage, "ONNX export without padding: size " + size +
                                      ": both sides must be multiples of " +
                                      std::to_string(multiple));
  }
}

}  // namespace

Precision natural_precision(const Model& model) {
  return model.network().quantized() ? Precision::int8 : Precision::fp32;
}

std::string onnx_model(const Model& model, const OnnxOptions& options) {
  check(model.network(), options);
  return Exporter(model.network(), options).run().SerializeAsString();
}

void export_onnx(const Model& model, const OnnxOptions& options,
                 const std::filesystem::path& path) {
  const std::string bytes = onnx_model(model, options);
  write_whole_file(path, {std::as_bytes(std::span(bytes))});
}

}  // namespace elan
