#include "onnx/matrices.h"

namespace elan {
namespace {

// The model's scales map the largest value to 127; in E4M3 that is 448.
constexpr float kToFp8 = 127.F / 448.F;

bool in_8_bits(ElementType type) {
  return type == ElementType::int8 || type == ElementType::fp8;
}

std::vector<float> scales_for(ElementType type, std::vector<float> scales) {
  if (type == ElementType::fp8) {
    for (float& s : scales) s *= kToFp8;
  }
  return scales;
}

// QuantizeLinear and DequantizeLinear, which together round. `scales` has one element or one for
// each index of axis 0. The zero point says what to round to; TensorRT 8.6 wants one for each
// scale.
std::string add_rounding(OnnxGraph& graph, const std::string& x, const std::string& name,
                         const std::vector<float>& scales, ElementType type) {
  const bool each = scales.size() > 1;
  const Dims dims = each ? Dims{static_cast<std::int64_t>(scales.size())} : Dims{};
  const std::string scale =
      graph.shared_tensor(name + ".scale", dims, scales_for(type, scales), ElementType::f32);
  const std::string zero = graph.zeros(dims, type);
  Attributes attributes;
  if (each) attributes.emplace_back("axis", std::int64_t{0});
  const std::string narrow =
      graph.shared_node("QuantizeLinear", {x, scale, zero}, name + ".quantized", attributes);
  return graph.shared_node("DequantizeLinear", {narrow, scale, zero}, name + ".dequantized",
                           attributes);
}

}  // namespace

const std::vector<Precision>& export_precisions() {
  static const std::vector<Precision> list{Precision::fp32, Precision::tf32, Precision::fp16,
                                           Precision::fp8, Precision::int8};
  return list;
}

ElementType arithmetic(Precision asked, bool has_int8) {
  switch (asked) {
    case Precision::fp16:
      return ElementType::f16;
    case Precision::int8:
      return has_int8 ? ElementType::int8 : ElementType::f32;
    case Precision::fp8:
      return has_int8 ? ElementType::fp8 : ElementType::f32;
    default:
      return ElementType::f32;
  }
}

OnnxMatrix matrix_of(const Linear& linear, const std::optional<QuantizedMatrix>& int8) {
  if (!int8) return {linear};
  return {linear, int8->input_scale, int8->weight_scale};
}

OnnxMatrix matrix_of(const ShiftConv& conv) {
  return matrix_of({conv.in, conv.out, conv.weight, conv.bias}, conv.int8);
}

OnnxMatrix project_inp_of(const Gmsa& gmsa) {
  OnnxMatrix matrix{gmsa.folded_project_inp()};
  if (!gmsa.int8_v) return matrix;
  matrix.input_scale = gmsa.int8_v->input_scale;
  const std::vector<float>& v = gmsa.int8_v->weight_scale;
  const auto part = static_cast<std::ptrdiff_t>(v.size() / 3);
  for (std::ptrdiff_t group = 0; group < 3; ++group) {
    for (const auto* half : {&gmsa.int8_q, &gmsa.int8_v}) {
      if (!*half) continue;
      const auto first = (*half)->weight_scale.begin() + group * part;
      matrix.weight_scale.insert(matrix.weight_scale.end(), first, first + part);
    }
  }
  return matrix;
}

OnnxValue cast(OnnxGraph& graph, const OnnxValue& x, ElementType to) {
  if (x.type == to) return x;
  const char* suffix = to == ElementType::f16 ? ".to_fp16" : ".to_fp32";
  return {
      graph.shared_node("Cast", {x.name}, x.name + suffix, {{"to", std::int64_t{onnx_type(to)}}}),
      to};
}

OnnxValue add_matrix(OnnxGraph& graph, const std::string& name, const OnnxValue& x,
                     const OnnxMatrix& matrix, ElementType in) {
  const Linear& m = matrix.linear;
  const ElementType type = in_8_bits(in) ? ElementType::f32 : in;
  const Dims dims{m.out, m.in, 1, 1};
  std::string input = cast(graph, x, type).name;
  std::string weight = graph.tensor(name + ".weight", dims, m.weight, type);
  if (in_8_bits(in)) {
    const std::string input_name = matrix.input_name.empty() ? name + ".input" : matrix.input_name;
    input = add_rounding(graph, input, input_name, {matrix.input_scale}, in);
    weight = add_rounding(graph, weight, weight, matrix.weight_scale, in);
  }
  const std::string bias = graph.tensor(name + ".bias", {m.out}, m.bias, type);
  return {graph.node("Conv", {input, weight, bias}, name, {{"kernel_shape", Dims{1, 1}}}), type};
}

}  // namespace elan
