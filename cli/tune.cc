// elan-sr tune: measures what each operation's precision does to the result, and chooses.
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "command.h"
#include "core/thread_pool.h"
#include "core/whole_file.h"
#include "model/plan.h"
#include "model/work.h"
#include "picture/picture.h"
#include "quality/search.h"
#include "run_engine.h"
#include "terminal.h"
#include "test_pictures.h"
#include "tune_meter.h"
#include "tune_parts.h"
#include "tune_report.h"

namespace elan::cli {
namespace {

struct TuneArguments {
  EngineArguments engine;
  std::vector<std::string> inputs;
  std::string precisions, output, report, state, size = "192x192";
  std::optional<double> error, time;
  int crop = 64, pictures = 4;
  bool json = false;
};

constexpr double kDefaultError = 5e-3;

std::vector<Precision> parse_precisions(const std::string& text) {
  std::vector<Precision> list;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    list.push_back(parse_precision(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  if (list.size() < 2) {
    throw Error(ErrorKind::usage,
                "--precisions: expected at least two with commas between, found " + text);
  }
  return list;
}

class Tuner {
 public:
  Tuner(const CLI::App& app, const TuneArguments& a) : a_(a) {
    const EngineOptions options = engine_options(app, a.engine);
    LoadedEngine first = load_engine(app, a.engine);
    about_ = describe_run(first);
    const Model model = first.engine.model();
    const std::string device = first.engine.device();
    const bool quantized = model.network().quantized();
    precisions_ =
        a.precisions.empty() ? usual_precisions(device, quantized) : parse_precisions(a.precisions);
    if (!quantized &&
        std::find(precisions_.begin(), precisions_.end(), Precision::int8) != precisions_.end()) {
      throw Error(ErrorKind::usage,
                  "--precisions: expected a model with 8-bit scales for int8 (elan-sr quantize "
                  "makes one), found one without");
    }
    std::vector<TestPicture> pictures;
    for (const auto& path : find_test_pictures(a.inputs, model.scale())) {
      if (static_cast<int>(pictures.size()) == a.pictures) break;
      pictures.push_back(load_test_picture(path, a.crop));
    }
    meter_.emplace(model, device, options, precisions_.front(), std::move(pictures),
                   parse_picture_size("--size", a.size, kLongestSide), a.state);
    bounds_.time = a.time;
    if (!a.time) bounds_.error = a.error.value_or(kDefaultError);
  }

  int tune() {
    TuneResult result;
    result.parts = find_parts(*meter_, precisions_);
    measure_errors(result.parts);
    result.exact_ms = meter_->milliseconds(meter_->exact());
    measure_costs(result.parts, result.exact_ms);
    result.search = search(result.parts);
    result.plan = plan_of(result.parts, result.search.choice);
    result.error = meter_->error(result.plan);
    result.ms = meter_->milliseconds(result.plan);
    finish(result);
    return result.search.met ? kDone : kFailed;
  }

 private:
  void measure_errors(std::vector<SearchPart>& parts) {
    struct Task {
      SearchPart* part;
      SearchOption* option;
    };
    std::vector<Task> tasks;
    for (SearchPart& part : parts) {
      for (std::size_t o = 1; o < part.options.size(); ++o) {
        tasks.push_back({&part, &part.options[o]});
      }
    }
    // The reference has one thread a picture: several plans at once there.
    ThreadPool pool(meter_->simulated() ? meter_->threads() : 1);
    std::mutex mutex;
    std::size_t done = 0;
    pool.parallel_for(tasks.size(), [&](std::size_t i, int) {
      const auto [part, option] = tasks[i];
      option->error = meter_->error(exact_but_for(meter_->exact(), *part, *option)).mean;
      const std::lock_guard lock(mutex);
      progress_.show("operation " + std::to_string(++done) + " of " + std::to_string(tasks.size()) +
                     ": " + part->name);
    });
  }

  // A part's share of the work, at the rate of the whole network in that precision.
  void measure_costs(std::vector<SearchPart>& parts, double exact_ms) {
    std::map<std::string, double> times;
    const auto time_of = [&](const PrecisionPlan& plan) {
      const auto known = times.find(plan.to_json());
      if (known != times.end()) return known->second;
      const bool able = meter_->simulated() || meter_->refusal(plan).empty();
      return times[plan.to_json()] = able ? meter_->milliseconds(plan) : exact_ms;
    };
    const auto work = operation_work(meter_->model().network());
    double all = 0;
    for (const auto& [operation, amount] : work) all += amount;
    for (SearchPart& part : parts) {
      double share = 0;
      for (const std::string& operation : part.operations) share += work.at(operation);
      share /= all;
      for (SearchOption& option : part.options) {
        PrecisionPlan plan(option.precision);
        if (!part.stream.empty()) plan.set("residual", option.stream);
        option.cost = share * time_of(plan);
      }
      // The stream has no arithmetic of its own: what it saves is in no other part.
      if (part.name == "residual" && !meter_->simulated()) {
        for (SearchOption& option : part.options) {
          option.cost =
              meter_->milliseconds(exact_but_for(meter_->exact(), part, option)) - exact_ms;
        }
      }
    }
  }

  SearchResult search(const std::vector<SearchPart>& parts) {
    int checks = 0;
    const auto error = [&](const Choice& choice) {
      progress_.show("plan " + std::to_string(++checks));
      return meter_->error(plan_of(parts, choice)).mean;
    };
    if (bounds_.error) return search_cheapest(parts, *bounds_.error, error);
    const auto cost = [&](const Choice& choice) {
      return meter_->milliseconds(plan_of(parts, choice));
    };
    return search_most_accurate(parts, *bounds_.time, cost, error);
  }

  void finish(const TuneResult& result) {
    PrecisionPlan plan = result.plan;
    plan.set_metadata("mean_abs_error", short_number(result.error.mean));
    plan.set_metadata("max_abs_error", short_number(result.error.largest));
    plan.set_metadata("worst_mean_abs_error", short_number(result.error.worst_mean));
    plan.set_metadata("compared_with", std::string(to_string(meter_->exact())));
    plan.set_metadata("model", meter_->model().fingerprint());
    plan.set_metadata("device", meter_->device());
    const std::string report =
        tune_report(result, bounds_, *meter_, precisions_, about_).dump(2) + "\n";
    progress_.clear();
    const auto save = [](const std::string& path, const std::string& text) {
      if (!path.empty()) write_whole_file(path, {std::as_bytes(std::span(text))});
    };
    save(a_.output, plan.to_file());
    save(a_.report, report);
    if (a_.json) {
      std::fputs(report.c_str(), stdout);
    } else if (a_.output.empty()) {
      std::fputs(plan.to_file().c_str(), stdout);
    }
    write_stderr(tune_summary(result, bounds_, *meter_));
  }

  const TuneArguments& a_;
  TuneBounds bounds_;
  nlohmann::json about_;
  std::vector<Precision> precisions_;  // the exact one first
  std::optional<PlanMeter> meter_;
  StatusLine progress_;
};

}  // namespace

Action setup_tune(CommandLine& line) {
  auto a = std::make_shared<TuneArguments>();
  CLI::App& app = line.app;
  line.takes_operands = true;
  add_names(app, "-i,--input", a->inputs, "pictures and folders of pictures to measure on");
  add_text(app, "-o,--output", a->output, "FILE", "the plan (default: standard output)");
  add_engine_options(app, a->engine);
  // Refused below, with a word on what to give instead; the help need not offer them.
  for (const char* name : {"--precision", "--plan"}) app.get_option(name)->group("");
  add_text(app, "--precisions", a->precisions, "LIST",
           "to choose from, the one to compare with first: fp32,tf32,fp16 (default: the device's)");
  add_real(app, "--error", a->error,
           "the cheapest plan with a mean absolute error up to this, in levels (default: 0.005)");
  add_real(app, "--time", a->time,
           "instead: the most accurate plan that takes no longer, in milliseconds");
  add_text(app, "--size", a->size, "WxH", "picture for the times (default: 192x192)");
  add_number(app, "--crop", a->crop, {16, 65536},
             "use the middle of each picture, N pixels a side (default: 64)");
  add_number(app, "--pictures", a->pictures, {1, 100'000}, "use so many at most (default: 4)");
  add_text(app, "--state", a->state, "FILE",
           "keep measurements here, to go on after an interruption");
  add_text(app, "--report", a->report, "FILE", "write everything measured, as JSON");
  app.add_flag("--json", a->json, "print the report");
  app.footer(
      "elan-sr tune -m light photos -o plan.json --error 0.006 --state tune.state\n"
      "elan-sr upscale -i small.png -o large.png --plan plan.json");
  return [a, &line] {
    a->inputs.insert(a->inputs.end(), line.operands.begin(), line.operands.end());
    const auto refuse = [](const std::string& text) { throw Error(ErrorKind::usage, text); };
    if (a->inputs.empty()) refuse("tune: expected pictures (--input), found none");
    if (a->error && a->time) refuse("--error and --time contradict each other: give one");
    if (!a->engine.precision.empty() || !a->engine.plan.empty()) {
      refuse("tune finds the precisions: expected --precisions, found --precision or --plan");
    }
    parse_picture_size("--size", a->size, kLongestSide);
    for (const std::string& path : {a->output, a->report}) {
      if (!path.empty()) expect_writable(path);
    }
    picture::initialise(1);
    return Tuner(line.app, *a).tune();
  };
}

}  // namespace elan::cli
