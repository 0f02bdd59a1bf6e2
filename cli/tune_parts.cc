#include "tune_parts.h"

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "backend.h"
#include "elan/error.h"
#include "model/stages.h"

namespace elan::cli {
namespace {

// Operations grouped by the part of the name that `group` keeps.
template <typename Group>
std::vector<SearchPart> grouped(const Architecture& arch, Group&& group) {
  std::vector<SearchPart> parts;
  for (const std::string& operation : operation_names(arch)) {
    const std::string name = group(operation);
    auto at = std::find_if(parts.begin(), parts.end(),
                           [&](const SearchPart& p) { return p.name == name; });
    if (at == parts.end()) at = parts.insert(at, {name, {}, {}});
    at->operations.push_back(operation);
  }
  return parts;
}

// "body.3.gmsa.0" of "body.3.gmsa.0.qk".
std::string module_of(const std::string& operation) {
  std::size_t dots = 0, at = 0;
  while (at < operation.size() && (operation[at] != '.' || ++dots < 4)) ++at;
  return operation.substr(0, at);
}

// The first of the usual divisions that the device can mix. All blocks are like the first two.
std::vector<SearchPart> usual_parts(const PlanMeter& meter,
                                    const std::vector<Precision>& precisions) {
  const Architecture& arch = meter.model().architecture();
  const std::vector<std::vector<SearchPart>> divisions{
      grouped(arch, [](const std::string& operation) { return operation; }),
      grouped(arch, module_of), grouped(arch, [](const std::string& operation) {
        return operation.starts_with("body") ? std::string("body") : operation;
      })};
  std::string why;
  for (const std::vector<SearchPart>& division : divisions) {
    std::vector<SearchPart> parts;
    bool body = false;
    std::map<std::string, std::vector<Precision>> able;  // by kind
    for (SearchPart part : division) {
      const std::string kind = kind_of_operation(part.name);
      if (!able.contains(kind)) {
        for (std::size_t i = 1; i < precisions.size(); ++i) {
          const std::string text =
              meter.refusal(exact_but_for(meter.exact(), part, {precisions[i], 0, 0}));
          if (text.empty()) able[kind].push_back(precisions[i]);
          if (!text.empty() && kind.starts_with("body")) why = text;
        }
      }
      part.options.push_back({meter.exact(), 0, 0});
      for (const Precision precision : able[kind]) part.options.push_back({precision, 0, 0});
      if (part.options.size() > 1) {
        body |= kind.starts_with("body");
      }
      parts.push_back(std::move(part));
    }
    if (body) return parts;
  }
  throw Error(ErrorKind::usage, "tune: expected a device that mixes precisions; " + why);
}

}  // namespace

std::vector<Precision> usual_precisions(const std::string& device, bool quantized) {
  if (device == "cpu" && quantized) return {Precision::fp32, Precision::bf16, Precision::int8};
  if (device == "cpu") return {Precision::fp32, Precision::bf16};
  std::vector<Precision> list{Precision::fp32, Precision::tf32, Precision::fp16, Precision::bf16};
  if (device == "cuda") list.push_back(Precision::fp8);
  // Without scales a plan's int8 is another name for fp16 or fp32.
  if (device == "cuda" && quantized) list.push_back(Precision::int8);
  return list;
}

PrecisionPlan exact_but_for(Precision exact, const SearchPart& part, const SearchOption& option) {
  PrecisionPlan plan(exact);
  for (const std::string& operation : part.operations) plan.set(operation, option.precision);
  if (!part.stream.empty()) plan.set(part.stream, option.stream);
  return plan;
}

std::vector<SearchPart> device_parts(const Architecture& arch,
                                     const std::vector<Precision>& precisions,
                                     const std::vector<std::vector<std::string>>& groups,
                                     const std::function<bool(const PrecisionPlan&)>& runs) {
  const Precision first = precisions.front();
  const std::vector<std::string> streams = stream_names(arch);
  std::vector<SearchPart> parts;
  std::map<std::string, std::vector<SearchOption>> able;  // by kind
  for (const auto& operations : groups) {
    SearchPart part{operations.front(), operations, {}, {}};
    const auto outside = [&](const std::string& operation) {
      return operation != part.name && !operation.starts_with(part.name + ".");
    };
    while (std::any_of(operations.begin(), operations.end(), outside)) {
      part.name.resize(part.name.rfind('.'));
    }
    if (part.name == "residual") continue;
    const auto stream = std::find(streams.begin(), streams.end(), part.name + ".residual");
    if (stream != streams.end()) part.stream = *stream;
    const std::string kind = kind_of_operation(part.name);
    if (!able.contains(kind)) {
      for (const Precision precision : precisions) {
        for (const Precision kept : precisions) {
          const bool exact = kept == first;
          const bool narrow =
              !part.stream.empty() && kept == Precision::fp16 &&
              (precision == kept || precision == Precision::int8 || precision == Precision::fp8);
          const SearchOption option{precision, 0, 0, kept};
          if ((exact || narrow) && runs(exact_but_for(first, part, option))) {
            able[kind].push_back(option);
          }
        }
      }
    }
    part.options = able[kind];
    parts.push_back(std::move(part));
  }
  return parts;
}

std::vector<SearchPart> find_parts(const PlanMeter& meter,
                                   const std::vector<Precision>& precisions) {
  const auto groups = meter.engine_of(PrecisionPlan(meter.exact())).backend().operation_groups();
  if (groups.empty()) return usual_parts(meter, precisions);
  return device_parts(meter.model().architecture(), precisions, groups,
                      [&meter](const PrecisionPlan& plan) { return meter.refusal(plan).empty(); });
}

}  // namespace elan::cli
