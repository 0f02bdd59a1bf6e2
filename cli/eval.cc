// elan-sr eval: PSNR and SSIM on folders of pairs NAME_HR.* and NAME_LR.*.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "arguments.h"
#include "command.h"
#include "picture/picture.h"
#include "quality/metrics.h"
#include "run_engine.h"
#include "terminal.h"

namespace elan::cli {
namespace {

namespace fs = std::filesystem;

struct EvalArguments {
  EngineArguments engine;
  std::vector<std::string> data;
  bool pictures = false;
  bool json = false;
};

struct Pair {
  std::string name;
  fs::path low, high;
};

// NAME_LR.EXT beside NAME_HR.EXT, sorted by name. Throws Error (input) when one of a pair is
// missing.
std::vector<Pair> find_pairs(const fs::path& folder) {
  std::vector<Pair> pairs;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string stem = entry.path().stem().native();
    if (!stem.ends_with("_HR")) continue;
    Pair pair{stem.substr(0, stem.size() - 3), {}, entry.path()};
    pair.low = entry.path().parent_path() / (pair.name + "_LR" + entry.path().extension().native());
    if (!fs::exists(pair.low)) {
      throw Error(ErrorKind::input, printable(entry.path().native(), false) + ": expected " +
                                        printable(pair.low.filename().native(), false) +
                                        " beside it, found none");
    }
    pairs.push_back(std::move(pair));
  }
  std::sort(pairs.begin(), pairs.end(),
            [](const Pair& a, const Pair& b) { return a.name < b.name; });
  return pairs;
}

struct DataSet {
  std::string name;
  std::vector<Pair> pairs;
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
    throw Error(ErrorKind::input,
                printable(folder.native(), false) +
                    ": expected pictures NAME_HR with NAME_LR beside them, found none");
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

Quality evaluate(Engine& engine, const Pair& pair) {
  const picture::Picture low = load_8_bit(pair.low);
  const picture::Picture high = load_8_bit(pair.high);
  const int scale = engine.model().scale();
  const int width = low.width() * scale;
  const int height = low.height() * scale;
  if (high.width() < width || high.height() < height || high.width() >= width + scale ||
      high.height() >= height + scale) {
    throw Error(ErrorKind::input,
                printable(pair.high.native(), false) + ": expected " + std::to_string(scale) +
                    " times the size of its low-resolution picture (" + std::to_string(width) +
                    "x" + std::to_string(height) + "), found " + std::to_string(high.width()) +
                    "x" + std::to_string(high.height()));
  }
  std::vector<std::uint8_t> rgb(static_cast<std::size_t>(width) * height * 3);
  const ImageView enlarged = view_of(rgb.data(), width, height);
  RunOptions run;
  run.warning = [&](const std::string& text) { print_warning(pair.low.string(), text); };
  engine.upscale(low.rgb(), enlarged, run);
  return compare_luma(enlarged, ConstImageView(high.rgb().crop(0, 0, width, height)), scale);
}

// JSON has no infinity: a perfect PSNR is null.
nlohmann::json number_or_null(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json();
}

nlohmann::json evaluate(Engine& engine, const DataSet& data) {
  Quality sum;
  nlohmann::json pictures = nlohmann::json::array();
  for (const Pair& pair : data.pairs) {
    const Quality quality = evaluate(engine, pair);
    sum.psnr += quality.psnr;
    sum.ssim += quality.ssim;
    pictures.push_back({{"name", valid_utf8(pair.name)},
                        {"psnr", number_or_null(quality.psnr)},
                        {"ssim", quality.ssim}});
  }
  const auto count = static_cast<double>(data.pairs.size());
  return {{"name", data.name},
          {"count", data.pairs.size()},
          {"psnr", number_or_null(sum.psnr / count)},
          {"ssim", sum.ssim / count},
          {"pictures", std::move(pictures)}};
}

void print_row(const std::string& name, const nlohmann::json& row) {
  const double psnr = row.at("psnr").is_null() ? INFINITY : row.at("psnr").get<double>();
  std::printf("%-28s %8.3f  %.4f\n", name.c_str(), psnr, row.at("ssim").get<double>());
}

int eval(const CLI::App& app, const EvalArguments& arguments) {
  picture::initialise(1);
  LoadedEngine loaded = load_engine(app, arguments.engine);
  std::vector<DataSet> sets;
  for (const std::string& folder : arguments.data) {
    sets.push_back(open_data_set(folder, loaded.engine.model().scale()));
  }
  nlohmann::json report = describe_run(loaded);
  report["datasets"] = nlohmann::json::array();
  if (!arguments.json) {
    std::printf("%s\n%-28s %8s  %s\n", title_of(loaded).c_str(), "", "PSNR (dB)", "SSIM");
  }
  for (const DataSet& data : sets) {
    nlohmann::json result = evaluate(loaded.engine, data);
    if (!arguments.json) {
      if (arguments.pictures) {
        for (const auto& row : result.at("pictures"))
          print_row("  " + std::string(row.at("name")), row);
      }
      print_row(data.name + " (" + std::to_string(data.pairs.size()) + ")", result);
      std::fflush(stdout);
    }
    report["datasets"].push_back(std::move(result));
  }
  if (arguments.json) std::puts(report.dump(2).c_str());
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
  app.add_flag("--pictures", arguments->pictures, "print each picture's figures too");
  app.add_flag("--json", arguments->json, "print one JSON object");
  return [arguments, &app] { return eval(app, *arguments); };
}

}  // namespace elan::cli
