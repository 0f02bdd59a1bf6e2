// Looks at what the matrices of a network multiply, and finds scales for it in 8 bits.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "core/thread_pool.h"
#include "model/network.h"
#include "model/reference.h"

namespace elan {

// How the largest value that 127 stands for is found: the largest seen; one that 1 in 10,000
// exceed; the one that keeps most of the distribution (Kullback-Leibler divergence); the one with
// the least mean squared error.
enum class Observer : std::uint8_t { max, percentile, entropy, mse };

std::string_view to_string(Observer observer);  // "max" and so on

// Some of the pixels that a matrix multiplied, as it sees them (after the shift).
struct OperandSamples {
  int channels = 0;
  std::vector<float> values;  // [pixels][channels]
  float largest = 0;          // absolute value, of all pixels and not only of these
  [[nodiscard]] std::size_t pixels() const {
    return channels == 0 ? 0 : values.size() / static_cast<std::size_t>(channels);
  }
};

struct OperandSet {
  std::map<std::string, OperandSamples> samples;  // by the names of OperandWatcher
  std::vector<Planar<float>> enlarged;            // the pictures
};

// Runs the network in floating point on padded pictures and keeps about `pixels` pixels of every
// operand. The same arguments give the same samples. `progress` gets the share done; throws Error
// (cancelled) when `stop` is set.
OperandSet sample_operands(const Network& net, std::span<const Planar<float>> pictures, int pixels,
                           std::uint64_t seed, ThreadPool& pool, std::stop_token stop,
                           const std::function<void(double)>& progress);

// The step of 8-bit values for these samples; `weight` says how much an error in each channel
// matters. Positive, and such that a file may hold it, whatever the samples.
float step_by(Observer observer, const OperandSamples& samples, std::span<const float> weight);

// Rounds a matrix: a step for each output, the one with the least squared error in the output for
// operands of these mean squares ([in]; empty: all alike).
QuantizedMatrix round_matrix(const Linear& matrix, float input_step,
                             std::span<const float> mean_square);

}  // namespace elan
