// The division of a network into parts whose precision `tune` chooses.
#pragma once

#include <vector>

#include "quality/search.h"
#include "tune_meter.h"

namespace elan::cli {

// The finest division whose parts the meter's device lets run in another precision than the rest,
// with what each of them can run in: the exact precision first, then others of `precisions`.
// Errors and costs are 0. Throws Error (usage) where the device mixes no precisions.
std::vector<SearchPart> find_parts(const PlanMeter& meter,
                                   const std::vector<Precision>& precisions);

// All in `exact`, but for one part.
PrecisionPlan exact_but_for(Precision exact, const SearchPart& part, const SearchOption& option);

}  // namespace elan::cli
