// The weights of an ELAN as plain tables: what every backend packs from, never what it runs on.
// All values are on the 0..255 range (a file trained on 0..1 is rescaled in head and tail on
// loading). Matrices are row-major [out][in]; spatial kernels [.][ky][kx] with ky, kx in 0..2,
// offset (ky - 1, kx - 1) from the pixel.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "elan/model.h"

namespace elan {

// The 8-bit form of a matrix: y[o] = bias[o] + input_scale * weight_scale[o] * sum(weight[o] * xq).
// How activations become xq and sums become activations again is fixed in docs/quantization.md.
struct QuantizedMatrix {
  float input_scale = 0;            // x ~ input_scale * xq, xq in -127..127
  std::vector<float> weight_scale;  // [out]
  std::vector<std::int8_t> weight;  // [out][in], -127..127

  // What the weights stand for, [out][in]: weight * weight_scale, rounded once.
  [[nodiscard]] std::vector<float> values() const;
};

// Scales of the three groups of an attention in 8 bits: what it computes is in
// docs/quantization.md.
struct QuantizedAttention {
  std::array<float, 3> q_scale{};  // only where the attention is computed
  std::array<float, 3> v_scale{};
};

// A fixed depthwise 3x3 filter (zero outside the padded image), then a 1x1 convolution.
struct ShiftConv {
  int in = 0, out = 0;
  std::vector<float> mask;    // [in][3][3]
  std::vector<float> weight;  // [out][in]
  std::vector<float> bias;    // [out]

  // For each input channel the position 3 * ky + kx of the single 1 in its mask; empty if any
  // channel's mask is not one-hot (only the reference runs such a network).
  std::vector<std::uint8_t> taps;

  std::optional<QuantizedMatrix> int8;  // set: `weight` holds the values that it stands for
};

struct Lfe {
  ShiftConv conv0, conv1;
};

struct BatchNorm {
  std::vector<float> weight, bias, mean, var;  // empty when the file has none
  static constexpr double kEps = 1e-5;
};

// A matrix with bias: y = weight x + bias.
struct Linear {
  int in = 0, out = 0;
  std::vector<float> weight;  // [out][in]
  std::vector<float> bias;    // [out]
};

struct Gmsa {
  bool computes_attention = false;  // project_inp gives q and v; otherwise v alone
  Linear project_inp;               // out: 3 groups of (q, v), or 3 groups of v
  BatchNorm norm;
  Linear project_out;

  // Set: the float matrices hold the values that these stand for, and there is no batch norm. The
  // rows of q and v are those of the three groups one after another.
  std::optional<QuantizedMatrix> int8_q, int8_v, int8_out;

  std::optional<QuantizedAttention> int8_attention;  // all pairs of an ELAB have it, or none

  // project_inp with the batch norm folded in (computed in double).
  [[nodiscard]] Linear folded_project_inp() const;

  // The rows of project_inp that give q (only if it computes attention) or v, of all three groups;
  // without the batch norm.
  [[nodiscard]] Linear projection_q() const;
  [[nodiscard]] Linear projection_v() const;

  // All of project_inp in 8 bits, its rows in their order; nothing if a part of it is in floats.
  [[nodiscard]] std::optional<QuantizedMatrix> int8_project_inp() const;
};

struct Elab {
  bool shifted = false;
  std::vector<Lfe> lfe;    // [pairs]
  std::vector<Gmsa> gmsa;  // [pairs]; the first computes attention, the others use it again
};

struct Conv3x3 {
  int in = 0, out = 0;
  std::vector<float> weight;  // [out][in][3][3]
  std::vector<float> bias;    // [out]
};

struct Network {
  Architecture arch;
  std::array<float, 3> mean{};  // RGB, subtracted before the head, added after the tail; 0..255
  Conv3x3 head, tail;
  std::vector<Elab> body;
  std::map<std::string, std::string> metadata;
  std::string fingerprint;

  [[nodiscard]] bool one_hot_shifts() const;  // every ShiftConv has taps
  [[nodiscard]] bool quantized() const;       // any matrix or attention has an 8-bit form
};

}  // namespace elan
