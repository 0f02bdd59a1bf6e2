#include "timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

namespace elan::cli {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

}  // namespace

std::vector<double> time_runs(const TimingOptions& options, const std::function<void()>& body) {
  const auto start = Clock::now();
  if (!options.first_counts) {
    do body();
    while (milliseconds_since(start) < options.warm_up_ms);
  }

  std::vector<double> samples;
  double total = 0;
  while (static_cast<int>(samples.size()) < options.iterations || total < options.duration_ms) {
    const auto begin = Clock::now();
    body();
    samples.push_back(milliseconds_since(begin));
    total += samples.back();
  }
  return samples;
}

double percentile(std::vector<double> samples, double percent) {
  std::sort(samples.begin(), samples.end());
  const double rank = percent / 100 * static_cast<double>(samples.size() - 1);
  const auto below = static_cast<std::size_t>(std::floor(rank));
  const std::size_t above = std::min(below + 1, samples.size() - 1);
  return samples[below] + (rank - static_cast<double>(below)) * (samples[above] - samples[below]);
}

double mean(const std::vector<double>& samples) {
  return std::accumulate(samples.begin(), samples.end(), 0.0) / static_cast<double>(samples.size());
}

}  // namespace elan::cli
