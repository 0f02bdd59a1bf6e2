// elan-sr eval: PSNR and SSIM on folders of pairs NAME_HR.* and NAME_LR.*, how long the pictures
// take, and how far several ways to compute them are apart.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arguments.h"
#include "command.h"
#include "core/hardware.h"
#include "picture/picture.h"
#include "quality/compare.h"
#include "quality/metrics.h"
#include "run_engine.h"
#include "terminal.h"
#include "test_pictures.h"
#include "timing.h"

namespace elan::cli {
namespace {

namespace fs = std::filesystem;

struct EvalArguments {
  EngineArguments engine;
  std::vector<std::string> data, rows;
  int repeat = 1;
  bool pictures = false;
  bool markdown = false;
  bool json = false;
};

struct Pair {
  std::string name;
  fs::path low, high;  // high: empty where there is none
};

// The pictures NAME_LR.EXT of a folder, each with the NAME_HR.EXT beside it, sorted by name; in a
// folder without such names all its pictures, which then have no HR. Throws Error (input) for an
// HR picture without its LR.
std::vector<Pair> find_pairs(const fs::path& folder) {
  std::vector<Pair> pairs;
  bool any_low = false;
  for (const fs::path& path : pictures_in(folder)) {
    const std::string stem = path.stem().native(), extension = path.extension().native();
    if (stem.ends_with("_HR")) {
      const fs::path low =
          path.parent_path() / (stem.substr(0, stem.size() - 3) + "_LR" + extension);
      if (fs::exists(low)) continue;
      throw Error(ErrorKind::input, printable(path.native(), false) + ": expected " +
                                        printable(low.filename().native(), false) +
                                        " beside it, found none");
    }
    Pair pair{stem, path, {}};
    if (stem.ends_with("_LR")) {
      any_low = true;
      pair.name = stem.substr(0, stem.size() - 3);
      pair.high = path.parent_path() / (pair.name + "_HR" + extension);
      if (!fs::exists(pair.high)) pair.high.clear();
    }
    pairs.push_back(std::move(pair));
  }
  if (any_low) {
    std::erase_if(pairs, [](const Pair& p) { return !p.low.stem().native().ends_with("_LR"); });
  }
  std::sort(pairs.begin(), pairs.end(),
            [](const Pair& a, const Pair& b) { return a.name < b.name; });
  return pairs;
}

struct DataSet {
  std::string name;
  std::vector<Pair> pairs;

