#include "model/reference.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <span>

#include "model/rounding.h"
#include "model/row_math.h"
#include "model/stages.h"

namespace elan {
namespace {

template <typename T>
void add(Planar<T>& y, const Planar<T>& x) {
  add_scaled(y.values.data(), x.values.data(), T(1), y.values.size());
}

template <typename T>
void add_mean(Planar<T>& y, const std::array<float, 3>& mean, T sign) {
  for (int c = 0; c < 3; ++c) {
    for (std::size_t i = 0; i < y.pixels(); ++i) y.plane(c)[i] += sign * T(mean[c]);
  }
}

// y[p] += factor * x[p + offset of the tap], outside the picture zero. Tap k = 3 * ky + kx.
template <typename T>
void add_tap(Planar<T>& y, int to, const Planar<T>& x, int from, int tap, T factor) {
  const int dy = tap / 3 - 1, dx = tap % 3 - 1;
  const int left = std::max(0, -dx), right = x.width - std::max(0, dx);
  for (int row = std::max(0, -dy); row < x.height - std::max(0, dy); ++row) {
    add_scaled(y.row(to, row) + left, x.row(from, row + dy) + left + dx, factor,
               static_cast<std::size_t>(right - left));
  }
}

template <typename T>
std::vector<T> rounded(std::span<const float> values, Precision precision) {
  std::vector<T> result(values.begin(), values.end());
  round_to<T>(precision, result);
  return result;
}

// The weights of a 1x1 convolution with so many rows, as they are multiplied by.
template <typename T>
std::vector<T> rounded(std::span<const float> weight, std::size_t rows, Precision precision) {
  if (precision != Precision::fp8) return rounded<T>(weight, precision);
  const Fp8Matrix matrix = fp8_matrix(weight, rows);
  std::vector<T> result(matrix.weight.begin(), matrix.weight.end());
  for (std::size_t i = 0; i < result.size(); ++i)
    result[i] *= T(matrix.scale[i * rows / result.size()]);
  return result;
}

template <typename T>
Planar<T> convolve3x3(const Conv3x3& conv, const Planar<T>& exact, Precision precision) {
  Planar<T> narrow;
  if (!holds<T>(precision)) {
    narrow = exact;
    round_to<T>(precision, narrow.values);
  }
  const Planar<T>& x = holds<T>(precision) ? exact : narrow;
  Planar<T> y(conv.out, x.height, x.width);
  const std::vector<T> weights = rounded<T>(conv.weight, precision);
  const T* weight = weights.data();
  for (int o = 0; o < conv.out; ++o) {
    std::fill_n(y.plane(o), y.pixels(), T(conv.bias[o]));
    for (int i = 0; i < conv.in; ++i) {
      for (int tap = 0; tap < 9; ++tap) add_tap(y, o, x, i, tap, *weight++);
    }
  }
  return y;
}

// A 1x1 convolution: weight is [out][in].
template <typename T>
Planar<T> multiply(std::span<const float> weight, std::span<const float> bias, const Planar<T>& x,
                   Precision precision) {
  constexpr std::size_t kBlock = 256;  // pixels at a time, so that they stay in cache
  const int out = static_cast<int>(bias.size());
  const std::vector<T> weights = rounded<T>(weight, bias.size(), precision);
  const std::vector<T> biases(bias.begin(), bias.end());
  std::vector<T> block(kBlock * x.channels);  // [in][pixels]
  Planar<T> y(out, x.height, x.width);
  for (std::size_t begin = 0; begin < x.pixels(); begin += kBlock) {
    const std::size_t count = std::min(kBlock, x.pixels() - begin);
    for (int i = 0; i < x.channels; ++i) {
      std::copy_n(x.plane(i) + begin, count, block.data() + i * kBlock);
    }
    round_to<T>(precision, block);
    multiply_rows(weights.data(), biases.data(), out, x.channels, block.data(), kBlock,
                  y.values.data() + begin, y.pixels(), count);
  }
  return y;
}

// Any depthwise 3x3 filter, of which the usual one-hot shift is the cheapest.
template <typename T>
Planar<T> filter(const std::vector<float>& mask, const Planar<T>& x) {
  Planar<T> y(x.channels, x.height, x.width);
  for (int c = 0; c < x.channels; ++c) {
    for (int tap = 0; tap < 9; ++tap) {
      const float factor = mask[static_cast<std::size_t>(c) * 9 + tap];
      if (factor != 0) add_tap(y, c, x, c, tap, T(factor));
    }
  }
  return y;
}

// The 8-bit arithmetic of docs/quantization.md. Integers are held in T.

// Values as floats, changed in place by `change`, and as T again.
template <typename T, typename Change>
void as_floats(T* values, std::size_t count, Change&& change) {
  if constexpr (sizeof(T) == sizeof(float)) {
    change(values);
  } else {
    std::vector<float> narrow(values, values + count);
    change(narrow.data());
    std::copy(narrow.begin(), narrow.end(), values);
  }
}

// Values to integers: xq.
template <typename T>
Planar<T> quantized(const Planar<T>& x, float scale) {
  const auto inverse = static_cast<float>(1.0 / double(scale));
  Planar<T> y = x;
  as_floats(y.values.data(), y.values.size(),
            [&](float* v) { quantize_row(v, inverse, y.values.size()); });
  return y;
}

// acc: sums of products of integers. Floats hold them exactly below 2^24.
template <typename T>
Planar<T> integer_products(const QuantizedMatrix& matrix, const Planar<T>& xq) {
  constexpr int kMostInFloat = (1 << 24) / (127 * 127);
  const std::vector<float> weight(matrix.weight.begin(), matrix.weight.end());
  const std::vector<float> zero(matrix.weight_scale.size());
  if (sizeof(T) == sizeof(double) || xq.channels <= kMostInFloat) {
    return multiply<T>(weight, zero, xq, Precision::fp64);
  }
  Planar<double> wide(xq.channels, xq.height, xq.width);
  std::copy(xq.values.begin(), xq.values.end(), wide.values.begin());
  const Planar<double> sums = multiply<double>(weight, zero, wide, Precision::fp64);
  Planar<T> y(sums.channels, sums.height, sums.width);
  std::transform(sums.values.begin(), sums.values.end(), y.values.begin(),
                 [](double v) { return static_cast<T>(v); });
  return y;
}

// With a factor and an offset for each channel.
template <typename T>
void rescale(Planar<T>& sums, std::span<const float> factor, std::span<const float> offset,
             bool to_int8) {
  for (int o = 0; o < sums.channels; ++o) {
    as_floats(sums.plane(o), sums.pixels(),
              [&](float* v) { rescale_row(v, factor[o], offset[o], to_int8, sums.pixels()); });
  }
}

// acc to values: y.
template <typename T>
Planar<T> dequantized(Planar<T> sums, const QuantizedMatrix& matrix, std::span<const float> bias) {
  std::vector<float> factor;
  for (const float w : matrix.weight_scale) {
    factor.push_back(static_cast<float>(double(matrix.input_scale) * double(w)));
  }
  rescale(sums, factor, bias, false);
  return sums;
}

// acc of conv0 to the integers that conv1 takes: hq.
template <typename T>
Planar<T> requantized(Planar<T> sums, const ShiftConv& conv0, float hidden_scale) {
  std::vector<float> factor, offset;
  for (int o = 0; o < conv0.out; ++o) {
    factor.push_back(
        static_cast<float>(double(conv0.int8->input_scale) * double(conv0.int8->weight_scale[o]) /
                           double(hidden_scale)));
    offset.push_back(static_cast<float>(double(conv0.bias[o]) / double(hidden_scale)));
  }
  rescale(sums, factor, offset, true);
  return sums;
}

// What a matrix runs in: one without an 8-bit form is computed more exactly than asked.
Precision able(Precision asked, const std::optional<QuantizedMatrix>& int8) {
  return asked == Precision::int8 && !int8 ? Precision::fp32 : asked;
}

// The same of what is no 1x1 convolution.
Precision able(Precision asked) {
  return asked == Precision::fp8 ? Precision::fp32 : able(asked, {});
}

// A 1x1 convolution in floating point or in its 8-bit form.
template <typename T>
Planar<T> multiply(std::span<const float> weight, std::span<const float> bias,
                   const std::optional<QuantizedMatrix>& int8, const Planar<T>& x,
                   Precision precision) {
  if (precision != Precision::int8) return multiply<T>(weight, bias, x, precision);
  return dequantized(integer_products(*int8, quantized(x, int8->input_scale)), *int8, bias);
}

template <typename T>
Planar<T> shift_convolve(const ShiftConv& conv, const Planar<T>& x, Precision precision) {
  return multiply<T>(conv.weight, conv.bias, conv.int8, filter(conv.mask, x), precision);
}

template <typename T>
Planar<T> local_features(const Lfe& lfe, const Planar<T>& x, const PrecisionPlan& plan,
                         const std::string& stage, const OperandWatcher<T>& operands) {
  const Precision first = able(plan.at(stage + ".conv0"), lfe.conv0.int8);
  const Precision second = able(plan.at(stage + ".conv1"), lfe.conv1.int8);
  if (operands) operands(stage + ".conv0", x);
  if (first == Precision::int8 && second == Precision::int8) {
    const QuantizedMatrix &conv0 = *lfe.conv0.int8, &conv1 = *lfe.conv1.int8;
    const Planar<T> hidden = requantized(
        integer_products(conv0, filter(lfe.conv0.mask, quantized(x, conv0.input_scale))), lfe.conv0,
        conv1.input_scale);
    return dequantized(integer_products(conv1, filter(lfe.conv1.mask, hidden)), conv1,
                       lfe.conv1.bias);
  }
  Planar<T> hidden = shift_convolve(lfe.conv0, x, first);
  for (T& v : hidden.values) v = std::max(v, T(0));
  if (operands) operands(stage + ".conv1", hidden);
  return shift_convolve(lfe.conv1, hidden, second);
}

template <typename T>
void normalise(const BatchNorm& norm, Planar<T>& x) {
  if (norm.var.empty()) return;
  for (int c = 0; c < x.channels; ++c) {
    const T gain = T(norm.weight[c]) / std::sqrt(T(norm.var[c]) + T(BatchNorm::kEps));
    for (std::size_t i = 0; i < x.pixels(); ++i) {
      T& v = x.plane(c)[i];
      v = (v - T(norm.mean[c])) * gain + T(norm.bias[c]);
    }
  }
}

// The precisions of a GMSA's operations.
struct GmsaPrecisions {
  Precision q, v, qk, av, project_out;
  bool int8_attention = false;  // qk and av of all pairs that share it

