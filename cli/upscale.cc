// elan-sr upscale: enlarges pictures.

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>

#include "arguments.h"
#include "backend.h"
#include "command.h"
#include "core/memory.h"
#include "core/thread_pool.h"
#include "elan/engine.h"
#include "files.h"
#include "models.h"
#include "picture/picture.h"
#include "pipeline.h"
#include "reporter.h"
#include "run_engine.h"
#include "signals.h"
#include "tensorrt_device.h"

namespace elan::cli {
namespace {

struct Options {
  EngineArguments engine;
  FileRequest files;
  std::string format;
  int quality = 0;  // 0: the format's default
  bool lossless = false;
  int width = 0, height = 0;
  bool tta = false;
  int jobs = 0;  // 0: by the device
  bool check = false, no_check = false;
  std::string progress = "auto";
  bool verbose = false;
};

// The engines that the pictures of this run need, each made when first asked for.
class Engines {
 public:
  Engines(ModelChoice choice, EngineOptions options, Reporter& reporter)
      : choice_(std::move(choice)), options_(std::move(options)), reporter_(reporter) {}

  // The engine of the scale that -s, the model's name or the default says.
  Engine& chosen() { return choice_.file.empty() ? of_scale(choice_.scale) : of_file(); }

  // The engine that makes a picture of `in` at least as large as wanted.
  Engine& at_least(PictureSize in, int width, int height) {
    if (!choice_.file.empty()) return of_file();
    std::vector<int> scales;
    for (const auto& [scale, path] : choice_.by_scale) scales.push_back(scale);
    return of_scale(scale_for(in, wanted_size(in, 1, width, height), scales));
  }

 private:
  Engine& of_scale(int scale) { return open(scale, choice_.by_scale.at(scale), scale); }
  Engine& of_file() { return open(0, choice_.file, choice_.scale); }

  // `scale` 0: whatever the file has.
  Engine& open(int key, const std::filesystem::path& path, int scale) {
    const std::lock_guard lock(mutex_);
    std::unique_ptr<Engine>& engine = engines_[key];
    if (!engine) {
      engine = std::make_unique<Engine>(make_engine(load_model(path, scale), options_));
      for (const std::string& text : engine->warnings()) reporter_.warning("", text);
    }
    return *engine;
  }

