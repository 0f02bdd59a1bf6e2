#include "model/plan.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "core/printable.h"
#include "elan/error.h"
#include "model/stages.h"

namespace elan {
namespace {

constexpr std::string_view kResidual = "residual", kOfElab = ".residual",
                           kMetadata = "__metadata__";
constexpr std::size_t kLongestFile = 1 << 20;  // bytes; a plan that names every operation has 20 KB

[[noreturn]] void fail(std::string_view name, const std::string& message) {
  throw Error(ErrorKind::model, std::string(name) + ": " + message);
}

// Receives the parser's events, for a parsed object does not tell of a key that it had twice.
class PlanEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::optional<std::string> fallback;
  std::map<std::string, std::string> rules, metadata;
  std::string problem;

  bool start_object(std::size_t /*unused*/) override {
    if (depth_ == 0 || (depth_ == 1 && key_ == kMetadata && !has_metadata_)) {
      has_metadata_ = has_metadata_ || depth_ == 1;
      ++depth_;
      return true;
    }
    if (depth_ == 1 && key_ == kMetadata) return twice();
    return unexpected("an object");
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool key(std::string& name) override {
    key_ = name;
    return true;
  }
  bool string(std::string& value) override {
    if (depth_ == 0 || (depth_ == 1 && key_ == kMetadata)) return unexpected("a text");
    if (depth_ == 1 && key_ == "default") {
      if (fallback) return twice();
      fallback = value;
      return true;
    }
    return (depth_ == 1 ? rules : metadata).emplace(key_, value).second || twice();
  }
  bool start_array(std::size_t /*unused*/) override { return unexpected("an array"); }
  bool end_array() override { return false; }
  bool null() override { return unexpected("null"); }
  bool boolean(bool value) override { return unexpected(value ? "true" : "false"); }
  bool number_integer(std::int64_t value) override { return unexpected(std::to_string(value)); }
  bool number_unsigned(std::uint64_t value) override { return unexpected(std::to_string(value)); }
  bool number_float(double /*unused*/, const std::string& text) override {
    return unexpected(printable(text));
  }
  bool binary(nlohmann::json::binary_t& /*unused*/) override { return unexpected("bytes"); }
  bool parse_error(std::size_t position, const std::string& /*unused*/,
                   const nlohmann::json::exception& /*unused*/) override {
    return reject("expected JSON, found an error at byte " + std::to_string(position));
  }

 private:
  bool reject(std::string text) {
    problem = std::move(text);
    return false;
  }
  bool twice() { return reject(printable(key_) + ": expected the key once, found it twice"); }
  bool unexpected(const std::string& found) {
    if (depth_ == 0) return reject("expected a JSON object of precisions, found " + found);
    const bool about = depth_ == 2 || key_ == kMetadata;
    return reject((depth_ == 2 ? std::string(kMetadata) + ": " : "") + printable(key_) +
                  (about ? ": expected texts, found " : ": expected a precision, found ") + found);
  }

  int depth_ = 0;
  std::string key_;
  bool has_metadata_ = false;
};

bool is_pattern(std::string_view text) {
  return text.find_first_of("*?") != std::string_view::npos;
}

std::size_t literal_characters(std::string_view pattern) {
  return pattern.size() -
         static_cast<std::size_t>(std::count(pattern.begin(), pattern.end(), '*')) -
         static_cast<std::size_t>(std::count(pattern.begin(), pattern.end(), '?'));
}

using Rules = std::map<std::string, Precision>;

// The rules that match the operation best: more than one where they do so equally well.
std::vector<const Rules::value_type*> best_rules(const Rules& rules, std::string_view operation) {
  std::vector<const Rules::value_type*> best;
  for (const auto& rule : rules) {
    if (rule.first == kResidual || !matches(rule.first, operation)) continue;
    if (rule.first.ends_with(kOfElab) != operation.ends_with(kOfElab)) continue;
    const std::size_t length = literal_characters(rule.first);
    if (!best.empty() && length < literal_characters(best.front()->first)) continue;
    if (!best.empty() && length > literal_characters(best.front()->first)) best.clear();
    best.push_back(&rule);
  }
  return best;
}

// All that a plan may name.
std::vector<std::string> names_of(const Architecture& arch) {
  std::vector<std::string> names = operation_names(arch);
  const std::vector<std::string> streams = stream_names(arch);
  names.insert(names.end(), streams.begin(), streams.end());
  return names;
}

std::string json_text(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string list_of(const std::vector<Precision>& precisions) {
  std::string text;
  for (std::size_t i = 0; i < precisions.size(); ++i) {
    text += (i == 0                       ? ""
             : i + 1 == precisions.size() ? " or "
                                          : ", ") +
            std::string(to_string(precisions[i]));
  }
  return text;
}

}  // namespace

bool matches(std::string_view pattern, std::string_view name) {
  std::size_t p = 0, n = 0;
  std::size_t star = std::string_view::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {  // the last * takes one character more
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

PrecisionPlan PrecisionPlan::parse(std::string_view json, std::string_view name,
                                   Precision fallback) {
  PlanEvents events;
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &events)) fail(name, events.problem);
  const auto precision = [&](const std::string& key, const std::string& text) {
    try {
      return parse_precision(printable(text));
    } catch (const Error& error) {
      fail(name, printable(key) + ": " + error.what());
    }
  };
  PrecisionPlan plan(events.fallback ? precision("default", *events.fallback) : fallback);
  plan.name_ = name;
  for (const auto& [key, text] : events.rules) plan.rules_[key] = precision(key, text);
  plan.metadata_ = std::move(events.metadata);
  return plan;
}

PrecisionPlan PrecisionPlan::read(const std::string& path_or_json, Precision fallback) {
  if (path_or_json.starts_with('{')) return parse(path_or_json, "plan", fallback);
  const std::string name = printable(path_or_json);
  if (std::filesystem::is_directory(path_or_json)) fail(name, "expected a plan, found a folder");
  errno = 0;
  std::ifstream in(path_or_json, std::ios::binary);
  if (!in) fail(name, std::string("expected a plan, found: ") + std::strerror(errno));
  std::string text(kLongestFile + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kLongestFile) fail(name, "expected a plan of at most 1 MiB, found more");
  return parse(text, name, fallback);
}

void PrecisionPlan::check(const Architecture& arch) const {
  std::vector<std::string> operations = names_of(arch);
  std::erase(operations, kResidual);
  for (const auto& [pattern, precision] : rules_) {
    if (pattern == kResidual) continue;
    const bool used = std::any_of(
        operations.begin(), operations.end(), [&, &p = pattern](const std::string& name) {
          return matches(p, name) && p.ends_with(kOfElab) == name.ends_with(kOfElab);
        });
    if (!used) {
      fail(name_, printable(pattern) +
                      (is_pattern(pattern) ? ": expected a pattern that matches an operation"
                                           : ": expected an operation") +
                      " of this network (such as " + operations[2] + "), found " +
                      (is_pattern(pattern) ? "one that matches none" : "no such name"));
    }
  }
  for (const std::string& operation : operations) {
    const auto best = best_rules(rules_, operation);
    for (const auto* rule : best) {
      if (rule->second == best.front()->second) continue;
      fail(name_, printable(rule->first) + ": expected one best match for " + operation +
                      ", found " + printable(best.front()->first) + " to match as well");
    }
  }
}

Precision PrecisionPlan::at(std::string_view operation) const {
  if (operation == kResidual) {
    const auto rule = rules_.find(std::string(kResidual));
    if (rule != rules_.end()) return rule->second;
    return default_ == Precision::fp64 ? Precision::fp64 : Precision::fp32;
  }
  const auto best = best_rules(rules_, operation);
  if (best.empty() && operation.ends_with(kOfElab)) return at(kResidual);
  return best.empty() ? default_ : best.front()->second;
}

std::string PrecisionPlan::to_json() const {
  std::string text = "{\"default\":" + json_text(to_string(default_));
  for (const auto& [pattern, precision] : rules_) {
    text += "," + json_text(pattern) + ":" + json_text(to_string(precision));
  }
  return text + "}";
}

std::string PrecisionPlan::to_file() const {
  std::string text = "{\n  \"default\": " + json_text(to_string(default_));
  for (const auto& [pattern, precision] : rules_) {
    text += ",\n  " + json_text(pattern) + ": " + json_text(to_string(precision));
  }
  if (!metadata_.empty()) {
    text += ",\n  " + json_text(kMetadata) + ": {";
    const char* between = "\n    ";
    for (const auto& [key, value] : metadata_) {
      text += between + json_text(key) + ": " + json_text(value);
      between = ",\n    ";
    }
    text += "\n  }";
  }
  return text + "\n}\n";
}

Precision single_precision(const PrecisionPlan& plan, const Architecture& arch,
                           std::string_view device) {
  const std::vector<std::string> operations = names_of(arch);
  const Precision first = plan.at(operations.front());
  for (const std::string& operation : operations) {
    const bool stream = operation == kResidual || operation.ends_with(kOfElab);
    const Precision expected = stream ? PrecisionPlan(first).at(kResidual) : first;
    if (plan.at(operation) == expected) continue;
    throw Error(ErrorKind::usage, "device " + std::string(device) + ": " + operation +
                                      ": expected " + std::string(to_string(expected)) + ", as " +
                                      operations.front() +
                                      " is in the plan (this device does not mix), found " +
                                      std::string(to_string(plan.at(operation))));
  }
  return first;
}

void check_able(const PrecisionPlan& plan, const Architecture& arch, std::string_view device,
                const std::function<std::vector<Precision>(std::string_view operation)>& able) {
  for (const std::string& operation : names_of(arch)) {
    const std::vector<Precision> list =
        able(operation.ends_with(kOfElab) ? kResidual : std::string_view(operation));
    if (std::find(list.begin(), list.end(), plan.at(operation)) != list.end()) continue;
    throw Error(ErrorKind::usage, "device " + std::string(device) + ": " + operation +
                                      ": expected " + list_of(list) + ", found " +
                                      std::string(to_string(plan.at(operation))));
  }
}

}  // namespace elan
