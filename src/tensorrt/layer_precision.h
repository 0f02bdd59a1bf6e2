// What TensorRT 8.6 is told about a layer: later versions read precisions off the graph.
#pragma once

#include <optional>
#include <string_view>

#include "model/plan.h"

namespace elan::tensorrt {

// fp16 or fp32 for the layer that the parser made of the graph's node of this name; nothing where
// the operation is in 8 bits and its QuantizeLinear decides.
std::optional<Precision> layer_precision(std::string_view layer, const PrecisionPlan& plan);

}  // namespace elan::tensorrt
