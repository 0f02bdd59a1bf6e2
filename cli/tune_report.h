// What a search has found, for people and for programs.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "quality/search.h"
#include "tune_meter.h"

namespace elan::cli {

struct TuneBounds {
  std::optional<double> error;  // mean absolute, in levels
  std::optional<double> time;   // milliseconds; one of the two is given
};

struct TuneResult {
  std::vector<SearchPart> parts;
  SearchResult search;
  PrecisionPlan plan = Precision::fp32;
  PlanError error;      // of the plan
  double ms = 0;        // of the plan
  double exact_ms = 0;  // of the exact precision
};

// "0.00412"
std::string short_number(double value);

// Errors, times and how many parts got what; ends with a newline.
std::string tune_summary(const TuneResult& result, const TuneBounds& bounds,
                         const PlanMeter& meter);

// Everything measured; `run` says on what. Measures the `precisions` one by one, too.
nlohmann::ordered_json tune_report(const TuneResult& result, const TuneBounds& bounds,
                                   PlanMeter& meter, const std::vector<Precision>& precisions,
                                   const nlohmann::json& run);

}  // namespace elan::cli
