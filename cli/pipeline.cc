#include "pipeline.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <thread>

#include "command.h"
#include "terminal.h"

namespace elan::cli {
namespace {

bool has_quality(picture::Format format) {
  using picture::Format;
  return format == Format::jpeg || format == Format::webp || format == Format::avif ||
         format == Format::heic || format == Format::jxl;
}

struct NamedText {
  std::string name, text;
};

// Which file an error is about. Messages about pictures begin with 'NAME': for either the input or
// the output, those of the engine with neither.
NamedText attribute(const FileJob& job, std::string_view text) {
  const std::string input = job.input.path.string(), output = job.output.path.string();
  for (const std::string& name : {output, input}) {
    const std::string quoted = "'" + escaped(name) + "': ";
    if (text.starts_with(quoted)) return {name, std::string(text.substr(quoted.size()))};
  }
  return {input, std::string(text)};
}

// The picture is written: a check that fails is no reason to say that it is not.
void add_check(Engine& engine, const picture::Picture& picture, Guard& guard,
               UpscaleResult& result) {
  try {
    if (const auto text = guard.check(engine, picture)) result.warnings.push_back(*text);
  } catch (const Error& error) {
    result.warnings.push_back(std::string("precision not checked: ") + error.what());
  }
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
  UpscaleResult result = write_enlarged(engine, picture, job.output, upscale);
  if (options.guard != nullptr) add_check(engine, picture, *options.guard, result);
  reporter.done(job, result);
}

// A failure of one picture becomes a message; nothing is thrown.
void try_job(const FileJob& job, const PipelineOptions& options, MemoryGate& gate,
             Reporter& reporter) {
  reporter.begin(job);
  const std::string name = job.input.path.string();
  try {
    run_job(job, options, gate, reporter);
  } catch (const Error& error) {
    const bool broken_pipe = job.output.descriptor >= 0 && reader_is_gone(job.output.descriptor);
    if (error.kind() == ErrorKind::cancelled || broken_pipe) {
      reporter.failed_quietly(job);
    } else {
      const NamedText what = attribute(job, error.what());
      reporter.failed(job, what.name, what.text, status_of(error.kind()));
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
