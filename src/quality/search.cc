#include "quality/search.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>

namespace elan {
namespace {

constexpr int kMostMeasurements = 10;
constexpr double kCloseEnough = 0.97;  // of the bound

struct Step {
  std::size_t part = 0, option = 0;
  double ratio = -1;  // cost saved for a square of error
};

double square(double x) {
  return x * x;
}

// The best change of one part that saves cost and passes `allowed` (the error's square it adds).
template <typename Allowed>
Step best_step(const std::vector<SearchPart>& parts, const Choice& choice, Allowed&& allowed) {
  Step best;
  for (std::size_t p = 0; p < parts.size(); ++p) {
    const SearchOption& now = parts[p].options[choice[p]];
    for (std::size_t o = 0; o < parts[p].options.size(); ++o) {
      const SearchOption& next = parts[p].options[o];
      const double saved = now.cost - next.cost;
      const double added = square(next.error) - square(now.error);
      if (saved <= 0 || !allowed(added)) continue;
      const double ratio = saved / std::max(added, 1e-30);
      if (ratio > best.ratio) best = {p, o, ratio};
    }
  }
  return best;
}

template <typename T>
T most_common(const std::map<T, int>& counts) {
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

}  // namespace

double predicted_error(const std::vector<SearchPart>& parts, const Choice& choice) {
  double sum = 0;
  for (std::size_t p = 0; p < parts.size(); ++p) sum += square(parts[p].options[choice[p]].error);
  return std::sqrt(sum);
}

double predicted_cost(const std::vector<SearchPart>& parts, const Choice& choice) {
  double sum = 0;
  for (std::size_t p = 0; p < parts.size(); ++p) sum += parts[p].options[choice[p]].cost;
  return sum;
}

Choice cheapest_choice(const std::vector<SearchPart>& parts, double error) {
  Choice choice(parts.size(), 0);
  const double budget = square(error);
  double spent = 0;
  for (;;) {
    const Step step =
        best_step(parts, choice, [&](double added) { return spent + added <= budget; });
    if (step.ratio < 0) return choice;
    choice[step.part] = step.option;
    spent = square(predicted_error(parts, choice));
  }
}

Choice most_accurate_choice(const std::vector<SearchPart>& parts, double cost) {
  Choice choice(parts.size(), 0);
  while (predicted_cost(parts, choice) > cost) {
    const Step step = best_step(parts, choice, [](double) { return true; });
    if (step.ratio < 0) return choice;
    choice[step.part] = step.option;
  }
  // The last steps may have saved so much that earlier ones were not needed: the worst go first.
  std::vector<std::size_t> order(parts.size());
  std::iota(order.begin(), order.end(), 0);
  const auto error = [&](std::size_t p) { return parts[p].options[choice[p]].error; };
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::tuple(error(b), a) < std::tuple(error(a), b);
  });
  for (const std::size_t p : order) {
    const std::size_t before = std::exchange(choice[p], 0);
    if (predicted_cost(parts, choice) > cost) choice[p] = before;
  }
  return choice;
}

SearchResult search_cheapest(const std::vector<SearchPart>& parts, double error_bound,
                             const std::function<double(const Choice&)>& measure_error) {
  SearchResult best;
  best.choice.assign(parts.size(), 0);
  best.cost = predicted_cost(parts, best.choice);
  best.met = error_bound >= 0;
  double budget = error_bound, low = 0, high = std::numeric_limits<double>::infinity();
  Choice tried;
  for (int i = 0; i < kMostMeasurements; ++i) {
    const Choice choice = cheapest_choice(parts, budget);
    if (choice == tried) break;
    tried = choice;
    const double error = measure_error(choice);
    ++best.measurements;
    const double cost = predicted_cost(parts, choice);
    const bool met = error <= error_bound;
    if (met && cost < best.cost) {
      best.choice = choice;
      best.error = error;
      best.cost = cost;
    }
    (met ? low : high) = budget;
    if (met && error >= kCloseEnough * error_bound) break;
    // What was wrong by a factor is assumed to be so again; between what is known to do and what
    // is known not to.
    double next = error > 0 ? budget * 0.99 * error_bound / error : 2 * budget;
    if (next <= low || next >= high) {
      next = std::isinf(high) ? 2 * budget : (low + high) / 2;
    }
    budget = next;
  }
  return best;
}

SearchResult search_most_accurate(const std::vector<SearchPart>& parts, double cost_bound,
                                  const std::function<double(const Choice&)>& measure_cost,
                                  const std::function<double(const Choice&)>& measure_error) {
  SearchResult result;
  double budget = cost_bound;
  Choice tried;
  for (int i = 0; i < kMostMeasurements; ++i) {
    const Choice choice = most_accurate_choice(parts, budget);
    if (choice == tried) break;
    tried = result.choice = choice;
    result.cost = measure_cost(choice);
    ++result.measurements;
    result.met = result.cost <= cost_bound;
    if (result.met) break;
    budget *= std::min(0.98, cost_bound / result.cost);
  }
  result.error = measure_error(result.choice);
  return result;
}

std::string kind_of_operation(const std::string& operation) {
  std::string kind;
  for (std::size_t i = 0; i < operation.size(); ++i) {
    const bool digits = std::isdigit(static_cast<unsigned char>(operation[i])) != 0 && i > 0 &&
                        (operation[i - 1] == '.' || kind.back() == '*');
    if (!digits) {
      kind += operation[i];
    } else if (kind.back() != '*') {
      kind += '*';
    }
  }
  return kind;
}

PrecisionPlan plan_of(const std::vector<SearchPart>& parts, const Choice& choice) {
  std::map<Precision, int> all, streams;
  std::map<std::string, std::map<Precision, int>> kinds;
  for (std::size_t p = 0; p < parts.size(); ++p) {
    if (!parts[p].stream.empty()) ++streams[parts[p].options[choice[p]].stream];
    for (const std::string& operation : parts[p].operations) {
      if (operation == "residual") continue;
      const Precision precision = parts[p].options[choice[p]].precision;
      ++all[precision];
      ++kinds[kind_of_operation(operation)][precision];
    }
  }
  PrecisionPlan plan(most_common(all));
  for (const auto& [kind, counts] : kinds) {
    if (most_common(counts) != plan.default_precision()) plan.set(kind, most_common(counts));
  }
  if (!streams.empty()) plan.set("residual", most_common(streams));
  for (std::size_t p = 0; p < parts.size(); ++p) {
    const SearchOption& option = parts[p].options[choice[p]];
    const Precision precision = option.precision;
    const std::string& stream = parts[p].stream;
    if (!stream.empty() && plan.at(stream) != option.stream) plan.set(stream, option.stream);
    for (const std::string& operation : parts[p].operations) {
      if (plan.at(operation) != precision) plan.set(operation, precision);
    }
  }
  return plan;
}

}  // namespace elan
