// The division of a network into parts whose precision `tune` chooses.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "quality/search.h"
#include "tune_meter.h"

namespace elan::cli {

// What tune chooses from unless told otherwise, the exact one first. `quantized`: the model has the
// scales of 8 bits.
std::vector<Precision> usual_precisions(const std::string& device, bool quantized);

// The finest division whose parts the meter's device lets run in another precision than the rest,
// with what each of them can run in: the exact precision first, then others of `precisions`.
// Errors and costs are 0. Throws Error (usage) where the device mixes no precisions.
std::vector<SearchPart> find_parts(const PlanMeter& meter,
                                   const std::vector<Precision>& precisions);

// The division of a device that puts operations together (`groups`); `runs`: whether it can run a
// plan. A part with a stream of its own is offered also with the stream in FP16, which only what
// computes in FP16, or in 8 bits, keeps so. The first of `precisions` is the exact one.
std::vector<SearchPart> device_parts(const Architecture& arch,
                                     const std::vector<Precision>& precisions,
                                     const std::vector<std::vector<std::string>>& groups,
                                     const std::function<bool(const PrecisionPlan&)>& runs);

// All in `exact`, but for one part.
PrecisionPlan exact_but_for(Precision exact, const SearchPart& part, const SearchOption& option);

}  // namespace elan::cli
