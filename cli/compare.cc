// elan-sr compare: how far one run is from another on the same pictures, or from stored values.
#include "quality/compare.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "command.h"
#include "core/printable.h"
#include "model/network.h"
#include "model/safetensors.h"
#include "picture/picture.h"
#include "run_engine.h"
#include "stage_errors.h"
#include "terminal.h"
#include "test_pictures.h"

namespace elan::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMapCells = 64;

struct CompareArguments {
  EngineArguments engine;
  std::vector<std::string> inputs;
  std::string model, device, precision, plan;  // of the reference
  std::string stored;
  std::string size = "208x304";
  int seed = 1, crop = 0;
  bool random = false, stages = false, map = false, json = false;
  std::optional<double> tolerance, mean_tolerance;
};

// JSON has no infinity: null.
Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json();
}

Json to_json(const ErrorSummary& s) {
  return {{"count", s.count},
          {"max_abs", number(s.max_abs)},
          {"median_abs", number(s.median_abs)},
          {"mean_abs", number(s.mean_abs)},
          {"max_rel", number(s.max_rel)},
          {"median_rel", number(s.median_rel)},
          {"mean_rel", number(s.mean_rel)}};
}

Json to_json(const PictureErrors& errors, bool with_map) {
  Json row = to_json(errors.values.summary());
  row["share_off_by_more_than_1"] = errors.share_off();
  if (with_map) {
    Json cells = Json::array();
    for (const double mean : errors.map.mean) cells.push_back(number(mean));
    row["map"] = {{"cell", errors.map.cell},
                  {"columns", errors.map.columns},
                  {"rows", errors.map.rows},
                  {"mean_abs", std::move(cells)}};
  }
  return row;
}

// Pictures with what a network made of them, and its stages for one of them: the files that tests
// compare with. Keys: input.SIZE (U8 [height][width][3]), output.SIZE (F32, not rounded),
// stage.NAME (planar, padded); the metadata "stages" names the size that the stages belong to.
class StoredReference {
 public:
  explicit StoredReference(const std::string& path) : file_(Safetensors::read(path)) {
    for (const auto& [key, entry] : file_.entries()) {
      if (key.starts_with("stage.")) stages_[key.substr(6)] = file_.floats(key);
      if (!key.starts_with("input.")) continue;
      if (entry.dtype != "U8" || entry.shape.size() != 3 || entry.shape[2] != 3) {
        throw Error(ErrorKind::model, file_.name() + ": " + elan::printable(key) +
                                          ": expected U8 [height, width, 3], found " + entry.dtype +
                                          " " + to_string(entry.shape));
      }
      TestPicture picture{key.substr(6),
                          {},
                          static_cast<int>(entry.shape[1]),
                          static_cast<int>(entry.shape[0]),
                          {}};
      for (const std::byte b : file_.bytes(key)) {
        picture.rgb.push_back(static_cast<float>(std::to_integer<int>(b)));
      }
      pictures_.push_back(std::move(picture));
    }
    if (pictures_.empty()) {
      throw Error(ErrorKind::model,
                  file_.name() + ": expected stored pictures (input.SIZE), found none");
    }
  }

  [[nodiscard]] const std::vector<TestPicture>& pictures() const { return pictures_; }
  [[nodiscard]] const std::string& name() const { return file_.name(); }

  [[nodiscard]] std::vector<float> output(const TestPicture& picture, std::size_t expected) const {
    const std::string key = "output." + picture.name;
    std::vector<float> values = file_.floats(key);
    if (values.size() != expected) {
      throw Error(ErrorKind::model, file_.name() + ": " + elan::printable(key) + ": expected " +
                                        std::to_string(expected) + " values, found " +
                                        std::to_string(values.size()));
    }
    return values;
  }

  // Null where the file has none of this picture.
  [[nodiscard]] const StoredStages* stages(const TestPicture& picture) const {
    const auto size = file_.metadata().find("stages");
    return size != file_.metadata().end() && size->second == picture.name ? &stages_ : nullptr;
  }

 private:
  Safetensors file_;
  std::vector<TestPicture> pictures_;
  StoredStages stages_;
};

void check_usage(const CLI::App& app, const CompareArguments& a) {
  const auto refuse = [](const std::string& text) { throw Error(ErrorKind::usage, text); };
  const bool other = !(a.model + a.device + a.precision + a.plan).empty();
  if (!a.stored.empty() && other) {
    refuse("--reference and the --ref options contradict each other: give one");
  }
  if (!a.precision.empty() && !a.plan.empty()) {
    refuse("--ref-precision and --ref-plan contradict each other: give one");
  }
  const int sources = (a.inputs.empty() ? 0 : 1) + (a.random ? 1 : 0) + (a.stored.empty() ? 0 : 1);
  if (sources != 1) {
    refuse("compare: expected one of --input, --random and --reference, found " +
           std::to_string(sources) + " of them");
  }
  for (const char* name : {"--size", "--seed"}) {
    if (!a.random && app.count(name) > 0) refuse(std::string(name) + " needs --random");
  }
  if (a.crop != 0 && a.inputs.empty()) refuse("--crop needs --input");
}

