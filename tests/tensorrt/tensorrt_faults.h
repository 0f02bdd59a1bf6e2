// Parts of tensorrt-check that measure nothing.
#pragma once

#include <string>
#include <vector>

namespace elan {

// Does what must fail, or must be made good with a warning, on this machine's TensorRT: one line a
// case. Models in FP32, of different weights. Returns how many cases went otherwise.
int check_faults(const std::string& model, const std::string& other, const std::string& folder);

// Parses, builds and runs graphs of nothing but padding by reflection, those of
// tools/check_tensorrt_rtx.py, and says what came of each. One with open sizes gets 1x1 to 512x512;
// of the others the name says 30x17 if it is not 1x1.
void check_graphs(const std::vector<std::string>& files);

}  // namespace elan
