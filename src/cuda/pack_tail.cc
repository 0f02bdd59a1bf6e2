// What the tail takes; on a stream of FP16 as left operands, and the skip beside it.

#include <algorithm>
#include <cstring>
#include <vector>

#include "cuda/pack.h"
#include "cuda/packer.h"

namespace elan::cuda {
namespace {

constexpr int kTaps = 9;

// Whether the last convolution's tap (0..2) is in the grid for pixels of the first row, or column,
// (0), the last (2) or others (1).
bool inside(int kind, int tap) {
  return kind == 1 || tap != kind;
}

}  // namespace

void pack_rows(std::span<std::byte> slab, Operand operand, int units, int tiles,
               const MatrixFn& value) {
  const int terms = operand == Operand::fp32 ? 2 : 1;
  int word = 0;
  for (int u = 0; u < units; u += 2) {
    for (int n = 0; n < tiles; n += 2) {
      for (int term = 0; term < terms; ++term) {
        for (int i = 0; i < (u + 1 < units ? 4 : 2); ++i, ++word) {
          for (int lane = 0; lane < 32; ++lane) {
            const int k = 8 * (u + i / 2) + lane % 4 * 2, column = 8 * (n + i % 2) + lane / 4;
            std::uint32_t bits = 0;
            for (int j = 0; j < 2; ++j) {
              const float v = value(k + j, column);
              const std::uint16_t first = to_half(v);
              bits |= std::uint32_t{term == 0 ? first : to_half(v - from_half(first))} << 16 * j;
            }
            std::memcpy(slab.data() + word / 4 * 512 + lane * 16 + word % 4 * 4, &bits,
                        sizeof bits);
          }
        }
      }
    }
  }
}

PackedOut pack_tail(Packer& packer, const Context& c, const Conv3x3& tail, int scale, bool rows) {
  const ChannelLayout& l = c.layout;
  const int tiles = tail_tiles(scale), bytes = tail_slab_bytes(l, tiles, weight_words(c.operand));
  const float factor = weight_scale(tail.weight);
  PackedOut p;
  p.unscale = 1 / factor;
  p.weights = packer.take(static_cast<std::size_t>(kTaps) * bytes);
  for (int tap = 0; tap < kTaps; ++tap) {
    const auto slab = packer.bytes(p.weights + static_cast<std::size_t>(tap) * bytes, bytes);
    const auto value = [&](int k, int column) {
      return c.order[k] < 0 || column >= tail.out
                 ? 0.F
                 : factor * tail.weight[(column * tail.in + c.order[k]) * kTaps + tap];
    };
    if (rows) {
      pack_rows(slab, c.operand, l.units, tiles, value);
    } else {
      pack_slab(slab, c.operand, 0, l.units, 0, tiles, value);
    }
  }
  p.bias = packer.floats(8 * tiles, [&](int i) { return i < tail.out ? tail.bias[i] : 0.F; });
  return p;
}

PackedSkip pack_skip(Packer& packer, const Conv3x3& head, const Conv3x3& tail, float unscale) {
  const int outs = tail.out, channels = tail.in, tiles = (outs + 7) / 8;
  const auto tail_weight = [&](int out, int channel, int tap) {
    return double{tail.weight[(out * channels + channel) * kTaps + tap]};
  };
  // What a tap of the last convolution makes of the head's taps and colours, and of its bias.
  constexpr int kInputs = 3 * kTaps;  // [colour][tap]
  std::vector<double> products(static_cast<std::size_t>(outs) * kTaps * kInputs);
  std::vector<double> biases(static_cast<std::size_t>(outs) * kTaps);
  for (int out = 0; out < outs; ++out) {
    for (int tap = 0; tap < kTaps; ++tap) {
      double* const product = products.data() + (out * kTaps + tap) * kInputs;
      for (int channel = 0; channel < channels; ++channel) {
        const double w = tail_weight(out, channel, tap);
        biases[out * kTaps + tap] += w * head.bias[channel];
        for (int i = 0; i < kInputs; ++i) product[i] += w * head.weight[channel * kInputs + i];
      }
    }
  }
  // [kind][out][pixel of 5 x 5][colour, or what is 1]
  constexpr int kPixels = kSkipSide * kSkipSide;
  std::vector<float> weights(static_cast<std::size_t>(kSkipKinds) * outs * kPixels * 4);
  for (int kind = 0; kind < kSkipKinds; ++kind) {
    for (int out = 0; out < outs; ++out) {
      std::vector<double> sums(kPixels * 4);
      for (int tap = 0; tap < kTaps; ++tap) {
        if (!inside(kind / 3, tap / 3) || !inside(kind % 3, tap % 3)) continue;
        sums[kSkipBias * 4 + 3] += biases[out * kTaps + tap];
        for (int i = 0; i < kInputs; ++i) {
          const int y = tap / 3 + i % kTaps / 3, x = tap % 3 + i % 3;
          sums[(y * kSkipSide + x) * 4 + i / kTaps] += products[(out * kTaps + tap) * kInputs + i];
        }
      }
      std::copy(sums.begin(), sums.end(), weights.begin() + (kind * outs + out) * kPixels * 4);
    }
  }

  PackedSkip p;
  const float factor = weight_scale(weights);
  p.scale = 1 / (factor * unscale);
  const int bytes = skip_slab_bytes(tiles);
  p.weights = packer.take(static_cast<std::size_t>(kSkipKinds) * bytes);
  for (int kind = 0; kind < kSkipKinds; ++kind) {
    pack_rows(packer.bytes(p.weights + static_cast<std::size_t>(kind) * bytes, bytes),
              Operand::fp32, 2 * kSkipSteps, tiles, [&](int k, int out) {
                const SkipPixel at = skip_pixel(k / 16, k % 8 / 2);
                const int pixel = at.y * kSkipSide + at.x, number = k % 16 / 8 * 2 + k % 2;
                return at.twice || out >= outs
                           ? 0.F
                           : factor * weights[((kind * outs + out) * kPixels + pixel) * 4 + number];
              });
  }
  return p;
}

}  // namespace elan::cuda
