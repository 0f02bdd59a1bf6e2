// What a search has measured so far, kept in a file so that one that was interrupted goes on.
#pragma once

#include <fstream>
#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace elan::cli {

// The error of a plan on the pictures of the search.
struct PlanError {
  double mean = 0, largest = 0;  // absolute, of all pictures
  double worst_mean = 0;         // of the picture with the largest mean
};

// Lines of JSON: what is searched for, then one measurement a line, each written at once. A line
// that was cut off by the end of the process is measured again. Safe to use from several threads.
class TuneState {
 public:
  // `about`: one line that must be the same when the search goes on. An empty path keeps nothing.
  // Throws Error: usage (the file belongs to another search), input (cannot be read or written).
  TuneState(const std::string& path, const std::string& about);

  [[nodiscard]] std::optional<PlanError> error(const std::string& plan) const;
  void set_error(const std::string& plan, const PlanError& error);

  [[nodiscard]] std::optional<double> milliseconds(const std::string& plan) const;
  void set_milliseconds(const std::string& plan, double milliseconds);

 private:
  void write(const std::string& line);

  std::string path_;
  mutable std::mutex mutex_;
  std::ofstream out_;
  std::map<std::string, PlanError> errors_;
  std::map<std::string, double> times_;
};

}  // namespace elan::cli
