// Timing loops and their statistics, in the words of trtexec.
#pragma once

#include <functional>
#include <vector>

namespace elan::cli {

struct TimingOptions {
  int warm_up_ms = 200;       // run at least this long, and once, before the clock starts
  int iterations = 10;        // at least
  int duration_ms = 3000;     // at least
  bool first_counts = false;  // no run before the clock starts
};

// Wall-clock milliseconds of every run of `body` after the warm-up.
std::vector<double> time_runs(const TimingOptions& options, const std::function<void()>& body);

// The value below which `percent` of the (unsorted, non-empty) samples lie, by linear
// interpolation between the closest ranks.
double percentile(std::vector<double> samples, double percent);

double mean(const std::vector<double>& samples);

}  // namespace elan::cli
