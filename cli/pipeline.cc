#include "pipeline.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <new>
#include <thread>

#include "command.h"

namespace elan::cli {
namespace {

bool has_quality(picture::Format format) {
  using picture::Format;
  return format == Format::jpeg || format == Format::webp || format == Format::avif ||
         format == Format::heic || format == Format::jxl;
}

// Whether the reader of a pipe has gone away: it knows, and nobody else wants to.
bool reader_is_gone(const FileJob& job) {
  if (job.output.descriptor < 0) return false;
  pollfd descriptor{job.output.descriptor, POLLOUT, 0};
  return poll(&descriptor, 1, 0) == 1 && (descriptor.revents & POLLERR) != 0;
}

void run_job(const FileJob& job, const PipelineOptions& options, MemoryGate& gate,
             Reporter& reporter) {
  UpscaleOptions upscale = options.upscale;
  upscale.save.format = job.format;
  if (options.quality_where_it_fits && !has_quality(job.format)) upscale.save.quality.reset();
  upscale.stop = options.stop;
  upscale.progress = [&](double share) { reporter.progress(job, share); };

  const picture::Picture picture = picture::load(job.input, {options.max_memory});
  Engine& engine = options.engine_for(picture.width(), picture.height());
  const MemoryGate::Pass pass = gate.enter(memory_needed(engine, picture, upscale), options.stop);
  reporter.done(job, write_enlarged(engine, picture, job.output, upscale));
}

// A failure of one picture becomes a message; nothing is thrown.
void try_job(const FileJob& job, const PipelineOptions& options, MemoryGate& gate,
             Reporter& reporter) {
  reporter.begin(job);
  const std::string name = job.input.path.string();
  try {
    run_job(job, options, gate, reporter);
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::cancelled || reader_is_gone(job)) {
      reporter.failed_quietly(job);
    } else {
      const bool about_output =
          std::string_view(error.what()).find(job.output.path.native()) != std::string_view::npos;
      reporter.failed(job, about_output ? job.output.path.string() : name, error.what(),
                      status_of(error.kind()));
    }
  } catch (const std::bad_alloc&) {
    reporter.failed(job, name, "memory: ran out; a smaller --max-memory or --jobs helps", kDevice);
  } catch (const std::exception& error) {
    reporter.failed(job, name, std::string("internal error: ") + error.what(), kBug);
  }
}

}  // namespace

MemoryGate::Pass MemoryGate::enter(std::size_t bytes, const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  const bool room = changed_.wait(
      lock, stop, [&] { return inside_ == 0 || (bytes <= limit_ && used_ <= limit_ - bytes); });
  if (!room) throw Error(ErrorKind::cancelled, "stopped while waiting for memory");
  ++inside_;
  used_ += bytes;
  return {*this, bytes};
}

void MemoryGate::leave(std::size_t bytes) {
  {
    const std::lock_guard lock(mutex_);
    --inside_;
    used_ -= bytes;
  }
  changed_.notify_all();
}

void run_pipeline(const std::vector<FileJob>& jobs, const PipelineOptions& options,
                  Reporter& reporter) {
  MemoryGate gate(options.max_memory);
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    while (!options.stop.stop_requested()) {
      const std::size_t i = next.fetch_add(1);
      if (i >= jobs.size()) return;
      try_job(jobs[i], options, gate, reporter);
    }
  };
  const std::size_t count =
      std::min<std::size_t>(static_cast<std::size_t>(options.in_flight), jobs.size());
  std::vector<std::jthread> others;
  for (std::size_t i = 1; i < count; ++i) others.emplace_back(work);
  work();
}

}  // namespace elan::cli
