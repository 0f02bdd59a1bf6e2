// From the name of a device to the backends that run on it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend.h"
#include "elan/engine.h"

namespace elan {

struct Device {
  std::string name;                                // "cpu", "reference", "cuda"
  std::vector<std::unique_ptr<Backend>> backends;  // one per processor; at least one
  std::vector<std::string> warnings;
  std::string precision_plan;  // one line of JSON; empty: one precision
};

// "cuda" is GPU 0, "cuda:0,2" the two. Throws Error (usage) for anything else, and for one named
// twice.
std::vector<int> cuda_indices(const std::string& device);

// "auto" takes the best device present that can run the network; any other name is taken at its
// word. Throws as Engine's constructor.
Device open_device(const Model& model, const EngineOptions& options);

}  // namespace elan
