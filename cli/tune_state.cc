#include "tune_state.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "elan/error.h"
#include "terminal.h"

namespace elan::cli {
namespace {

using Json = nlohmann::json;

// JSON has no infinity.
double finite(double value) {
  return std::min(value, 1e300);
}

template <typename T>
std::optional<T> find(const std::map<std::string, T>& map, const std::string& key) {
  const auto at = map.find(key);
  return at == map.end() ? std::nullopt : std::optional<T>(at->second);
}

}  // namespace

TuneState::TuneState(const std::string& path, const std::string& about) : path_(path) {
  if (path.empty()) return;
  const std::string name = printable(path, false);
  const Json expected{{"search", about}};
  const bool exists = std::filesystem::exists(path);
  std::string kept = expected.dump() + "\n";
  if (exists) {
    std::ifstream in(path);
    std::string line;
    if (!std::getline(in, line))
      throw Error(ErrorKind::input, name + ": expected a state, found nothing");
    const Json first = Json::parse(line, nullptr, false);
    if (first != expected) {
      throw Error(ErrorKind::usage, name +
                                        ": expected the state of this search (same model, device, "
                                        "pictures and options), found another; remove it to begin "
                                        "again");
    }
    while (std::getline(in, line)) {
      const Json entry = Json::parse(line, nullptr, false);
      if (!entry.is_object() || !entry.contains("plan")) break;  // cut off
      const std::string plan = entry.at("plan");
      if (entry.contains("ms")) {
        times_[plan] = entry.at("ms");
      } else {
        errors_[plan] = {entry.at("mean"), entry.at("largest"), entry.at("worst_mean")};
      }
      kept += line + "\n";
    }
  }
  out_.open(path, std::ios::trunc);
  write(kept);
}

void TuneState::write(const std::string& line) {
  if (path_.empty()) return;
  out_ << line << std::flush;
  if (!out_) throw Error(ErrorKind::input, printable(path_, false) + ": cannot be written");
}

std::optional<PlanError> TuneState::error(const std::string& plan) const {
  const std::lock_guard lock(mutex_);
  return find(errors_, plan);
}

void TuneState::set_error(const std::string& plan, const PlanError& error) {
  const std::lock_guard lock(mutex_);
  errors_[plan] = error;
  write(Json{{"plan", plan},
             {"mean", finite(error.mean)},
             {"largest", finite(error.largest)},
             {"worst_mean", finite(error.worst_mean)}}
            .dump() +
        "\n");
}

std::optional<double> TuneState::milliseconds(const std::string& plan) const {
  const std::lock_guard lock(mutex_);
  return find(times_, plan);
}

void TuneState::set_milliseconds(const std::string& plan, double milliseconds) {
  const std::lock_guard lock(mutex_);
  times_[plan] = milliseconds;
  write(Json{{"plan", plan}, {"ms", milliseconds}}.dump() + "\n");
}

}  // namespace elan::cli