// What the run is compared with where nothing else is said: FP32 on the CPU, and where that is the
// run itself, FP64 on the reference.
EngineArguments reference_arguments(const CompareArguments& a, const Engine& run) {
  EngineArguments reference = a.engine;
  reference.gpu.clear();
  if (!a.model.empty()) {
    reference.model = a.model;
    reference.scale = 0;
  }
  const bool named = !a.device.empty() || !a.precision.empty() || !a.plan.empty();
  const bool one_hot = run.model().network().one_hot_shifts();
  const bool is_fp32 = run.device() == "cpu" && precision_of(run) == "fp32" && a.model.empty();
  const bool exact = !named && (is_fp32 || run.device() == "reference");
  reference.device = !a.device.empty() ? a.device : exact || !one_hot ? "reference" : "cpu";
  reference.precision = named ? a.precision : exact ? "fp64" : "fp32";
  reference.plan = a.plan;
  return reference;
}

void print_row(const std::string& name, const ErrorSummary& s, const std::string& last) {
  std::printf("%-28s %9.3g %9.3g %9.3g   %9.3g %9.3g %9.3g   %s\n", name.c_str(), s.max_abs,
              s.median_abs, s.mean_abs, s.max_rel, s.median_rel, s.mean_rel, last.c_str());
}

void print_head(const std::string& name, const char* last) {
  std::printf("%-28s %-29s   %-29s\n", "", "absolute, levels of 0..255", "relative");
  std::printf("%-28s %9s %9s %9s   %9s %9s %9s   %s\n", name.c_str(), "max", "median", "mean",
              "max", "median", "mean", last);
}

std::string share_text(const PictureErrors& errors) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4f %%", 100 * errors.share_off());
  return text;
}

class Comparison {
 public:
  Comparison(const CLI::App& app, const CompareArguments& a)
      : a_(a), run_(load_engine(app, a.engine)) {
    if (!a.stored.empty()) {
      stored_.emplace(a.stored);
    } else {
      // The options as given tell of a --gpu that is the run's alone.
      reference_.emplace(load_engine(CLI::App(), reference_arguments(a, run_.engine)));
      if (reference_->engine.model().scale() != scale()) {
        throw Error(ErrorKind::usage, "--ref-model: expected a model of scale " +
                                          std::to_string(scale()) + ", found one of " +
                                          std::to_string(reference_->engine.model().scale()));
      }
    }
  }

  int compare() {
    const std::string what = "compared with " + reference_title();
    if (!a_.json) {
      std::printf("%s\n%s\n\n", title_of(run_).c_str(), what.c_str());
      print_head("", "off by > 1");
    }
    if (stored_) {
      for (const TestPicture& picture : stored_->pictures()) compare(picture);
    } else if (a_.random) {
      const PictureSize size = parse_picture_size("--size", a_.size, kLongestSide);
      compare(normal_picture(size.width, size.height, static_cast<std::uint32_t>(a_.seed)));
    } else {
      for (const auto& path : find_test_pictures(a_.inputs, scale())) {
        compare(load_test_picture(path, a_.crop));
      }
    }
    return finish();
  }

 private:
  [[nodiscard]] int scale() const { return run_.engine.model().scale(); }

  [[nodiscard]] std::string reference_title() const {
    return stored_ ? stored_->name() : title_of(*reference_);
  }

  void compare(const TestPicture& picture) {
    const std::vector<float> values = enlarge(run_.engine, picture.view());
    const std::vector<float> expected = stored_ ? stored_->output(picture, values.size())
                                                : enlarge(reference_->engine, picture.view());
    const int width = picture.width * scale(), height = picture.height * scale();
    const PictureErrors errors =
        compare_pictures(view_of(values.data(), width, height),
                         view_of(expected.data(), width, height), a_.map ? kMapCells : 0);
    if (a_.stages) add_stages(picture);
    if (!a_.json) {
      print_row(printable(picture.name, true), errors.values.summary(), share_text(errors));
      std::fflush(stdout);
    }
    Json row{{"name", picture.name},
             {"path", valid_utf8(picture.path.native())},
             {"width", picture.width},
             {"height", picture.height}};
    row.update(to_json(errors, a_.map));
    pictures_.push_back(std::move(row));
    all_.add(errors);
  }

