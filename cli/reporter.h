// Tells people or programs on stderr how the work goes.
//
// --progress=json writes one object a line:
//   {"event":"start","version":"0.1.0","pictures":12,"model":"elan_light_x4.safetensors",
//    "scale":4,"device":"cpu (avx512, 2 threads)","precision":"fp32"}
//       model, scale, device and precision are null while they depend on the pictures' sizes
//   {"event":"progress","input":"a.png","output":"big/a.png","share":0.25}      share of the
//   picture
//   {"event":"done","input":"a.png","output":"big/a.png","width":400,"height":300,
//    "in_width":100,"in_height":75,"seconds":1.25}
//   {"event":"skipped","input":"a.png","output":"big/a.png"}
//   {"event":"warning","name":"a.png","message":"..."}
//   {"event":"error","name":"a.png","message":"...","status":1}
//   {"event":"end","done":11,"skipped":0,"failed":1,"seconds":14.2,"status":1}
// Bytes of names that are not valid UTF-8 appear as \xNN (a backslash in the string).
#pragma once

#include <chrono>
#include <cstddef>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "files.h"
#include "terminal.h"
#include "upscale_picture.h"

namespace elan::cli {

enum class ProgressMode {
  none,  // warnings and errors only
  line,  // and one line that is written over and over
  json,
};

// "auto", "json", "none" (--progress); auto is a line on a terminal, else none. Throws Error
// (usage).
ProgressMode parse_progress(const std::string& text);

struct StartInfo {
  std::size_t pictures = 0;
  std::string model, device, precision;  // empty: not known yet
  int scale = 0;                         // 0: not known yet
};

// Safe to use from several threads.
class Reporter {
 public:
  Reporter(ProgressMode mode, bool verbose);

  void start(const StartInfo& info);
  void begin(const FileJob& job);
  void progress(const FileJob& job, double share);
  void done(const FileJob& job, const UpscaleResult& result);
  void skipped(const FileJob& job);
  void warning(std::string_view name, std::string_view text);
  void error(std::string_view name, std::string_view text, int status);
  // The same about a job that was begun; `name`: its input or its output.
  void failed(const FileJob& job, std::string_view name, std::string_view text, int status);
  // The job ended without anything to say (a reader that went away, a stop).
  void failed_quietly(const FileJob& job);
  // Only for -v and terminals: "using cpu (avx512, 2 threads)".
  void remark(std::string_view text);
  void end(int status);

  [[nodiscard]] int worst_status() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Active {
    double share = 0;
    Clock::time_point began, told;
  };

  void count_failure(std::string_view name, std::string_view text, int status);
  void message(std::string_view kind, std::string_view name, std::string_view text);
  void draw(bool now);
  [[nodiscard]] std::string line_text() const;

  const ProgressMode mode_;
  const bool verbose_;
  const bool terminal_;
  mutable std::mutex mutex_;
  std::map<const FileJob*, Active> active_;
  std::size_t total_ = 0, done_ = 0, skipped_ = 0, failed_ = 0;
  double megapixels_ = 0;  // written so far
  int worst_ = 0;
  StatusLine line_;
  Clock::time_point began_ = Clock::now(), drawn_;
};

}  // namespace elan::cli
