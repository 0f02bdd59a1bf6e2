// elan-sr tune: measures what each operation's precision does to the result, and chooses.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "backend.h"
#include "command.h"
#include "core/hardware.h"
#include "core/thread_pool.h"
#include "core/whole_file.h"
#include "model/plan.h"
#include "model/stages.h"
#include "model/work.h"
#include "picture/picture.h"
#include "quality/compare.h"
#include "quality/search.h"
#include "run_engine.h"
#include "terminal.h"
#include "test_pictures.h"
#include "timing.h"
#include "tune_state.h"

namespace elan::cli {
namespace {

using Json = nlohmann::ordered_json;

struct TuneArguments {
  EngineArguments engine;
  std::vector<std::string> inputs;
  std::string precisions, output, report, state, size = "192x192";
  std::optional<double> error, time;
  int crop = 64, pictures = 4;
  bool json = false;
};

constexpr double kDefaultError = 5e-3;

// Times of the same work in each precision, where the device only simulates them: those of tensor
// cores, FP32 as three FP16 products.
double nominal_time(Precision precision) {
  switch (precision) {
    case Precision::int8:
    case Precision::fp8:
      return 0.5;
    case Precision::fp16:
    case Precision::bf16:
      return 1;
    case Precision::tf32:
      return 2;
    case Precision::fp32:
      return 3;
    case Precision::fp64:
      return 24;
  }
  return 1;
}

std::vector<Precision> usual_precisions(const std::string& device) {
  if (device == "cuda") {
    return {Precision::fp32, Precision::tf32, Precision::fp16,
            Precision::bf16, Precision::fp8,  Precision::int8};
  }
  if (device == "cpu") return {Precision::fp32, Precision::bf16, Precision::int8};
  return {Precision::fp32, Precision::tf32, Precision::fp16, Precision::bf16};
}

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
  Tuner(const CLI::App& app, const TuneArguments& a)
      : a_(a), options_(engine_options(app, a.engine)) {
    LoadedEngine first = load_engine(app, a.engine);
    model_.emplace(first.engine.model());
    about_ = describe_run(first);
    device_ = first.engine.device();
    description_ = first.engine.description();
    precisions_ = a.precisions.empty() ? usual_precisions(device_) : parse_precisions(a.precisions);
    for (const auto& path : find_test_pictures(a.inputs, model_->scale())) {
      if (static_cast<int>(pictures_.size()) == a.pictures) break;
      pictures_.push_back(load_test_picture(path, a.crop));
    }
    state_.emplace(a.state, about_text());
    const PrecisionPlan exact(precisions_.front());
    Engine engine = engine_of(exact);
    for (const TestPicture& picture : pictures_)
      expected_.push_back(enlarge(engine, picture.view()));
  }

  int tune() {
    find_parts();
    measure_parts();
    const SearchResult result = search();
    const PrecisionPlan plan = plan_of(parts_, result.choice);
    finish(result, plan);
    return result.met ? kDone : kFailed;
  }

 private:
  [[nodiscard]] bool simulated() const { return device_ == "reference"; }

  [[nodiscard]] Engine engine_of(const PrecisionPlan& plan) const {
    EngineOptions options = options_;
    options.precision.reset();
    options.precision_plan = plan.to_json();
    return Engine(*model_, options);
  }

  // What the state file belongs to.
  [[nodiscard]] std::string about_text() const {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const TestPicture& picture : pictures_) {
      for (const float value : picture.rgb) {
        hash = (hash ^ std::bit_cast<std::uint32_t>(value)) * 0x100000001b3;
      }
    }
    return model_->fingerprint() + " " + device_ + " " +
           std::string(to_string(precisions_.front())) + " " + std::to_string(hash);
  }

