#include "quality/calibrate.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <mutex>
#include <numeric>
#include <utility>

#include "elan/error.h"

namespace elan {
namespace {

constexpr float kLevels = 127;
constexpr float kLeastStep = 1e-7F, kMostStep = 1e7F;  // well within what a file may hold

// Rounds to the nearest integer, halves to even, for values that a float holds to the half. Unlike
// std::nearbyint it is never a call.
inline float rounded(float v) {
  constexpr float kMagic = 12582912;  // 1.5 * 2^23
  return (v + kMagic) - kMagic;
}

// Integers from 0 to 2^64 - 1 in an order fixed by the seed (SplitMix64).
std::uint64_t next_random(std::uint64_t& state) {
  std::uint64_t z = state += 0x9E3779B97F4A7C15;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
  z = (z ^ z >> 27) * 0x94D049BB133111EB;
  return z ^ z >> 31;
}

// The taps in front of an operand's matrix; empty: none.
std::span<const std::uint8_t> taps_before(const Network& net, const std::string& operation) {
  for (std::size_t i = 0; i < net.body.size(); ++i) {
    for (std::size_t j = 0; j < net.body[i].lfe.size(); ++j) {
      const std::string lfe = "body." + std::to_string(i) + ".lfe." + std::to_string(j);
      if (operation == lfe + ".conv0") return net.body[i].lfe[j].conv0.taps;
      if (operation == lfe + ".conv1") return net.body[i].lfe[j].conv1.taps;
    }
  }
  return {};
}

// All channels of pixel (x, y) after the shift, to `to`.
void take_pixel(const Planar<float>& from, std::span<const std::uint8_t> taps, int x, int y,
                float* to) {
  for (int c = 0; c < from.channels; ++c) {
    const int dx = taps.empty() ? 0 : taps[c] % 3 - 1, dy = taps.empty() ? 0 : taps[c] / 3 - 1;
    const int sx = x + dx, sy = y + dy;
    const bool inside = sx >= 0 && sy >= 0 && sx < from.width && sy < from.height;
    to[c] = inside ? from.row(c, sy)[sx] : 0;
  }
}

// The weighted squared error of values rounded to multiples of `step`, of 127 steps at most.
double squared_error(const OperandSamples& samples, std::span<const float> weight, float step) {
  const float inverse = 1 / step;
  double total = 0;
  const auto channels = static_cast<std::size_t>(samples.channels);
  for (std::size_t begin = 0; begin < samples.values.size(); begin += channels) {
    const float* const x = samples.values.data() + begin;
    float sum = 0;
    for (std::size_t c = 0; c < channels; ++c) {
      const float level = std::min(std::max(rounded(x[c] * inverse), -kLevels), kLevels);
      const float error = x[c] - level * step;
      sum += weight[c] * error * error;
    }
    total += sum;
  }
  return total;
}

float step_by_mse(const OperandSamples& samples, std::span<const float> weight) {
  constexpr int kTried = 40;
  constexpr float kRatio = 0.96F;  // 0.96^39 is about a fifth
  float best = samples.largest / kLevels, step = best;
  double least = INFINITY;
  for (int i = 0; i < kTried; ++i, step *= kRatio) {
    const double error = squared_error(samples, weight, step);
    if (error < least) {
      least = error;
      best = step;
    }
  }
  return best;
}

std::vector<float> magnitudes(const OperandSamples& samples) {
  std::vector<float> values;
  values.reserve(samples.values.size());
  for (const float v : samples.values) values.push_back(std::abs(v));
  return values;
}

float step_by_percentile(const OperandSamples& samples) {
  constexpr double kShare = 1e-4;
  std::vector<float> values = magnitudes(samples);
  const auto above = static_cast<std::ptrdiff_t>(static_cast<double>(values.size()) * kShare);
  const auto at = values.end() - 1 - above;
  std::nth_element(values.begin(), at, values.end());
  return *at / kLevels;
}

// The threshold at which 128 levels tell least less than the histogram they are made from (as in
// Migacz, 8-bit inference with TensorRT, GTC 2017).
float step_by_entropy(const OperandSamples& samples) {
  constexpr int kBins = 2048, kLevelCount = 128, kStride = 16;
  std::vector<double> histogram(kBins);
  for (const float v : samples.values) {
    const auto bin = static_cast<int>(std::abs(v) / samples.largest * kBins);
    ++histogram[std::min(bin, kBins - 1)];
  }
  double least = INFINITY, outside = 0;
  int best = kBins;
  for (int end = kBins; end >= kLevelCount; --end) {
    if (end % kStride == 0) {
      double total = 0, divergence = 0;
      std::vector<double> clipped(histogram.begin(), histogram.begin() + end), coarse(end);
      for (int level = 0; level < kLevelCount; ++level) {
        const int from = level * end / kLevelCount, to = (level + 1) * end / kLevelCount;
        double sum = 0;
        int filled = 0;
        for (int b = from; b < to; ++b) {
          sum += clipped[b];
          filled += clipped[b] > 0 ? 1 : 0;
        }
        for (int b = from; b < to; ++b) coarse[b] = clipped[b] > 0 ? sum / filled : 0;
      }
      const double kept = std::accumulate(coarse.begin(), coarse.end(), 0.0);
      clipped.back() += outside;
      total = std::accumulate(clipped.begin(), clipped.end(), 0.0);
      for (int b = 0; b < end && kept > 0; ++b) {
        if (clipped[b] == 0) continue;
        const double q = coarse[b] > 0 ? coarse[b] / kept : 1 / total;
        divergence += clipped[b] / total * std::log(clipped[b] / total / q);
      }
      if (kept > 0 && divergence < least) {
        least = divergence;
        best = end;
      }
    }
    outside += histogram[end - 1];
  }
  return samples.largest * static_cast<float>(best) / kBins / kLevels;
}

}  // namespace

std::string_view to_string(Observer observer) {
  constexpr std::array<std::string_view, 4> kNames{"max", "percentile", "entropy", "mse"};
  return kNames.at(static_cast<std::size_t>(observer));
}

OperandSet sample_operands(const Network& net, std::span<const Planar<float>> pictures, int pixels,
                           std::uint64_t seed, ThreadPool& pool, std::stop_token stop,
                           const std::function<void(double)>& progress) {
  const int each = std::max(1, pixels / std::max(1, static_cast<int>(pictures.size())));
  std::vector<std::map<std::string, OperandSamples>> found(pictures.size());
  OperandSet all;
  all.enlarged.resize(pictures.size());
  std::mutex mutex;
  std::size_t done = 0;
  pool.parallel_for(pictures.size(), [&](std::size_t index, int) {
    const Planar<float>& picture = pictures[index];
    const OperandWatcher<float> watch = [&](const std::string& operation,
                                            const Planar<float>& value) {
      if (stop.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled");
      OperandSamples& samples = found[index][operation];
      samples.channels = value.channels;
      samples.values.resize(static_cast<std::size_t>(each) * value.channels);
      for (const float v : value.values) samples.largest = std::max(samples.largest, std::abs(v));
      const auto taps = taps_before(net, operation);
      std::uint64_t state = seed + index;
      for (int k = 0; k < each; ++k) {
        const std::uint64_t random = next_random(state);
        take_pixel(value, taps, static_cast<int>(random % value.width),
                   static_cast<int>((random >> 32) % value.height),
                   samples.values.data() + static_cast<std::size_t>(k) * value.channels);
      }
    };
    all.enlarged[index] = forward<float>(
        net, picture, [](const std::string&, const Planar<float>&) {}, Precision::fp32, watch);
    const std::lock_guard lock(mutex);
    ++done;
    if (progress) progress(static_cast<double>(done) / static_cast<double>(pictures.size()));
  });
  for (auto& of_picture : found) {
    for (auto& [operation, samples] : of_picture) {
      OperandSamples& to = all.samples[operation];
      to.channels = samples.channels;
      to.largest = std::max(to.largest, samples.largest);
      to.values.insert(to.values.end(), samples.values.begin(), samples.values.end());
    }
  }
  return all;
}

float step_by(Observer observer, const OperandSamples& samples, std::span<const float> weight) {
  if (!(samples.largest > 0) || !std::isfinite(samples.largest)) return 1;
  float step = samples.largest / kLevels;
  if (observer == Observer::percentile) step = step_by_percentile(samples);
  if (observer == Observer::entropy) step = step_by_entropy(samples);
  if (observer == Observer::mse) step = step_by_mse(samples, weight);
  return std::clamp(step, kLeastStep, kMostStep);
}

QuantizedMatrix round_matrix(const Linear& matrix, float input_step,
                             std::span<const float> mean_square) {
  constexpr int kTried = 30;
  constexpr float kRatio = 0.985F;  // 0.985^29 is about two thirds
  QuantizedMatrix int8;
  int8.input_scale = input_step;
  const auto in = static_cast<std::size_t>(matrix.in);
  for (std::size_t o = 0; o < matrix.bias.size(); ++o) {
    const float* const row = matrix.weight.data() + o * in;
    float largest = 0;
    for (std::size_t i = 0; i < in; ++i) largest = std::max(largest, std::abs(row[i]));
    const auto level = [row](std::size_t i, float step) {
      return std::min(std::max(rounded(row[i] / step), -kLevels), kLevels);
    };
    float best = std::clamp(largest / kLevels, kLeastStep, kMostStep), step = best;
    double least = INFINITY;
    for (int k = 0; k < kTried; ++k, step *= kRatio) {
      double total = 0;
      for (std::size_t i = 0; i < in; ++i) {
        const double error = row[i] - level(i, step) * step;
        total += error * error * (mean_square.empty() ? 1 : mean_square[i]);
      }
      if (total < least) {
        least = total;
        best = step;
      }
    }
    best = std::max(best, kLeastStep);
    int8.weight_scale.push_back(best);
    for (std::size_t i = 0; i < in; ++i) {
      int8.weight.push_back(static_cast<std::int8_t>(level(i, best)));
    }
  }
  return int8;
}

}  // namespace elan
