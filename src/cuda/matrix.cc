#include "cuda/matrix.h"

#include <cmath>
#include <numbers>
#include <optional>
#include <utility>

#include "cuda/pack.h"
#include "model/rounding.h"

namespace elan::cuda {
namespace {

// Results come out times `stretch`.
PackMatrix in_fp8(const std::vector<float>& weight, const std::vector<float>& bias, int in,
                  float stretch) {
  Fp8Matrix matrix = fp8_matrix(weight, bias.size());
  PackMatrix m{in, std::move(matrix.weight), std::move(matrix.scale), bias, to_fp8()};
  for (float& s : m.scale) s *= stretch;
  for (float& b : m.bias) b *= stretch;
  return m;
}

// `factor`, a power of two, brings the weights to where FP16 is at its best; not so in fp8.
PackMatrix in_floats(Operand operand, const std::vector<float>& weight,
                     const std::vector<float>& bias, int in, float factor, float stretch = 1) {
  if (operand == Operand::fp8) return in_fp8(weight, bias, in, stretch);
  PackMatrix m{in, weight, std::vector<float>(bias.size(), 1 / factor), bias, {}};
  for (float& w : m.weight) w *= stretch * factor;
  for (float& b : m.bias) b *= stretch;
  return m;
}

// Results come out divided by the scale of what they go into: `units`, one for each of as many
// equal parts of the rows.
PackMatrix in_integers(const QuantizedMatrix& matrix, const std::vector<float>& bias, int in,
                       const std::vector<double>& units = {1}) {
  PackMatrix m;
  m.in = in;
  m.weight.assign(matrix.weight.begin(), matrix.weight.end());
  const double input_scale = matrix.input_scale;
  for (std::size_t o = 0; o < bias.size(); ++o) {
    const double unit = units[o * units.size() / bias.size()];
    m.scale.push_back(static_cast<float>(input_scale * matrix.weight_scale[o] / unit));
    m.bias.push_back(static_cast<float>(bias[o] / unit));
  }
  m.input = to_int8(static_cast<float>(1 / input_scale));
  return m;
}

PackMatrix of_conv(Operand operand, const ShiftConv& conv, bool int8, double unit = 1) {
  return int8 ? in_integers(*conv.int8, conv.bias, conv.in, {unit})
              : in_floats(operand, conv.weight, conv.bias, conv.in, weight_scale(conv.weight));
}

}  // namespace

LfeMatrices lfe_matrices(const Lfe& lfe, const Gmsa& gmsa, Operand operand, bool int8_attention) {
  const bool may = operand == Operand::int8;
  const bool first = may && lfe.conv0.int8, second = may && lfe.conv1.int8;
  LfeMatrices m;
  m.conv0 = of_conv(operand, lfe.conv0, first, first && second ? lfe.conv1.int8->input_scale : 1);
  m.conv1 = of_conv(operand, lfe.conv1, second);
  if (first && second) m.conv1.input.factor = 1;  // conv0's scales have it

  const bool has_q = gmsa.computes_attention;
  const float stretch = std::sqrt(std::numbers::log2e_v<float>);  // logits in units of log2(e)
  if (may && gmsa.int8_v && (!has_q || gmsa.int8_q)) {
    const auto units = [&](const std::array<float, 3>& scales, double otherwise) {
      return int8_attention ? std::vector<double>(scales.begin(), scales.end())
                            : std::vector{otherwise};
    };
    const QuantizedAttention scales = gmsa.int8_attention.value_or(QuantizedAttention{});
    m.v = in_integers(*gmsa.int8_v, gmsa.projection_v().bias, gmsa.project_inp.in,
                      units(scales.v_scale, 1));
    if (has_q) {
      m.q = in_integers(*gmsa.int8_q, gmsa.projection_q().bias, gmsa.project_inp.in,
                        units(scales.q_scale, 1 / double{stretch}));
    }
    return m;
  }
  Gmsa folded = gmsa;
  folded.project_inp = gmsa.folded_project_inp();
  const float factor = weight_scale(folded.project_inp.weight);
  const Linear v = folded.projection_v();
  m.v = in_floats(operand, v.weight, v.bias, v.in, factor);
  if (has_q) {
    const Linear q = folded.projection_q();
    m.q = in_floats(operand, q.weight, q.bias, q.in, factor, stretch);
  }
  return m;
}

PackMatrix out_matrix(const Gmsa& gmsa, Operand operand) {
  if (operand == Operand::int8 && gmsa.int8_out) {
    return in_integers(*gmsa.int8_out, gmsa.project_out.bias, gmsa.project_out.in);
  }
  const Linear& out = gmsa.project_out;
  return in_floats(operand, out.weight, out.bias, out.in, weight_scale(out.weight));
}

}  // namespace elan::cuda