  void add_stages(const TestPicture& picture) {
    Backend& run = run_.engine.backend();
    if (!stored_) {
      add_stage_errors(run, reference_->engine.backend(), scale(), picture, stages_);
    } else if (const StoredStages* stages = stored_->stages(picture)) {
      add_stage_errors(run, *stages, scale(), picture, stages_);
    }
  }

  [[nodiscard]] bool within() const {
    const ErrorSummary s = all_.values.summary();
    return (!a_.tolerance || s.max_abs <= *a_.tolerance) &&
           (!a_.mean_tolerance || s.mean_abs <= *a_.mean_tolerance);
  }

  int finish() {
    if (a_.json) {
      print_json();
    } else {
      print_row("all", all_.values.summary(), share_text(all_));
      if (!stages_.empty()) {
        std::puts("");
        print_head("stage", "|error| / |reference|");
        for (const StageErrors& s : stages_) {
          char ratio[32];
          std::snprintf(ratio, sizeof ratio, "%.3g", relative_norm(s));
          print_row(s.stage, s.values.summary(), ratio);
        }
      }
      std::printf(
          "\nrelative: |error| / (|reference| + %g); off by > 1: pixels that differ by more "
          "than one level once rounded to 8 bits\n",
          kRelativeFloor);
    }
    if (within()) return kDone;
    const ErrorSummary s = all_.values.summary();
    char text[160];
    std::snprintf(text, sizeof text,
                  "tolerance: exceeded, the largest error is %.4g, the mean %.4g", s.max_abs,
                  s.mean_abs);
    print_error("", text);
    return kFailed;
  }

  static double relative_norm(const StageErrors& s) {
    return std::sqrt(s.square_error / std::max(s.square_reference, 1e-300));
  }

  void print_json() const {
    Json report{{"run", describe_run(run_)}};
    report["reference"] =
        stored_ ? Json{{"file", valid_utf8(a_.stored)}} : Json(describe_run(*reference_));
    report["relative_floor"] = kRelativeFloor;
    if (a_.random) report["seed"] = a_.seed;
    report["pictures"] = pictures_;
    report["overall"] = to_json(all_, false);
    if (a_.stages) {
      report["stages"] = Json::array();
      for (const StageErrors& s : stages_) {
        Json row{{"stage", s.stage}};
        row.update(to_json(s.values.summary()));
        row["relative_norm"] = number(relative_norm(s));
        report["stages"].push_back(std::move(row));
      }
    }
    report["within_tolerance"] = within();
    std::puts(report.dump(2).c_str());
  }

  const CompareArguments& a_;
  LoadedEngine run_;
  std::optional<LoadedEngine> reference_;
  std::optional<StoredReference> stored_;
  PictureErrors all_;
  std::vector<StageErrors> stages_;
  Json pictures_ = Json::array();
};

}  // namespace

Action setup_compare(CommandLine& line) {
  auto a = std::make_shared<CompareArguments>();
  CLI::App& app = line.app;
  line.takes_operands = true;
  add_names(app, "-i,--input", a->inputs, "pictures and folders of pictures");
  app.add_flag("--random", a->random, "instead: standard-normal samples, as network input");
  add_text(app, "--size", a->size, "WxH", "of the random samples (default: 208x304)");
  add_number(app, "--seed", a->seed, {0, 2'147'483'647}, "of the random samples (default: 1)");
  add_text(app, "--reference", a->stored, "FILE",
           "instead: a .safetensors file of pictures, results and stages to compare with");
  add_engine_options(app, a->engine);
  add_text(app, "--ref-model", a->model, "MODEL", "of the run to compare with (default: the same)");
  add_text(app, "--ref-device", a->device, "DEVICE",
           "likewise (default: cpu in fp32, or the reference in fp64 if that is the run)");
  add_text(app, "--ref-precision", a->precision, "NAME", "likewise");
  add_text(app, "--ref-plan", a->plan, "FILE", "likewise");
  add_number(app, "--crop", a->crop, {1, 65536},
             "only the middle of each picture, N pixels a side");
  app.add_flag("--stages", a->stages, "compare the stages of the network, too");
  app.add_flag("--map", a->map, "with --json: where in each picture the errors are");
  add_real(app, "--tolerance", a->tolerance, "exit with 1 if the largest absolute error is larger");
  add_real(app, "--mean-tolerance", a->mean_tolerance,
           "exit with 1 if the mean absolute error is larger");
  app.add_flag("--json", a->json, "print one JSON object");
  return [a, &line] {
    a->inputs.insert(a->inputs.end(), line.operands.begin(), line.operands.end());
    check_usage(line.app, *a);
    picture::initialise(1);
    return Comparison(line.app, *a).compare();
  };
}

}  // namespace elan::cli