  // Empty when the device can run the plan, else why it cannot.
  [[nodiscard]] std::string refusal(const PrecisionPlan& plan) const {
    try {
      static_cast<void>(engine_of(plan));
      return "";
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::usage && error.kind() != ErrorKind::model) throw;
      return error.what();
    }
  }

  // The exact plan, but for one part.
  [[nodiscard]] PrecisionPlan with(const SearchPart& part, const SearchOption& option) const {
    PrecisionPlan plan(precisions_.front());
    for (const std::string& operation : part.operations) plan.set(operation, option.precision);
    if (!part.stream.empty()) plan.set(part.stream, option.stream);
    return plan;
  }

  // The whole network as one option of a part.
  [[nodiscard]] PrecisionPlan all_as(const SearchPart& part, const SearchOption& option) const {
    PrecisionPlan plan(option.precision);
    if (!part.stream.empty()) plan.set("residual", option.stream);
    return plan;
  }

  // Operations grouped by the part of the name that `group` keeps.
  template <typename Group>
  [[nodiscard]] std::vector<SearchPart> grouped(Group&& group) const {
    std::vector<SearchPart> parts;
    for (const std::string& operation : operation_names(model_->architecture())) {
      const std::string name = group(operation);
      auto at = std::find_if(parts.begin(), parts.end(),
                             [&](const SearchPart& p) { return p.name == name; });
      if (at == parts.end()) at = parts.insert(at, {name, {}, {}});
      at->operations.push_back(operation);
    }
    return parts;
  }

  // The finest division of the network whose parts this device lets run in another precision than
  // the rest, and which precisions those are. All blocks are like the first two.
  void find_parts() {
    const auto groups = engine_of(PrecisionPlan(precisions_.front())).backend().operation_groups();
    if (!groups.empty()) {
      find_parts_in(groups);
      return;
    }
    const auto module_of = [](const std::string& operation) {
      std::size_t dots = 0, at = 0;  // "body.3.gmsa.0" of "body.3.gmsa.0.qk"
      while (at < operation.size() && (operation[at] != '.' || ++dots < 4)) ++at;
      return operation.substr(0, at);
    };
    const std::vector<std::vector<SearchPart>> divisions{
        grouped([](const std::string& operation) { return operation; }), grouped(module_of),
        grouped([](const std::string& operation) {
          return operation.starts_with("body") ? std::string("body") : operation;
        })};
    std::string why;
    for (const std::vector<SearchPart>& division : divisions) {
      parts_.clear();
      bool body = false;
      std::map<std::string, std::vector<Precision>> able;  // by kind
      for (SearchPart part : division) {
        const std::string kind = kind_of_operation(part.name);
        if (!able.contains(kind)) {
          for (std::size_t i = 1; i < precisions_.size(); ++i) {
            const std::string text = refusal(with(part, {precisions_[i], 0, 0}));
            if (text.empty()) able[kind].push_back(precisions_[i]);
            if (!text.empty() && kind.starts_with("body")) why = text;
          }
        }
        part.options.push_back({precisions_.front(), 0, 0});
        for (const Precision precision : able[kind]) part.options.push_back({precision, 0, 0});
        if (part.options.size() > 1) {
          body |= kind.starts_with("body");
        }
        parts_.push_back(std::move(part));
      }
      if (body) return;
    }
    throw Error(ErrorKind::usage, "tune: expected a device that mixes precisions; " + why);
  }

  // The device's own division; a part with a stream of its own also in each precision that the
  // stream can be kept in. Only what computes in that precision, or in 8 bits, keeps it so.
  void find_parts_in(const std::vector<std::vector<std::string>>& groups) {
    const std::vector<std::string> streams = stream_names(model_->architecture());
    std::map<std::string, std::vector<SearchOption>> able;  // by kind
    for (const auto& operations : groups) {
      SearchPart part{operations.front(), operations, {}, {}};
      const auto outside = [&](const std::string& operation) {
        return operation != part.name && !operation.starts_with(part.name + ".");
      };
      while (std::any_of(operations.begin(), operations.end(), outside)) {
        part.name.resize(part.name.rfind('.'));
      }
      if (part.name == "residual") continue;
      const auto stream = std::find(streams.begin(), streams.end(), part.name + ".residual");
      if (stream != streams.end()) part.stream = *stream;
      const std::string kind = kind_of_operation(part.name);
      if (!able.contains(kind)) {
        for (const Precision precision : precisions_) {
          for (const Precision kept : precisions_) {
            const bool exact = kept == precisions_.front();
            const bool narrow = !part.stream.empty() && kept == Precision::fp16 &&
                                (precision == kept || precision == Precision::int8);
            const SearchOption option{precision, 0, 0, kept};
            if ((exact || narrow) && refusal(with(part, option)).empty()) {
              able[kind].push_back(option);
            }
          }
        }
      }
      part.options = able[kind];
      parts_.push_back(std::move(part));
    }
  }

  PlanError measure(const PrecisionPlan& plan) {
    const std::string key = plan.to_json();
    if (const auto known = state_->error(key)) return *known;
    Engine engine = engine_of(plan);
    PictureErrors all;
    PlanError error;
    for (std::size_t i = 0; i < pictures_.size(); ++i) {
      const std::vector<float> values = enlarge(engine, pictures_[i].view());
      const int width = pictures_[i].width * model_->scale();
      const int height = pictures_[i].height * model_->scale();
      const PictureErrors one =
          compare_pictures(view_of(std::as_const(values).data(), width, height),
                           view_of(std::as_const(expected_[i]).data(), width, height));
      error.worst_mean = std::max(error.worst_mean, one.values.summary().mean_abs);
      all.add(one);
    }
    error.mean = all.values.summary().mean_abs;
    error.largest = all.values.summary().max_abs;
    state_->set_error(key, error);
    return error;
  }

  // Of the timing picture: of its operations where the device works beside the host's memory; the
  // rates at hand where it only simulates.
  double milliseconds(const PrecisionPlan& plan) {
    if (simulated()) {
      double sum = 0;
      for (const auto& [operation, work] : operation_work(model_->network())) {
        sum += work * nominal_time(plan.at(operation));
      }
      return sum / total_work();
    }
    const std::string key = plan.to_json();
    if (const auto known = state_->milliseconds(key)) return *known;
    Engine engine = engine_of(plan);
    const PictureSize size = parse_picture_size("--size", a_.size, kLongestSide);
    TestPicture picture = normal_picture(size.width, size.height, 1);
    for (float& value : picture.rgb) value = std::clamp(128 + 40 * value, 0.0F, 255.0F);
    const double ms =
        engine.backend().own_memory() > 0
            ? operation_ms(engine, picture)
            : percentile(time_runs({.warm_up_ms = 50, .iterations = 5, .duration_ms = 200},
                                   [&] { enlarge(engine, picture.view()); }),
                         50);
    state_->set_milliseconds(key, ms);
    return ms;
  }

  static double operation_ms(Engine& engine, const TestPicture& picture) {
    const int scale = engine.model().scale();
    const int width = picture.width * scale, height = picture.height * scale;
    std::vector<std::uint8_t> large(static_cast<std::size_t>(width) * height * 3);
    const ConstImageView in = picture.view();
    const ImageView out = view_of(large.data(), width, height);
    std::vector<OperationTime> operations;
    RunContext context;
    context.profile = &operations;
    engine.backend().run({&in, 1}, {&out, 1}, context);
    double seconds = 0;
    for (const OperationTime& o : operations) seconds += o.seconds;
    return seconds * 1e3;
  }

  [[nodiscard]] double total_work() const {
    double sum = 0;
    for (const auto& [operation, work] : operation_work(model_->network())) sum += work;
    return sum;
  }

  void measure_parts() {
    struct Task {
      SearchPart* part;
      SearchOption* option;
    };
    std::vector<Task> tasks;
    for (SearchPart& part : parts_) {
      for (std::size_t o = 1; o < part.options.size(); ++o) {
        tasks.push_back({&part, &part.options[o]});
      }
    }
    // The reference has one thread a picture: several plans at once there.
    ThreadPool pool(simulated() ? options_.threads : 1);
    std::mutex mutex;
    std::size_t done = 0;
    pool.parallel_for(tasks.size(), [&](std::size_t i, int) {
      tasks[i].option->error = measure(with(*tasks[i].part, *tasks[i].option)).mean;
      const std::lock_guard lock(mutex);
      progress_.show("operation " + std::to_string(++done) + " of " + std::to_string(tasks.size()) +
                     ": " + tasks[i].part->name);
    });
    set_costs();
  }

  // A part's share of the work, at the rate of the whole network in that precision.
  void set_costs() {
    exact_ms_ = milliseconds(PrecisionPlan(precisions_.front()));
    std::map<std::string, double> times;
    const auto time_of = [&](const PrecisionPlan& plan) {
      const auto known = times.find(plan.to_json());
      if (known != times.end()) return known->second;
      const bool able = simulated() || refusal(plan).empty();
      return times[plan.to_json()] = able ? milliseconds(plan) : exact_ms_;
    };
    const auto work = operation_work(model_->network());
    for (SearchPart& part : parts_) {
      double share = 0;
      for (const std::string& operation : part.operations) share += work.at(operation);
      share /= total_work();
      for (SearchOption& option : part.options) {
        option.cost = share * time_of(all_as(part, option));
      }
      // The stream has no arithmetic of its own: what it saves is in no other part.
      if (part.name == "residual" && !simulated()) {
        for (SearchOption& option : part.options) {
          option.cost = milliseconds(with(part, option)) - exact_ms_;
        }
      }
    }
  }

  SearchResult search() {
    int checks = 0;
    const auto error = [&](const Choice& choice) {
      progress_.show("plan " + std::to_string(++checks));
      return measure(plan_of(parts_, choice)).mean;
    };
    if (!a_.time) return search_cheapest(parts_, a_.error.value_or(kDefaultError), error);
    const auto cost = [&](const Choice& choice) { return milliseconds(plan_of(parts_, choice)); };
    return search_most_accurate(parts_, *a_.time, cost, error);
  }

  void finish(const SearchResult& result, PrecisionPlan plan) {
    const PlanError error = measure(plan);
    const double ms = milliseconds(plan);
    plan.set_metadata("mean_abs_error", number(error.mean));
    plan.set_metadata("max_abs_error", number(error.largest));
    plan.set_metadata("worst_mean_abs_error", number(error.worst_mean));
    plan.set_metadata("compared_with", std::string(to_string(precisions_.front())));
    plan.set_metadata("model", model_->fingerprint());
    plan.set_metadata("device", device_);
    const Json report = report_of(result, plan, error, ms);
    progress_.clear();
    const auto save = [](const std::string& path, const std::string& text) {
      if (!path.empty()) write_whole_file(path, {std::as_bytes(std::span(text))});
    };
    save(a_.output, plan.to_file());
    save(a_.report, report.dump(2) + "\n");
    if (a_.json) {
      std::puts(report.dump(2).c_str());
    } else if (a_.output.empty()) {
      std::fputs(plan.to_file().c_str(), stdout);
    }
    print_summary(result, error, ms);
  }

  static std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4g", value);
    return text;
  }

  [[nodiscard]] std::string unit() const {
    return simulated() ? "of the time of fp16, by its work" : "ms";
  }

  // "fp16"; "fp16 on fp32" where the stream may differ from the operands.
  [[nodiscard]] std::string text_of(const SearchPart& part, const SearchOption& option) const {
    const std::string text(to_string(option.precision));
    return part.stream.empty() ? text : text + " on " + std::string(to_string(option.stream));
  }

  void print_summary(const SearchResult& result, const PlanError& error, double ms) const {
    std::map<std::string, int> counts;
    for (std::size_t p = 0; p < parts_.size(); ++p) {
      ++counts[text_of(parts_[p], parts_[p].options[result.choice[p]])];
    }
    std::string text = "error " + number(error.mean) + " mean, " + number(error.largest) +
                       " largest; " + number(ms) + " " + unit() + " (" +
                       std::string(to_string(precisions_.front())) + ": " + number(exact_ms_) +
                       ");";
    for (const auto& [option, count] : counts) {
      text += " " + std::to_string(count) + " " + option + ",";
    }
    text.back() = '\n';
    if (!result.met) {
      text += a_.time ? "the time is not reached: this is the fastest plan\n"
                      : "the error is not reached: this is the most exact plan\n";
    }
    write_stderr(text);
  }

  [[nodiscard]] Json report_of(const SearchResult& result, const PrecisionPlan& plan,
                               const PlanError& error, double ms) {
    Json report{{"run", about_}, {"hardware", hardware_name()}};
    report["error_bound"] = a_.time ? Json() : Json(a_.error.value_or(kDefaultError));
    report["time_bound_ms"] = a_.time ? Json(*a_.time) : Json();
    report["time_is"] = unit();
    report["met"] = result.met;
    report["measurements"] = result.measurements;
    for (const TestPicture& picture : pictures_) {
      report["pictures"].push_back(
          {{"name", picture.name}, {"width", picture.width}, {"height", picture.height}});
    }
    report["parts"] = Json::array();
    for (std::size_t p = 0; p < parts_.size(); ++p) {
      Json options = Json::array();
      for (const SearchOption& option : parts_[p].options) {
        options.push_back({{"precision", text_of(parts_[p], option)},
                           {"error", option.error},
                           {"time", option.cost}});
      }
      report["parts"].push_back(
          {{"name", parts_[p].name},
           {"operations", parts_[p].operations},
           {"chosen", text_of(parts_[p], parts_[p].options[result.choice[p]])},
           {"options", std::move(options)}});
    }
    report["uniform"] = Json::array();
    for (const Precision precision : precisions_) {
      const PrecisionPlan all(precision);
      if (!simulated() && !refusal(all).empty()) continue;
      const PlanError e = measure(all);
      report["uniform"].push_back({{"precision", to_string(precision)},
                                   {"mean_abs", e.mean},
                                   {"max_abs", e.largest},
                                   {"time", milliseconds(all)}});
    }
    report["predicted_error"] = predicted_error(parts_, result.choice);
    report["predicted_time"] = predicted_cost(parts_, result.choice);
    report["mean_abs"] = error.mean;
    report["max_abs"] = error.largest;
    report["time"] = ms;
    report["plan"] = Json::parse(plan.to_json());
    return report;
  }

  const TuneArguments& a_;
  EngineOptions options_;
  std::optional<Model> model_;
  Json about_;
  std::string device_, description_;
  std::vector<Precision> precisions_;  // the exact one first
  std::vector<TestPicture> pictures_;
  std::vector<std::vector<float>> expected_;  // results in the exact precision
  std::optional<TuneState> state_;
  std::vector<SearchPart> parts_;
  double exact_ms_ = 0;
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
    picture::initialise(1);
    return Tuner(line.app, *a).tune();
  };
}

}  // namespace elan::cli