  const ModelChoice choice_;
  const EngineOptions options_;
  Reporter& reporter_;
  std::mutex mutex_;
  std::map<int, std::unique_ptr<Engine>> engines_;  // by scale; 0: the file's
};

// While the CPU computes, one more picture is enough to decode and encode beside it. A GPU wants
// two of its own in flight, and every core at the files of others: two, since pictures wait, too.
constexpr int kJobs = 2, kMostJobs = 64;
int jobs_for(const Engine& engine) {
  if (engine.backend().own_memory() == 0) return kJobs;
  return std::min(kMostJobs, 2 * (engine.devices() + usable_cores()));
}

void add_options(CLI::App& app, Options& o) {
  constexpr int kAny = std::numeric_limits<int>::max();
  add_names(app, "-i,--input", o.files.inputs,
            "pictures and folders, mixed; - reads standard input");
  add_text(app, "-o,--output", o.files.output, "OUT",
           "a picture; a folder for several inputs, or if it ends in /; - writes standard output");
  app.add_flag("-r,--recursive", o.files.recursive,
               "look into folders inside folders too; outputs keep their places");
  add_engine_options(app, o.engine);
  add_number(app, "-j,--jobs", o.jobs, {1, kMostJobs},
             "pictures in flight at once; fewer where memory is short (default: 2, and as many as "
             "decode and encode beside a GPU)");
  add_text(app, "-f,--format", o.format, "FORMAT",
           "png, jpg, webp, tiff, avif, heic, jxl, ppm or gif (default: the output's extension; "
           "in a folder the input's)");
  add_number(app, "-q,--quality", o.quality, {1, 100},
             "of formats that lose something (default: a high one)");
  app.add_flag("--lossless", o.lossless, "nothing lost, for formats that can do both");
  add_number(app, "--width", o.width, {1, kAny}, "width to write, in pixels");
  add_number(app, "--height", o.height, {1, kAny},
             "height to write, in pixels; one of the two keeps the aspect. The smallest scale "
             "that reaches the size is computed, then reduced (Lanczos3)");
  app.add_flag("-x,--tta", o.tta,
               "average over eight orientations: better by little, 8 times slower");
  app.add_flag("--no-check", o.no_check,
               "do not compare a sample with fp32 where a plan or 8-bit weights say what error to "
               "expect");
  app.add_flag("--check", o.check, "compare it with the first picture, whatever time that takes");
  app.add_flag("--skip-existing", o.files.skip_existing, "leave outputs that exist, do the others");
  app.add_flag("--overwrite", o.files.overwrite, "replace outputs that exist");
  add_text(app, "--progress", o.progress, "HOW",
           "auto (a line on a terminal), json (one object a line on stderr) or none");
  app.add_flag("-v,--verbose", o.verbose, "say what is used and what was done");
  app.footer(
      "Examples:\n"
      "  elan-sr upscale -i small.png -o large.png\n"
      "  elan-sr upscale -i photos -r -o enlarged -s 2 -f webp -q 90 --skip-existing\n"
      "  elan-sr upscale -i photo.jpg -o wall.jpg --width 3840\n"
      "  curl ... | elan-sr upscale -i - -o - -f png > large.png\n"
      "\n"
      "Names after -- are inputs, even when they begin with a dash.\n"
      "Exit status: 0 done, 1 an input or output failed (the others are done), 2 usage, 3 model,\n"
      "4 device or memory, 70 internal error, 130 and 143 interrupted and terminated.");
}

StartInfo start_info(const FilePlan& plan) {
  StartInfo info;
  info.pictures = plan.jobs.size();
  return info;
}

// Runs the jobs; failures that concern all of them are thrown.
void run_jobs(const Options& o, const FilePlan& plan, ModelChoice choice,
              const EngineOptions& engine_options, const std::stop_token& stop,
              Reporter& reporter) {
  const std::string model =
      choice.file.empty() ? choice.one().filename().string() : choice.file.string();
  Engines engines(std::move(choice), engine_options, reporter);
  StartInfo info = start_info(plan);
  const bool sized = o.width != 0 || o.height != 0;
  if (!sized) {
    const Engine& engine = engines.chosen();
    info.model = model;
    info.scale = engine.model().scale();
    info.device = engine.description();
    info.precision = precision_of(engine);
    reporter.remark("using " + info.device + ", " + info.precision + ", model " + model);
  }
  create_output_folders(plan);
  reporter.start(info);

  Guard guard(o.no_check ? Guard::Mode::never
              : o.check  ? Guard::Mode::always
                         : Guard::Mode::affordable,
              engine_options);
  PipelineOptions pipeline;
  pipeline.guard = &guard;
  pipeline.in_flight = o.jobs != 0 ? o.jobs : sized ? kJobs : jobs_for(engines.chosen());
  pipeline.max_memory =
      engine_options.max_memory != 0 ? engine_options.max_memory : memory_limit() / 2;
  pipeline.stop = stop;
  pipeline.quality_where_it_fits = plan.to_folder;
  pipeline.upscale.width = o.width;
  pipeline.upscale.height = o.height;
  pipeline.upscale.tta = o.tta;
  pipeline.upscale.tile = o.tta ? o.engine.tile : 0;
  pipeline.upscale.save.lossless = o.lossless;
  if (o.quality != 0) pipeline.upscale.save.quality = o.quality;
  pipeline.engine_for = [&](int width, int height) -> Engine& {
    return sized ? engines.at_least({width, height}, o.width, o.height) : engines.chosen();
  };
  run_pipeline(plan.jobs, pipeline, reporter);
}

int upscale(Options& o, const CLI::App& app) {
  Reporter reporter(parse_progress(o.progress), o.verbose);
  EngineOptions engine = engine_options(app, o.engine);
  if (o.tta) engine.tile = 0;  // tiles are cut around the eight orientations instead
  if (!o.format.empty()) {
    o.files.format = picture::format_of_extension(o.format);
    if (!o.files.format) {
      throw Error(ErrorKind::usage,
                  "--format: expected png, jpg, webp, tiff, avif, heic, jxl, "
                  "ppm or gif, found " +
                      o.format);
    }
  }
  if (o.lossless && o.quality != 0) {
    throw Error(ErrorKind::usage, "--lossless and --quality contradict each other: give one");
  }
  if (o.check && o.no_check) {
    throw Error(ErrorKind::usage, "--check and --no-check contradict each other: give one");
  }
  picture::initialise(engine.threads != 0 ? engine.threads : usable_cores());
  const FilePlan plan = plan_files(o.files);
  ModelChoice choice = choose_model(o.engine.model, o.engine.scale);

  const SignalGuard signals;
  for (const Note& note : plan.warnings) reporter.warning(note.name, note.text);
  for (const Note& note : plan.errors) reporter.error(note.name, note.text, kFailed);
  for (const FileJob& job : plan.skipped) reporter.skipped(job);
  if (plan.jobs.empty()) {
    reporter.start(start_info(plan));
  } else {
    try {
      run_jobs(o, plan, std::move(choice), engine, signals.token(), reporter);
    } catch (const Error& error) {
      reporter.error("", error.what(), status_of(error.kind()));
    } catch (const std::bad_alloc&) {
      reporter.error("", "memory: ran out", kDevice);
    }
  }
  const int status =
      signals.received() != 0 ? kSignal + signals.received() : reporter.worst_status();
  reporter.end(status);
  return status;
}

}  // namespace

Action setup_upscale(CommandLine& line) {
  auto options = std::make_shared<Options>();
  line.takes_operands = true;
  add_options(line.app, *options);
  return [options, &line] {
    options->files.inputs.insert(options->files.inputs.end(), line.operands.begin(),
                                 line.operands.end());
    return upscale(*options, line.app);
  };
}

}  // namespace elan::cli
