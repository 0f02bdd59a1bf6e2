// Compares two runs of a network stage by stage while both are under way, so that no more than one
// stage of each is held at a time.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "backend.h"
#include "quality/compare.h"
#include "test_pictures.h"

namespace elan::cli {

struct StageErrors {
  std::string stage;
  ErrorStatistics values;
  double square_error = 0, square_reference = 0;  // sums
};

// Adds the errors of one picture to `stages`, in order of computation; those that only one of the
// two backends shows are left out. Throws as Backend::run.
void add_stage_errors(Backend& run, Backend& reference, int scale, const TestPicture& picture,
                      std::vector<StageErrors>& stages);

// The same with stored stages, planar, in place of the second run. Throws Error (model) when their
// sizes differ.
using StoredStages = std::map<std::string, std::vector<float>>;
void add_stage_errors(Backend& run, const StoredStages& reference, int scale,
                      const TestPicture& picture, std::vector<StageErrors>& stages);

}  // namespace elan::cli
