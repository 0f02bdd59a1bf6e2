#include "reporter.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "elan/version.h"
#include "terminal.h"

namespace elan::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr auto kInterval = std::chrono::milliseconds(100);  // between two reports of progress

void write_json(const Json& object) {
  write_stderr(object.dump() + "\n");
}

Json event(const char* name) {
  return Json{{"event", name}};
}

Json event(const char* name, const FileJob& job) {
  Json object = event(name);
  object["input"] = valid_utf8(job.input.path.string());
  object["output"] = valid_utf8(job.output.path.string());
  return object;
}

Json text_or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(valid_utf8(text));
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
  return std::round(passed.count() * 1000) / 1000;
}

std::string clock_text(double seconds) {
  const auto s = static_cast<long long>(std::min(std::ceil(seconds), 359999.0));
  std::array<char, 32> text{};
  if (s >= 3600) {
    std::snprintf(text.data(), text.size(), "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
  } else {
    std::snprintf(text.data(), text.size(), "%lld:%02lld", s / 60, s % 60);
  }
  return text.data();
}

std::string size_text(int width, int height) {
  return std::to_string(width) + "x" + std::to_string(height);
}

}  // namespace

ProgressMode parse_progress(const std::string& text) {
  if (text == "json") return ProgressMode::json;
  if (text == "none") return ProgressMode::none;
  if (text != "auto") {
    throw Error(ErrorKind::usage, "--progress: expected auto, json or none, found " + text);
  }
  return stderr_rewrites_lines() ? ProgressMode::line : ProgressMode::none;
}

Reporter::Reporter(ProgressMode mode, bool verbose)
    : mode_(mode),
      verbose_(verbose),
      terminal_(stderr_is_terminal()),
      line_(mode == ProgressMode::line) {}

void Reporter::start(const StartInfo& info) {
  const std::lock_guard lock(mutex_);
  total_ = info.pictures;
  if (mode_ != ProgressMode::json) return;
  Json object = event("start");
  object["version"] = std::string(version());
  object["pictures"] = info.pictures;
  object["model"] = text_or_null(info.model);
  object["scale"] = info.scale == 0 ? Json(nullptr) : Json(info.scale);
  object["device"] = text_or_null(info.device);
  object["precision"] = text_or_null(info.precision);
  write_json(object);
}

void Reporter::begin(const FileJob& job) {
  const std::lock_guard lock(mutex_);
  active_[&job] = {0, Clock::now(), {}};
  draw(false);
}

void Reporter::progress(const FileJob& job, double share) {
  const std::lock_guard lock(mutex_);
  const auto found = active_.find(&job);
  if (found == active_.end()) return;
  Active& active = found->second;
  active.share = std::max(active.share, std::clamp(share, 0.0, 1.0));
  if (mode_ == ProgressMode::json && Clock::now() - active.told >= kInterval) {
    active.told = Clock::now();
    Json object = event("progress", job);
    object["share"] = std::round(active.share * 10000) / 10000;
    write_json(object);
  }
  draw(false);
}

void Reporter::done(const FileJob& job, const UpscaleResult& result) {
  const std::lock_guard lock(mutex_);
  const double seconds = seconds_since(active_[&job].began);
  active_.erase(&job);
  ++done_;
  megapixels_ += 1e-6 * result.out_width * result.out_height;
  for (const std::string& text : result.warnings) {
    message("warning", job.input.path.string(), text);
  }
  if (mode_ == ProgressMode::json) {
    Json object = event("done", job);
    object["width"] = result.out_width;
    object["height"] = result.out_height;
    object["in_width"] = result.in_width;
    object["in_height"] = result.in_height;
    object["seconds"] = seconds;
    write_json(object);
  } else if (verbose_) {
    std::array<char, 32> time{};
    std::snprintf(time.data(), time.size(), "%.2f s", seconds);
    message("", "",
            job.input.path.string() + " (" + size_text(result.in_width, result.in_height) +
                ") -> " + job.output.path.string() + " (" +
                size_text(result.out_width, result.out_height) + "), " + time.data());
  }
  draw(true);
}

