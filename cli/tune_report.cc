#include "tune_report.h"

#include <cstdio>
#include <map>
#include <utility>

#include "core/hardware.h"

namespace elan::cli {
namespace {

using Json = nlohmann::ordered_json;

// "fp16"; "fp16 on fp32" where the stream may differ from the operands.
std::string text_of(const SearchPart& part, const SearchOption& option) {
  const std::string text(to_string(option.precision));
  return part.stream.empty() ? text : text + " on " + std::string(to_string(option.stream));
}

std::string chosen_text(const TuneResult& result, std::size_t part) {
  const SearchPart& p = result.parts[part];
  return text_of(p, p.options[result.search.choice[part]]);
}

Json parts_report(const TuneResult& result) {
  Json parts = Json::array();
  for (std::size_t p = 0; p < result.parts.size(); ++p) {
    const SearchPart& part = result.parts[p];
    Json options = Json::array();
    for (const SearchOption& option : part.options) {
      options.push_back(
          {{"precision", text_of(part, option)}, {"error", option.error}, {"time", option.cost}});
    }
    parts.push_back({{"name", part.name},
                     {"operations", part.operations},
                     {"chosen", chosen_text(result, p)},
                     {"options", std::move(options)}});
  }
  return parts;
}

Json uniform_report(PlanMeter& meter, const std::vector<Precision>& precisions) {
  Json uniform = Json::array();
  for (const Precision precision : precisions) {
    const PrecisionPlan all(precision);
    if (!meter.simulated() && !meter.refusal(all).empty()) continue;
    const PlanError error = meter.error(all);
    uniform.push_back({{"precision", to_string(precision)},
                       {"mean_abs", error.mean},
                       {"max_abs", error.largest},
                       {"time", meter.milliseconds(all)}});
  }
  return uniform;
}

}  // namespace

std::string short_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

std::string tune_summary(const TuneResult& result, const TuneBounds& bounds,
                         const PlanMeter& meter) {
  std::map<std::string, int> counts;
  for (std::size_t p = 0; p < result.parts.size(); ++p) ++counts[chosen_text(result, p)];
  std::string text = "error " + short_number(result.error.mean) + " mean, " +
                     short_number(result.error.largest) + " largest; " + short_number(result.ms) +
                     " " + meter.unit() + " (" + std::string(to_string(meter.exact())) + ": " +
                     short_number(result.exact_ms) + ");";
  for (const auto& [option, count] : counts) {
    text += " " + std::to_string(count) + " " + option + ",";
  }
  text.back() = '\n';
  if (!result.search.met) {
    text += bounds.time ? "the time is not reached: this is the fastest plan\n"
                        : "the error is not reached: this is the most exact plan\n";
  }
  return text;
}

Json tune_report(const TuneResult& result, const TuneBounds& bounds, PlanMeter& meter,
                 const std::vector<Precision>& precisions, const nlohmann::json& run) {
  Json report{{"run", run}, {"hardware", hardware_name()}};
  report["error_bound"] = bounds.error ? Json(*bounds.error) : Json();
  report["time_bound_ms"] = bounds.time ? Json(*bounds.time) : Json();
  report["time_is"] = meter.unit();
  report["met"] = result.search.met;
  report["measurements"] = result.search.measurements;
  for (const TestPicture& picture : meter.pictures()) {
    report["pictures"].push_back(
        {{"name", picture.name}, {"width", picture.width}, {"height", picture.height}});
  }
  report["parts"] = parts_report(result);
  report["uniform"] = uniform_report(meter, precisions);
  report["predicted_error"] = predicted_error(result.parts, result.search.choice);
  report["predicted_time"] = predicted_cost(result.parts, result.search.choice);
  report["mean_abs"] = result.error.mean;
  report["max_abs"] = result.error.largest;
  report["time"] = result.ms;
  report["plan"] = Json::parse(result.plan.to_json());
  return report;
}

}  // namespace elan::cli
