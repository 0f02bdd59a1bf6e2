#include "cpu/peak.h"

#include <algorithm>
#include <atomic>
#include <chrono>

namespace elan::cpu {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

double measure_peak_gflops(const Kernels& kernels, Operand operand, ThreadPool& pool) {
  constexpr int kProbes = 6;
  constexpr double kItemSeconds = 0.5e-3;
  constexpr std::size_t kItems = 32;  // to a thread, so that all finish at about the same time
  long rounds = 10'000;
  for (;;) {  // as many as take an item's time
    const Clock::time_point start = Clock::now();
    kernels.peak(operand, rounds);
    if (seconds_since(start) > kItemSeconds / 2) break;
    rounds *= 2;
  }
  double best = 0;
  for (int probe = 0; probe < kProbes; ++probe) {
    std::atomic<double> multiply_adds{0};
    const Clock::time_point start = Clock::now();
    pool.parallel_for(kItems * static_cast<std::size_t>(pool.size()), [&](std::size_t, int) {
      multiply_adds.fetch_add(kernels.peak(operand, rounds), std::memory_order_relaxed);
    });
    best = std::max(best, 2e-9 * multiply_adds.load() / seconds_since(start));
  }
  return best;
}

}  // namespace elan::cpu