  [[nodiscard]] bool has_high() const {
    return std::all_of(pairs.begin(), pairs.end(), [](const Pair& p) { return !p.high.empty(); });
  }
};

// The pairs in `folder`, or in its subfolder xSCALE, which is how the test sets are kept.
DataSet open_data_set(const fs::path& folder, int scale) {
  if (!fs::is_directory(folder)) {
    throw Error(ErrorKind::input,
                printable(folder.native(), false) +
                    ": expected a folder of NAME_HR and NAME_LR pictures, found none");
  }
  fs::path used = fs::canonical(folder);
  std::vector<Pair> pairs = find_pairs(used);
  const std::string sub = "x" + std::to_string(scale);
  if (pairs.empty() && fs::is_directory(used / sub)) {
    used /= sub;
    pairs = find_pairs(used);
  }
  if (pairs.empty()) {
    throw Error(ErrorKind::input, printable(folder.native(), false) +
                                      ": expected pictures NAME_LR, with NAME_HR beside them where "
                                      "there are some, found none");
  }
  const bool by_scale = used.filename() == sub;
  return {valid_utf8((by_scale ? used.parent_path() : used).filename().native()) +
              (by_scale ? "/" + sub : ""),
          std::move(pairs)};
}

picture::Picture load_8_bit(const fs::path& path) {
  picture::Picture picture = picture::load({path}, {});
  if (picture.type() != SampleType::u8) {
    throw Error(ErrorKind::input, printable(path.native(), false) +
                                      ": expected an 8-bit picture, found 16 bits a sample");
  }
  return picture;
}

Quality compare_with_high(const ConstImageView& enlarged, const fs::path& path, int scale) {
  const picture::Picture high = load_8_bit(path);
  if (high.width() < enlarged.width || high.height() < enlarged.height ||
      high.width() >= enlarged.width + scale || high.height() >= enlarged.height + scale) {
    throw Error(ErrorKind::input,
                printable(path.native(), false) + ": expected " + std::to_string(scale) +
                    " times the size of its low-resolution picture (" +
                    std::to_string(enlarged.width) + "x" + std::to_string(enlarged.height) +
                    "), found " + std::to_string(high.width()) + "x" +
                    std::to_string(high.height()));
  }
  return compare_luma(
      enlarged, ConstImageView(high.rgb().crop(0, 0, enlarged.width, enlarged.height)), scale);
}

// JSON has no infinity: a perfect PSNR is null.
nlohmann::json number_or_null(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json();
}

// One way to compute: a line of the table.
struct Row {
  std::string name;
  LoadedEngine loaded;
  nlohmann::json sets = nlohmann::json::array();
};

// What a row is about: [DEVICE/]PRECISION, or a file, a plan or weights, these with @PRECISION
// where it is not the default.
EngineArguments row_arguments(EngineArguments arguments, const std::string& text) {
  std::string what = text;
  const auto slash = text.find('/');
  const std::string device = text.substr(0, slash);
  const std::string kind = device.substr(0, device.find(':'));
  if (slash != std::string::npos &&
      (kind == "cpu" || kind == "reference" || kind == "cuda" || kind == "auto")) {
    arguments.device = device;
    arguments.gpu.clear();
    what = text.substr(slash + 1);
  }
  constexpr std::string_view kWeights = ".safetensors";
  const auto end = what.find(std::string(kWeights) + '@');
  if (end != std::string::npos) {
    arguments.precision = what.substr(end + kWeights.size() + 1);
    if (arguments.precision.empty()) {
      throw Error(ErrorKind::usage,
                  "--rows: expected a precision after @, found " + printable(text, false));
    }
    what.resize(end + kWeights.size());
  }
  if (what.ends_with(kWeights)) {
    arguments.model = what;
    arguments.scale = 0;
  } else if (what.ends_with(".json")) {
    arguments.plan = what;
  } else {
    arguments.precision = what;
  }
  return arguments;
}

std::vector<Row> open_rows(const CLI::App& app, const EvalArguments& a) {
  std::vector<Row> rows;
  if (a.rows.empty()) {
    LoadedEngine loaded = load_engine(app, a.engine);
    rows.push_back({precision_of(loaded.engine), std::move(loaded), nlohmann::json::array()});
    return rows;
  }
  if (!a.engine.precision.empty() || !a.engine.plan.empty()) {
    throw Error(ErrorKind::usage, "--rows and --precision or --plan contradict each other");
  }
  const CLI::App none;  // of a row with its own device, whatever --gpu said of the others
  for (const std::string& text : a.rows) {
    const EngineArguments arguments = row_arguments(a.engine, text);
    rows.push_back({printable(text, true),
                    load_engine(arguments.gpu.empty() ? none : app, arguments),
                    nlohmann::json::array()});
    const int scale = rows.front().loaded.engine.model().scale();
    if (rows.back().loaded.engine.model().scale() != scale) {
      throw Error(ErrorKind::usage, "--rows: " + printable(text, false) +
                                        ": expected a model of scale " + std::to_string(scale) +
                                        ", found another");
    }
  }
  return rows;
}

// A picture as one row made it.
struct Made {
  std::vector<std::uint8_t> rgb;
  std::vector<float> exact;  // not rounded; only where rows are compared
  double ms = 0;
};

std::uint8_t level_of(float value) {
  return static_cast<std::uint8_t>(std::nearbyint(std::clamp(value, 0.0F, 255.0F)));
}

Made make(Engine& engine, const fs::path& path, const picture::Picture& low, int repeat,
          bool compared) {
  const int scale = engine.model().scale();
  const int width = low.width() * scale, height = low.height() * scale;
  Made made;
  made.rgb.resize(static_cast<std::size_t>(width) * height * 3);
  if (compared) made.exact.resize(made.rgb.size());
  const ImageView out = compared ? view_of(made.exact.data(), width, height)
                                 : view_of(made.rgb.data(), width, height);
  RunOptions run;
  run.warning = [&](const std::string& text) { print_warning(path.string(), text); };
  const std::vector<double> times = time_runs(
      {.warm_up_ms = 0, .iterations = repeat, .duration_ms = 0, .first_counts = true}, [&] {
        engine.upscale(low.rgb(), out, run);
        run.warning = {};  // said once
      });
  made.ms = percentile(times, 0);
  std::transform(made.exact.begin(), made.exact.end(), made.rgb.begin(), level_of);
  return made;
}

struct Totals {
  Quality quality;
  double ms = 0;
  PictureErrors errors;
  nlohmann::json pictures = nlohmann::json::array();
};

void add_errors(nlohmann::json& row, const PictureErrors& errors) {
  const ErrorSummary s = errors.values.summary();
  row["mean_abs"] = number_or_null(s.mean_abs);
  row["max_abs"] = number_or_null(s.max_abs);
  row["share_off_by_more_than_1"] = errors.share_off();
}

void evaluate(std::vector<Row>& rows, const DataSet& data, int repeat) {
  const int scale = rows.front().loaded.engine.model().scale();
  const bool compared = rows.size() > 1;
  std::vector<Totals> totals(rows.size());
  for (const Pair& pair : data.pairs) {
    const picture::Picture low = load_8_bit(pair.low);
    const int width = low.width() * scale, height = low.height() * scale;
    std::vector<float> first;
    double first_ms = 0;
    for (std::size_t r = 0; r < rows.size(); ++r) {
      Made made = make(rows[r].loaded.engine, pair.low, low, repeat, compared);
      nlohmann::json one{{"name", valid_utf8(pair.name)}, {"ms", made.ms}};
      totals[r].ms += made.ms;
      if (data.has_high()) {
        const Quality quality = compare_with_high(
            view_of(std::as_const(made.rgb).data(), width, height), pair.high, scale);
        totals[r].quality.psnr += quality.psnr;
        totals[r].quality.ssim += quality.ssim;
        one["psnr"] = number_or_null(quality.psnr);
        one["ssim"] = quality.ssim;
      }
      if (r == 0) {
        first = std::move(made.exact);
        first_ms = made.ms;
      } else {
        const PictureErrors errors =
            compare_pictures(view_of(std::as_const(made.exact).data(), width, height),
                             view_of(std::as_const(first).data(), width, height));
        add_errors(one, errors);
        totals[r].errors.add(errors);
      }
      one["speedup"] = first_ms / made.ms;
      totals[r].pictures.push_back(std::move(one));
    }
  }
  const auto count = static_cast<double>(data.pairs.size());
  for (std::size_t r = 0; r < rows.size(); ++r) {
    nlohmann::json set{{"name", data.name},
                       {"count", data.pairs.size()},
                       {"has_hr", data.has_high()},
                       {"ms", totals[r].ms / count},
                       {"speedup", totals[0].ms / totals[r].ms},
                       {"pictures", std::move(totals[r].pictures)}};
    set["psnr"] = data.has_high() ? number_or_null(totals[r].quality.psnr / count) : nullptr;
    set["ssim"] = data.has_high() ? nlohmann::json(totals[r].quality.ssim / count) : nullptr;
    if (r > 0) add_errors(set, totals[r].errors);
    rows[r].sets.push_back(std::move(set));
  }
}

std::string number(double value, const char* format) {
  char text[32];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string psnr_text(const nlohmann::json& row) {
  if (!row.contains("ssim") || row.at("ssim").is_null()) return "no HR";
  return row.at("psnr").is_null() ? "inf" : number(row.at("psnr"), "%.3f");
}

void print_row(const std::string& name, const nlohmann::json& row) {
  const bool has_ssim = row.contains("ssim") && !row.at("ssim").is_null();
  std::string text = number(row.at("ms"), "%10.1f");
  if (row.contains("mean_abs") && !row.at("mean_abs").is_null()) {
    text += number(row.at("mean_abs"), "  %9.3g") + number(row.at("max_abs"), "  %9.3g");
  }
  std::printf("%-28s %8s  %-6s %s\n", name.c_str(), psnr_text(row).c_str(),
              has_ssim ? number(row.at("ssim"), "%.4f").c_str() : "", text.c_str());
}

void print(const std::vector<Row>& rows, const EvalArguments& a) {
  for (const Row& row : rows) {
    if (rows.size() > 1) std::printf("%s: ", row.name.c_str());
    std::printf("%s\n%-28s %8s  %-6s %10s%s\n", title_of(row.loaded).c_str(), "", "PSNR (dB)",
                "SSIM", "ms", &row == rows.data() ? "" : "   mean err    max err");
    for (const auto& set : row.sets) {
      if (a.pictures) {
        for (const auto& one : set.at("pictures"))
          print_row("  " + std::string(one.at("name")), one);
      }
      print_row(std::string(set.at("name")) + " (" + set.at("count").dump() + ")", set);
    }
  }
}

// A name as a cell of a table.
std::string cell_of(std::string name) {
  for (std::size_t at = 0; (at = name.find('|', at)) != std::string::npos; at += 2) {
    name.insert(at, 1, '\\');
  }
  return name;
}

// A set as a whole, or one picture of it.
void print_markdown_row(const std::string& name, const nlohmann::json& row) {
  const bool high = row.contains("ssim") && !row.at("ssim").is_null();
  const bool aligned = row.contains("mean_abs") && !row.at("mean_abs").is_null();
  std::printf(
      "| %s | %s | %s | %s | %s | %s | %s | %s |\n", cell_of(name).c_str(), psnr_text(row).c_str(),
      high ? number(row.at("ssim"), "%.4f").c_str() : "no HR",
      aligned ? number(row.at("mean_abs"), "%.2g").c_str() : "0",
      aligned ? number(row.at("max_abs"), "%.3g").c_str() : "0",
      aligned
          ? (number(100 * row.at("share_off_by_more_than_1").get<double>(), "%.3f") + " %").c_str()
          : "0",
      number(row.at("ms"), "%.1f").c_str(), number(row.at("speedup"), "%.2f").c_str());
}

void print_markdown(const std::vector<Row>& rows, bool pictures) {
  for (std::size_t s = 0; s < rows.front().sets.size(); ++s) {
    const auto& first = rows.front().sets[s];
    std::printf("%s%s, %s, %s pictures, on %s, commit %s\n\n", s == 0 ? "" : "\n",
                std::string(describe_run(rows.front().loaded).at("model")).c_str(),
                std::string(first.at("name")).c_str(), first.at("count").dump().c_str(),
                hardware_name().c_str(),
                std::string(describe_run(rows.front().loaded).at("commit")).c_str());
    std::puts(
        "| | PSNR (dB) | SSIM | mean error | largest | off by > 1 | ms a picture | speedup |");
    std::puts("|---|---|---|---|---|---|---|---|");
    for (const Row& row : rows) {
      const auto& set = row.sets[s];
      if (pictures) {
        for (const auto& one : set.at("pictures")) {
          print_markdown_row(row.name + ", " + std::string(one.at("name")), one);
        }
      }
      print_markdown_row(row.name, set);
    }
  }
  if (rows.size() > 1) {
    std::printf("\nErrors against %s, in levels of 0..255.\n", rows.front().name.c_str());
  }
}

void print_json(std::vector<Row>& rows) {
  nlohmann::json report = describe_run(rows.front().loaded);
  report["hardware"] = hardware_name();
  report["datasets"] = rows.front().sets;
  if (rows.size() > 1) {
    report["rows"] = nlohmann::json::array();
    for (Row& row : rows) {
      nlohmann::json one = describe_run(row.loaded);
      one["name"] = row.name;
      one["datasets"] = std::move(row.sets);
      report["rows"].push_back(std::move(one));
    }
  }
  std::puts(report.dump(2).c_str());
}

int eval(const CLI::App& app, const EvalArguments& arguments) {
  if (arguments.markdown && arguments.json) {
    throw Error(ErrorKind::usage, "--markdown and --json contradict each other: give one");
  }
  picture::initialise(1);
  std::vector<Row> rows = open_rows(app, arguments);
  std::vector<DataSet> sets;
  for (const std::string& folder : arguments.data) {
    sets.push_back(open_data_set(folder, rows.front().loaded.engine.model().scale()));
    if (!sets.back().has_high()) {
      print_warning("", sets.back().name +
                            ": not every picture has its HR: no PSNR and SSIM, times" +
                            (rows.size() > 1 ? " and alignment only" : " only"));
    }
  }
  for (const DataSet& data : sets) evaluate(rows, data, arguments.repeat);
  if (arguments.json) {
    print_json(rows);
  } else if (arguments.markdown) {
    print_markdown(rows, arguments.pictures);
  } else {
    print(rows, arguments);
  }
  return kDone;
}

}  // namespace

Action setup_eval(CommandLine& line) {
  auto arguments = std::make_shared<EvalArguments>();
  CLI::App& app = line.app;
  add_engine_options(app, arguments->engine);
  add_names(app, "--data", arguments->data,
            "folders with NAME_HR and NAME_LR pictures, or with a subfolder xSCALE of them")
      ->required();
  add_names(
      app, "--rows", arguments->rows,
      "compare several: precisions, plans (.json) or weights (.safetensors, @PRECISION behind "
      "it if not the default), each after DEVICE/ where it is another; errors and speedups "
      "are against the first");
  add_number(app, "--repeat", arguments->repeat, {1, 1000},
             "time each picture so often and take the fastest (default: 1)");
  app.add_flag("--pictures", arguments->pictures, "print each picture's figures too");
  app.add_flag("--markdown", arguments->markdown, "print tables for documents");
  app.add_flag("--json", arguments->json, "print one JSON object");
  return [arguments, &app] { return eval(app, *arguments); };
}

}  // namespace elan::cli
