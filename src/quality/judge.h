// How far a network in 8 bits is from the one in floating point, on the pictures it is calibrated
// with.
#pragma once

#include <cstddef>
#include <span>
#include <stop_token>
#include <vector>

#include "core/thread_pool.h"
#include "model/network.h"
#include "model/plan.h"
#include "model/reference.h"

namespace elan {

// Of the enlarged pictures: mean squared, mean and largest absolute difference in levels.
struct Distance {
  double squared = 0, mean = 0, largest = 0;
  double worst_mean = 0;  // the mean of the picture where it is largest
};

class Judge {
 public:
  // `enlarged`: what the network in floating point makes of the padded pictures. Refers to all its
  // arguments. Measures with the CPU engine where that can, else with the reference; `stop` makes
  // it throw Error (cancelled).
  Judge(std::span<const Planar<float>> pictures, std::span<const Planar<float>> enlarged,
        ThreadPool& pool, std::stop_token stop);

  // On `count` pictures, spread over all of them.
  [[nodiscard]] Distance distance(const Network& net, const PrecisionPlan& plan,
                                  std::size_t count) const;

  // On all pictures, from the very same network with exact activations (-p fp32).
  [[nodiscard]] Distance distance_from_exact(const Network& net) const;

 private:
  const std::span<const Planar<float>> pictures_;
  std::vector<std::vector<float>> expected_;  // [height][width][3]
  ThreadPool& pool_;
  const std::stop_token stop_;
};

}  // namespace elan
