// Chooses a precision for each part of a network from what each part alone costs and spoils: the
// cheapest choice under a bound on the error of the result, or the most accurate one in a given
// time. Knows no network and no device, so it is tested with made-up numbers.
//
// Rounding errors of different parts are taken for independent: their squares add up. What that
// gets wrong, a few measurements of whole choices put right.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "model/plan.h"

namespace elan {

// One precision that a part can run in.
struct SearchOption {
  Precision precision = Precision::fp32;
  double error = 0;                    // of the result, when this part alone runs in it
  double cost = 0;                     // time of this part
  Precision stream = Precision::fp32;  // what the part's stream is kept in
};

// Operations that change their precision together.
struct SearchPart {
  std::string name;
  std::vector<std::string> operations;
  std::vector<SearchOption> options;  // the first is the exact one, of error 0
  std::string stream = {};            // the name of its stream, which is no operation; empty: none
};

// For each part the index of its option.
using Choice = std::vector<std::size_t>;

double predicted_error(const std::vector<SearchPart>& parts, const Choice& choice);
double predicted_cost(const std::vector<SearchPart>& parts, const Choice& choice);

// Greedy by cost saved for each square of error, ties in the order of the parts.
Choice cheapest_choice(const std::vector<SearchPart>& parts, double predicted_error);
// The same until the predicted cost is reached; the cheapest of all where it cannot be.
Choice most_accurate_choice(const std::vector<SearchPart>& parts, double predicted_cost);

struct SearchResult {
  Choice choice;
  double error = 0;  // as measured
  double cost = 0;   // as predicted for a bound on the error, as measured for one on the time
  bool met = false;  // the bound is kept
  int measurements = 0;
};

// Measures whole choices and corrects the prediction until the bound is met closely.
SearchResult search_cheapest(const std::vector<SearchPart>& parts, double error_bound,
                             const std::function<double(const Choice&)>& measure_error);
SearchResult search_most_accurate(const std::vector<SearchPart>& parts, double cost_bound,
                                  const std::function<double(const Choice&)>& measure_cost,
                                  const std::function<double(const Choice&)>& measure_error);

// The choice as a short plan: a default, a rule for each kind of operation that mostly differs from
// it, and the exceptions by name.
PrecisionPlan plan_of(const std::vector<SearchPart>& parts, const Choice& choice);

// The name of an operation with the numbers of its block and pair replaced by *.
std::string kind_of_operation(const std::string& operation);

}  // namespace elan
