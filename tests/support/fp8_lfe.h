// One LFE in fp8, with sums in double, for one picture: what any engine must give on the same x,
// but for sums that round to the next E4M3 number, of which there are 16 in a power of two.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "cuda/pack.h"
#include "model/network.h"
#include "model/rounding.h"

namespace elan::test {

// x and the result are [channel][y][x].
inline std::vector<float> fp8_lfe(const Lfe& lfe, const std::vector<float>& x, int width,
                                  int height) {
  const std::size_t pixels = static_cast<std::size_t>(width) * height;
  const auto convolve = [&](const ShiftConv& conv, std::vector<float> in) {
    const Fp8Matrix m = fp8_matrix(conv.weight, conv.bias.size());
    round_to<float>(Precision::fp8, in);
    std::vector<float> out(conv.bias.size() * pixels);
    std::vector<double> sums(pixels);
    for (int o = 0; o < conv.out; ++o) {
      std::fill(sums.begin(), sums.end(), 0);
      for (int i = 0; i < conv.in; ++i) {
        const double weight = m.weight[static_cast<std::size_t>(o) * conv.in + i];
        const int dy = conv.taps[i] / 3 - 1, dx = conv.taps[i] % 3 - 1;
        for (int row = std::max(0, -dy); row < height - std::max(0, dy); ++row) {
          const float* from = in.data() + i * pixels + (row + dy) * width + dx;
          for (int column = std::max(0, -dx); column < width - std::max(0, dx); ++column) {
            sums[row * width + column] += weight * from[column];
          }
        }
      }
      for (std::size_t p = 0; p < pixels; ++p) {
        out[o * pixels + p] = static_cast<float>(sums[p] * m.scale[o] + conv.bias[o]);
      }
    }
    return out;
  };
  std::vector<float> hidden = convolve(lfe.conv0, x);
  for (float& v : hidden) v = std::max(v, 0.F);
  std::vector<float> y = convolve(lfe.conv1, std::move(hidden));
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += x[i];
  return y;
}

// The share of values that are not the wanted ones, kept in FP16 or FP32: sums that rounded
// otherwise.
inline double fp8_misses(const std::vector<float>& found, const std::vector<float>& wanted) {
  double misses = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const bool half = found[i] == cuda::from_half(cuda::to_half(wanted[i]));
    const bool single = std::abs(found[i] - wanted[i]) <= 1e-5F * (1 + std::abs(wanted[i]));
    misses += half || single ? 0 : 1;
  }
  return misses / static_cast<double>(found.size());
}

}  // namespace elan::test