void Reporter::skipped(const FileJob& job) {
  const std::lock_guard lock(mutex_);
  ++skipped_;
  if (mode_ == ProgressMode::json) {
    write_json(event("skipped", job));
  } else if (verbose_) {
    message("", "",
            job.input.path.string() + ": skipped, " + job.output.path.string() + " exists already");
  }
}

void Reporter::warning(std::string_view name, std::string_view text) {
  const std::lock_guard lock(mutex_);
  message("warning", name, text);
  draw(false);
}

void Reporter::error(std::string_view name, std::string_view text, int status) {
  const std::lock_guard lock(mutex_);
  count_failure(name, text, status);
}

void Reporter::failed(const FileJob& job, std::string_view name, std::string_view text,
                      int status) {
  const std::lock_guard lock(mutex_);
  active_.erase(&job);
  count_failure(name, text, status);
  draw(true);
}

void Reporter::failed_quietly(const FileJob& job) {
  const std::lock_guard lock(mutex_);
  ++failed_;
  worst_ = std::max(worst_, 1);
  active_.erase(&job);
}

void Reporter::remark(std::string_view text) {
  const std::lock_guard lock(mutex_);
  if (mode_ == ProgressMode::line || (verbose_ && mode_ == ProgressMode::none)) {
    message("", "", text);
  }
}

void Reporter::end(int status) {
  const std::lock_guard lock(mutex_);
  line_.clear();
  const double seconds = seconds_since(began_);
  if (mode_ == ProgressMode::json) {
    write_json({{"event", "end"},
                {"done", done_},
                {"skipped", skipped_},
                {"failed", failed_},
                {"seconds", seconds},
                {"status", status}});
    return;
  }
  if (mode_ != ProgressMode::line && !verbose_) return;
  std::array<char, 96> rate{};
  std::snprintf(rate.data(), rate.size(), " in %.1f s (%.2f MP/s)", seconds,
                megapixels_ / std::max(seconds, 0.001));
  std::string text = std::to_string(done_) + (done_ == 1 ? " picture" : " pictures") + rate.data();
  if (skipped_ > 0) text += ", " + std::to_string(skipped_) + " skipped";
  if (failed_ > 0) text += ", " + std::to_string(failed_) + " failed";
  message("", "", text);
}

int Reporter::worst_status() const {
  const std::lock_guard lock(mutex_);
  return worst_;
}

void Reporter::count_failure(std::string_view name, std::string_view text, int status) {
  ++failed_;
  worst_ = std::max(worst_, status);
  if (mode_ == ProgressMode::json) {
    write_json({{"event", "error"},
                {"name", valid_utf8(name)},
                {"message", valid_utf8(text)},
                {"status", status}});
  } else {
    message("", name, text);
  }
}

void Reporter::message(std::string_view kind, std::string_view name, std::string_view text) {
  if (mode_ == ProgressMode::json) {
    write_json({{"event", "warning"}, {"name", valid_utf8(name)}, {"message", valid_utf8(text)}});
    return;
  }
  line_.clear();
  const std::string_view label = kind.empty() ? "" : "warning: ";
  write_stderr(message_line(label, name, text, terminal_) + "\n");
}

void Reporter::draw(bool now) {
  if (mode_ != ProgressMode::line) return;
  if (!now && line_.shown() && Clock::now() - drawn_ < kInterval) return;
  drawn_ = Clock::now();
  line_.show(line_text());
}

// "  3/12  2.41 MP/s  ETA 0:42"; one picture: "  37%  ETA 0:02".
std::string Reporter::line_text() const {
  double share = static_cast<double>(done_ + failed_);
  for (const auto& [job, active] : active_) share += active.share;
  share = std::min(share / static_cast<double>(std::max<std::size_t>(total_, 1)), 1.0);
  const double seconds = std::max(seconds_since(began_), 0.001);
  std::array<char, 96> text{};
  std::snprintf(text.data(), text.size(), "%3.0f%%  %zu/%zu pictures  %.2f MP/s", 100 * share,
                done_, total_, megapixels_ / seconds);
  std::string line = text.data();
  if (share > 0.005) line += "  ETA " + clock_text(seconds * (1 - share) / share);
  return line;
}

}  // namespace elan::cli
