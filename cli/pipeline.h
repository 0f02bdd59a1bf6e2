// Several pictures in flight: while one is computed, others are decoded and encoded.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <vector>

#include "elan/engine.h"
#include "files.h"
#include "guard.h"
#include "reporter.h"
#include "upscale_picture.h"

namespace elan::cli {

// Lets pictures start only while all of them together fit; one alone always may.
class MemoryGate {
 public:
  explicit MemoryGate(std::size_t limit) : limit_(limit) {}

  // Held while a picture is in flight; gives its bytes back when it ends.
  class Pass {
   public:
    Pass(MemoryGate& gate, std::size_t bytes) : gate_(gate), bytes_(bytes) {}
    ~Pass() { gate_.leave(bytes_); }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    MemoryGate& gate_;
    std::size_t bytes_;
  };

  // Waits for room. Throws Error (cancelled) when `stop` is set first.
  [[nodiscard]] Pass enter(std::size_t bytes, const std::stop_token& stop);

 private:
  void leave(std::size_t bytes);

  const std::size_t limit_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::size_t used_ = 0;
  int inside_ = 0;
};

struct PipelineOptions {
  int in_flight = 2;
  std::size_t max_memory = 0;  // bytes
  UpscaleOptions upscale;      // format, stop and progress are set for each job
  std::stop_token stop;
  // Quality is an option of the one output file: formats without it refuse it. In a folder of
  // several formats it is for those that have one.
  bool quality_where_it_fits = false;
  Guard* guard = nullptr;  // null: no checks
  // The engine for a picture of this size. Called from several threads.
  std::function<Engine&(int width, int height)> engine_for;
};

// Does the jobs in order, tells the reporter about each, and returns when all have ended or the
// stop was requested. Failures of one picture do not end the others.
void run_pipeline(const std::vector<FileJob>& jobs, const PipelineOptions& options,
                  Reporter& reporter);

}  // namespace elan::cli
