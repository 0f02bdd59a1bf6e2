// One LFE in 8 bits as docs/quantization.md has it, with integers, for one picture: what any engine
// must give on the same x, to the bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "model/network.h"

namespace elan::test {

// x and the result are [channel][y][x]; conv0 and conv1 must be in 8 bits.
inline std::vector<float> int8_lfe(const Lfe& lfe, const std::vector<float>& x, int width,
                                   int height) {
  const QuantizedMatrix &m0 = *lfe.conv0.int8, &m1 = *lfe.conv1.int8;
  const int pixels = width * height, hidden = lfe.conv0.out;
  const auto clamped = [](float v, float least) {
    return static_cast<int>(std::clamp(std::nearbyint(v), least, 127.F));
  };
  // The place that a tap of the pixel reads; -1 outside the picture.
  const auto from = [&](int p, int tap) {
    const int row = p / width + tap / 3 - 1, column = p % width + tap % 3 - 1;
    const bool inside = row >= 0 && row < height && column >= 0 && column < width;
    return inside ? row * width + column : -1;
  };
  const auto inverse = static_cast<float>(1 / double{m0.input_scale});
  std::vector<int> xq(x.size()), hq(static_cast<std::size_t>(hidden) * pixels);
  for (std::size_t i = 0; i < x.size(); ++i) xq[i] = clamped(x[i] * inverse, -127);
  const auto sum = [&](const ShiftConv& conv, const QuantizedMatrix& m, const std::vector<int>& in,
                       int o, int p) {
    std::int32_t acc = 0;
    for (int i = 0; i < conv.in; ++i) {
      const int at = from(p, conv.taps[i]);
      if (at >= 0) acc += m.weight[o * conv.in + i] * in[static_cast<std::size_t>(i) * pixels + at];
    }
    return static_cast<float>(acc);
  };
  for (int o = 0; o < hidden; ++o) {
    const double scale = double{m0.input_scale} * m0.weight_scale[o] / m1.input_scale;
    const double offset = double{lfe.conv0.bias[o]} / m1.input_scale;
    for (int p = 0; p < pixels; ++p) {
      hq[static_cast<std::size_t>(o) * pixels + p] =
          clamped(std::fma(sum(lfe.conv0, m0, xq, o, p), static_cast<float>(scale),
                           static_cast<float>(offset)),
                  0);
    }
  }
  std::vector<float> y(x);
  for (int o = 0; o < lfe.conv1.out; ++o) {
    const auto scale = static_cast<float>(double{m1.input_scale} * m1.weight_scale[o]);
    for (int p = 0; p < pixels; ++p) {
      y[static_cast<std::size_t>(o) * pixels + p] +=
          std::fma(sum(lfe.conv1, m1, hq, o, p), scale, lfe.conv1.bias[o]);
    }
  }
  return y;
}

}  // namespace elan::test