  GmsaPrecisions(const PrecisionPlan& plan, const std::string& stage, const Gmsa& gmsa)
      : q(able(plan.at(stage + ".project_inp.q"), gmsa.int8_q)),
        v(able(plan.at(stage + ".project_inp.v"), gmsa.int8_v)),
        qk(able(plan.at(stage + ".qk"))),
        av(able(plan.at(stage + ".av"))),
        project_out(able(plan.at(stage + ".project_out"), gmsa.int8_out)) {}
};

// The groups of q and v in turn.
template <typename T>
Planar<T> interleaved(const Planar<T>& q, const Planar<T>& v) {
  Planar<T> y(2 * v.channels, v.height, v.width);
  const int half = v.channels / 3;
  for (int group = 0; group < 3; ++group) {
    const int from = group * half;
    std::copy(q.plane(from), q.plane(from + half), y.plane(2 * from));
    std::copy(v.plane(from), v.plane(from + half), y.plane(2 * from + half));
  }
  return y;
}

// q and v each in its own arithmetic, for a network without batch norms.
template <typename T>
Planar<T> project_parts(const Gmsa& gmsa, const Planar<T>& x, const GmsaPrecisions& in) {
  const Linear to_v = gmsa.projection_v();
  Planar<T> v = multiply<T>(to_v.weight, to_v.bias, gmsa.int8_v, x, in.v);
  if (!gmsa.computes_attention) return v;
  const Linear to_q = gmsa.projection_q();
  const Planar<T> q = multiply<T>(to_q.weight, to_q.bias, gmsa.int8_q, x, in.q);
  return interleaved(q, v);
}

// Three groups of (q, v), or of v alone.
template <typename T>
Planar<T> project(const Gmsa& gmsa, const Planar<T>& x, const GmsaPrecisions& in) {
  const bool has_q = gmsa.computes_attention;
  if (in.v == Precision::int8 || (has_q && in.q == Precision::int8)) {
    return project_parts(gmsa, x, in);
  }
  if (holds<T>(in.v) && (!has_q || holds<T>(in.q))) {
    Planar<T> y = multiply<T>(gmsa.project_inp.weight, gmsa.project_inp.bias, x, in.v);
    normalise(gmsa.norm, y);
    return y;
  }
  const Linear folded = gmsa.folded_project_inp();
  Planar<T> y = multiply<T>(folded.weight, folded.bias, x, in.v);
  if (!has_q || in.q == in.v) return y;
  const Planar<T> with_q = multiply<T>(folded.weight, folded.bias, x, in.q);
  const int half = folded.out / 6;  // channels of q in a group
  for (int group = 0; group < 3; ++group) {
    const int first = 2 * group * half;
    std::copy(with_q.plane(first), with_q.plane(first + half), y.plane(first));
  }
  return y;
}

// q or v as the integers of an attention in 8 bits. `scales` are those of the three groups.
template <typename T>
Planar<T> attention_operand(const Linear& linear, const std::optional<QuantizedMatrix>& int8,
                            const Planar<T>& x, Precision precision,
                            const std::array<float, 3>& scales) {
  const int group = linear.out / 3;
  Planar<T> y;
  if (precision == Precision::int8) {
    std::vector<float> factor, offset;
    for (int o = 0; o < linear.out; ++o) {
      const auto scale = static_cast<double>(scales[o / group]);
      factor.push_back(
          static_cast<float>(double(int8->input_scale) * double(int8->weight_scale[o]) / scale));
      offset.push_back(static_cast<float>(double(linear.bias[o]) / scale));
    }
    y = integer_products(*int8, quantized(x, int8->input_scale));
    rescale(y, factor, offset, false);
  } else {
    y = multiply<T>(linear.weight, linear.bias, x, precision);
  }
  for (int o = 0; o < linear.out; ++o) {
    const auto inverse = static_cast<float>(1 / static_cast<double>(scales[o / group]));
    as_floats(y.plane(o), y.pixels(), [&](float* v) {
      quantize_row(v, precision == Precision::int8 ? 1 : inverse, y.pixels());
    });
  }
  return y;
}

// Three groups of (q, v), or of v alone, as integers.
template <typename T>
Planar<T> project_to_int8(const Gmsa& gmsa, const Planar<T>& x, const GmsaPrecisions& in) {
  const QuantizedAttention& scales = *gmsa.int8_attention;
  Planar<T> v = attention_operand(gmsa.projection_v(), gmsa.int8_v, x, in.v, scales.v_scale);
  if (!gmsa.computes_attention) return v;
  return interleaved(attention_operand(gmsa.projection_q(), gmsa.int8_q, x, in.q, scales.q_scale),
                     v);
}

// The tokens of one window: which pixel of the plane each of its w * w tokens is. Shifting rolls
// the picture by half a window, so a window at the border also sees the opposite edge.
std::vector<std::size_t> window_pixels(int window, int shift, int wy, int wx, int height,
                                       int width) {
  std::vector<std::size_t> pixels;
  pixels.reserve(static_cast<std::size_t>(window) * window);
  for (int dy = 0; dy < window; ++dy) {
    const int y = (wy * window + dy + shift) % height;
    for (int dx = 0; dx < window; ++dx) {
      const int x = (wx * window + dx + shift) % width;
      pixels.push_back(static_cast<std::size_t>(y) * width + x);
    }
  }
  return pixels;
}

// The next number of elements at which multiply_rows() stops reading.
std::size_t padded_row(std::size_t count) {
  return (count + kRowPadding - 1) / kRowPadding * kRowPadding;
}

// q q^T, [tokens][tokens]. q is [channels][tokens, padded].
template <typename T>
void multiply_queries(const std::vector<T>& q, int channels, std::size_t tokens, T* a) {
  const std::size_t stride = padded_row(tokens);
  std::vector<T> transposed(tokens * channels);
  for (std::size_t i = 0; i < tokens; ++i) {
    for (int c = 0; c < channels; ++c) transposed[i * channels + c] = q[c * stride + i];
  }
  const std::vector<T> zero(tokens);
  multiply_rows(transposed.data(), zero.data(), static_cast<int>(tokens), channels, q.data(),
                stride, a, tokens, tokens);
}

// softmax(q q^T) over each row.
template <typename T>
void attend(const std::vector<T>& q, int channels, std::size_t tokens, T* a) {
  multiply_queries(q, channels, tokens, a);
  for (std::size_t i = 0; i < tokens; ++i) {
    T* const row = a + i * tokens;
    const T largest = *std::max_element(row, row + tokens);
    T sum = 0;
    for (std::size_t j = 0; j < tokens; ++j) sum += row[j] = std::exp(row[j] - largest);
    for (std::size_t j = 0; j < tokens; ++j) row[j] /= sum;
  }
}

// The same in 8 bits: integers e in 0..255, the largest of each row 255.
template <typename T>
void attend_int8(const std::vector<T>& q, int channels, std::size_t tokens, float scale, T* e) {
  constexpr double kTop = 255;
  constexpr float kLeast = -9;  // 255 * 2^-9 < 1/2
  const auto octaves =
      static_cast<float>(double(scale) * double(scale) * std::numbers::log2e_v<double>);
  multiply_queries(q, channels, tokens, e);
  for (std::size_t i = 0; i < tokens; ++i) {
    T* const row = e + i * tokens;
    const T largest = *std::max_element(row, row + tokens);
    for (std::size_t j = 0; j < tokens; ++j) {
      const float power = octaves * static_cast<float>(row[j] - largest);
      // In double, so that only the rule says which integer it is.
      row[j] = power < kLeast ? T(0) : T(std::nearbyint(kTop * std::exp2(double(power))));
    }
  }
}

// What sums of e v are multiplied by: the scale of v over the sum of the row of e.
template <typename T>
T value_factor(const T* e, std::size_t tokens, float scale) {
  return T(scale / static_cast<float>(std::accumulate(e, e + tokens, T(0))));
}

// For each of the three groups of channels the matrices A (in 8 bits: e) of all its windows, one
// after another.
template <typename T>
using Attention = std::array<std::vector<T>, 3>;

// The attention of all windows of one group: computes A into `attention` if the module does, then
// writes A v to the group's channels of y.
template <typename T>
void attend_group(const Gmsa& gmsa, const Planar<T>& projected, int group, int window, int shift,
                  const GmsaPrecisions& in, std::vector<T>& attention, Planar<T>& y) {
  const int channels = y.channels / 3;
  const int first = group * projected.channels / 3;  // q, then v; or v alone
  const int first_v = gmsa.computes_attention ? first + channels : first;
  const std::size_t tokens = static_cast<std::size_t>(window) * window;
  if (gmsa.computes_attention) attention.resize(y.pixels() * tokens);

  const std::size_t q_stride = padded_row(tokens), v_stride = padded_row(channels);
  std::vector<T> q(channels * q_stride), v(tokens * v_stride), narrow;
  std::vector<T> sums(tokens * channels);
  const std::vector<T> zero(tokens);
  T* a = attention.data();
  for (int wy = 0; wy < y.height / window; ++wy) {
    for (int wx = 0; wx < y.width / window; ++wx, a += tokens * tokens) {
      const auto pixels = window_pixels(window, shift, wy, wx, y.height, y.width);
      if (gmsa.computes_attention) {
        for (int c = 0; c < channels; ++c) {
          for (std::size_t t = 0; t < tokens; ++t) {
            q[c * q_stride + t] = projected.plane(first + c)[pixels[t]];
          }
        }
        if (in.int8_attention) {
          attend_int8(q, channels, tokens, gmsa.int8_attention->q_scale[group], a);
        } else {
          round_to<T>(in.qk, q);
          attend(q, channels, tokens, a);
        }
      }
      for (int c = 0; c < channels; ++c) {
        for (std::size_t t = 0; t < tokens; ++t) {
          v[t * v_stride + c] = projected.plane(first_v + c)[pixels[t]];
        }
      }
      const T* weights = a;
      if (!in.int8_attention && !holds<T>(in.av)) {
        round_to<T>(in.av, v);
        narrow.assign(a, a + tokens * tokens);
        round_to<T>(in.av, narrow);
        weights = narrow.data();
      }
      multiply_rows(weights, zero.data(), static_cast<int>(tokens), static_cast<int>(tokens),
                    v.data(), v_stride, sums.data(), channels, channels);
      for (std::size_t i = 0; i < tokens; ++i) {
        const T factor = in.int8_attention ? value_factor(a + i * tokens, tokens,
                                                          gmsa.int8_attention->v_scale[group])
                                           : T(1);
        for (int c = 0; c < channels; ++c) {
          y.plane(group * channels + c)[pixels[i]] = sums[i * channels + c] * factor;
        }
      }
    }
  }
}

// Shows what scores and sums are made of: q and v, each of all groups.
template <typename T>
void watch_attention(const Gmsa& gmsa, const Planar<T>& projected, const std::string& stage,
                     const OperandWatcher<T>& operands) {
  const int parts = gmsa.computes_attention ? 2 : 1;
  const int channels = projected.channels / parts, half = channels / 3;
  for (int part = 0; part < parts; ++part) {
    Planar<T> all(channels, projected.height, projected.width);
    for (int group = 0; group < 3; ++group) {
      const T* const from = projected.plane((group * parts + part) * half);
      std::copy(from, from + half * projected.pixels(), all.plane(group * half));
    }
    operands(stage + (part + 1 == parts ? ".av" : ".qk"), all);
  }
}

// Whether the attention of an ELAB runs in 8 bits: the plan must want it of all its parts.
bool runs_in_int8(const Elab& elab, const PrecisionPlan& plan, int index) {
  bool all = plan.at(gmsa_stage(index, 0) + ".qk") == Precision::int8;
  for (std::size_t j = 0; j < elab.gmsa.size(); ++j) {
    all = all && elab.gmsa[j].int8_attention &&
          plan.at(gmsa_stage(index, static_cast<int>(j)) + ".av") == Precision::int8;
  }
  return all;
}

template <typename T>
Planar<T> self_attention(const Gmsa& gmsa, const std::array<int, 3>& windows, bool shifted,
                         const Planar<T>& x, const GmsaPrecisions& in, const std::string& stage,
                         const OperandWatcher<T>& operands, Attention<T>& attention) {
  if (operands) operands(stage + ".project_inp.v", x);
  const Planar<T> projected =
      in.int8_attention ? project_to_int8(gmsa, x, in) : project(gmsa, x, in);
  if (operands && !in.int8_attention) watch_attention(gmsa, projected, stage, operands);
  Planar<T> y(x.channels, x.height, x.width);
  for (int group = 0; group < 3; ++group) {
    const int window = windows[group];
    attend_group(gmsa, projected, group, window, shifted ? window / 2 : 0, in, attention[group], y);
  }
  if (operands) operands(stage + ".project_out", y);
  return multiply<T>(gmsa.project_out.weight, gmsa.project_out.bias, gmsa.int8_out, y,
                     in.project_out);
}

// Channel k * s * s + dy * s + dx becomes phase (dy, dx) of channel k.
template <typename T>
Planar<T> pixel_shuffle(const Planar<T>& x, int scale) {
  Planar<T> y(x.channels / (scale * scale), x.height * scale, x.width * scale);
  for (int c = 0; c < y.channels; ++c) {
    for (int row = 0; row < y.height; ++row) {
      for (int column = 0; column < y.width; ++column) {
        const int from = (c * scale + row % scale) * scale + column % scale;
        y.row(c, row)[column] = x.row(from, row / scale)[column / scale];
      }
    }
  }
  return y;
}

}  // namespace

template <typename T>
Planar<T> forward(const Network& net, const Planar<T>& padded, const StageWatcher<T>& watch,
                  const PrecisionPlan& plan, const OperandWatcher<T>& operands) {
  Precision stream = plan.at(stream_name(0));
  Planar<T> picture = padded;
  add_mean(picture, net.mean, T(-1));
  Planar<T> head = convolve3x3(net.head, picture, able(plan.at("head")));
  round_to<T>(stream, head.values);
  watch("head", head);

  Planar<T> x = head;
  for (int i = 0; i < net.arch.elabs; ++i) {
    const Elab& elab = net.body[i];
    stream = plan.at(stream_name(i));
    round_to<T>(stream, x.values);
    Attention<T> attention;  // computed by the first pair, used again by the others
    const bool int8_attention = runs_in_int8(elab, plan, i);
    for (int j = 0; j < net.arch.pairs; ++j) {
      const std::string lfe = lfe_stage(i, j), gmsa = gmsa_stage(i, j);
      add(x, local_features(elab.lfe[j], x, plan, lfe, operands));
      round_to<T>(stream, x.values);
      watch(lfe, x);
      GmsaPrecisions precisions(plan, gmsa, elab.gmsa[j]);
      precisions.int8_attention = int8_attention;
      add(x, self_attention(elab.gmsa[j], net.arch.windows, elab.shifted, x, precisions, gmsa,
                            operands, attention));
      round_to<T>(stream, x.values);
      watch(gmsa, x);
    }
  }
  add(x, head);
  round_to<T>(stream, x.values);
  watch("body", x);

  Planar<T> enlarged =
      pixel_shuffle(convolve3x3(net.tail, x, able(plan.at("tail"))), net.arch.scale);
  watch("tail", enlarged);
  add_mean(enlarged, net.mean, T(1));
  return enlarged;
}

template Planar<float> forward(const Network&, const Planar<float>&, const StageWatcher<float>&,
                               const PrecisionPlan&, const OperandWatcher<float>&);
template Planar<double> forward(const Network&, const Planar<double>&, const StageWatcher<double>&,
                                const PrecisionPlan&, const OperandWatcher<double>&);

int padded_side(const Architecture& arch, int side) {
  int multiple = 1;
  for (const int window : arch.windows) multiple = std::lcm(multiple, window);
  return (side + multiple - 1) / multiple * multiple;
}

int reflect(int i, int size) {
  if (size == 1) return 0;
  const int period = 2 * (size - 1);
  const int at = i % period;
  return at < size ? at : period - at;
}

}  // namespace elan
