// elan-sr bench: how fast a model runs here, and what share of the machine's peak that is.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "arguments.h"
#include "backend.h"
#include "command.h"
#include "core/hardware.h"
#include "model/describe.h"
#include "model/reference.h"
#include "picture/picture.h"
#include "run_engine.h"
#include "terminal.h"
#include "test_pictures.h"
#include "timing.h"

namespace elan::cli {
namespace {

struct BenchArguments {
  EngineArguments engine;
  TimingOptions timing;
  std::string size = "320x180";
  std::string input;
  std::string percentiles = "90,95,99";
  int batch = 1;
  bool profile = false;
  bool json = false;
};

struct Sample {
  int width = 0, height = 0;
  std::vector<std::uint8_t> rgb;
};

// The picture to time: the one given, else noise (zeros would run faster than real data does).
Sample sample_picture(const BenchArguments& arguments) {
  if (!arguments.input.empty()) {
    const picture::Picture picture = picture::load({arguments.input}, {});
    if (picture.type() != SampleType::u8) {
      throw Error(ErrorKind::input,
                  arguments.input + ": expected an 8-bit picture, found 16 bits a sample");
    }
    const ConstImageView view = picture.rgb();
    Sample sample{view.width, view.height, {}};
    for (int y = 0; y < view.height; ++y) {
      const auto* row = reinterpret_cast<const std::uint8_t*>(
          view.data + static_cast<std::size_t>(y) * view.row_bytes);
      sample.rgb.insert(sample.rgb.end(), row, row + static_cast<std::size_t>(view.width) * 3);
    }
    return sample;
  }
  const PictureSize size = parse_picture_size("--size", arguments.size, kLongestSide);
  Sample sample{size.width, size.height, {}};
  sample.rgb.resize(static_cast<std::size_t>(sample.width) * sample.height * 3);
  std::uint32_t state = 1;
  for (auto& value : sample.rgb) {
    state = state * 1664525U + 1013904223U;
    value = static_cast<std::uint8_t>(state >> 24);
  }
  return sample;
}

std::vector<double> parse_percentiles(const std::string& text) {
  std::vector<double> values;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    double value = -1;
    char rest = 0;
    if (std::sscanf(text.substr(begin, end - begin).c_str(), "%lf%c", &value, &rest) != 1 ||
        value < 0 || value > 100) {
      throw Error(
          ErrorKind::usage,
          "--percentile: expected numbers from 0 to 100 with commas between, found " + text);
    }
    values.push_back(value);
    begin = end + 1;
  }
  return values;
}

std::string number(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

// One more run, with its operations timed, largest first.
nlohmann::json profile_of(Engine& engine, std::span<const ConstImageView> in,
                          std::span<const ImageView> out) {
  std::vector<OperationTime> operations;
  RunContext context;
  context.profile = &operations;
  engine.backend().run(in, out, context);
  if (operations.empty()) {
    throw Error(ErrorKind::usage, "--profile: expected a device that times its operations, found " +
                                      engine.description());
  }
  std::sort(operations.begin(), operations.end(),
            [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  double total = 0;
  for (const OperationTime& o : operations) total += o.seconds;
  const HardwareRating rating = engine.backend().rating();
  const double gflops = rating.gflops > 0 ? rating.gflops : engine.backend().measure_peak();
  nlohmann::json rows = nlohmann::json::array();
  for (const OperationTime& o : operations) {
    rows.push_back(
        {{"operation", o.operation},
         {"ms", o.seconds * 1e3},
         {"share", o.seconds / total},
         {"gflops", o.seconds > 0 ? o.flop / o.seconds / 1e9 : 0},
         {"gbytes_per_second", o.seconds > 0 ? o.bytes / o.seconds / 1e9 : 0},
         {"share_of_floor",
          o.seconds > 0 ? floor_seconds(o, gflops, rating.gbytes_per_second) / o.seconds : 0}});
  }
  return rows;
}

nlohmann::json measure(LoadedEngine& loaded, const BenchArguments& arguments,
                       const std::vector<double>& percentiles) {
  Engine& engine = loaded.engine;
  const Sample sample = sample_picture(arguments);
  const int scale = engine.model().scale();
  const auto batch = static_cast<std::size_t>(arguments.batch);
  std::vector<std::vector<std::uint8_t>> enlarged(
      batch, std::vector<std::uint8_t>(sample.rgb.size() * scale * scale));
  std::vector<ConstImageView> in(batch, view_of(sample.rgb.data(), sample.width, sample.height));
  std::vector<ImageView> out;
  for (auto& rgb : enlarged) {
    out.push_back(view_of(rgb.data(), sample.width * scale, sample.height * scale));
  }
  RunOptions run;
  std::set<std::string> told;
  run.warning = [&](const std::string& text) {
    if (told.insert(text).second) print_warning("", text);
  };
  const std::vector<double> samples =
      time_runs(arguments.timing, [&] { engine.upscale(in, out, run); });

  const Architecture& arch = engine.model().architecture();
  const double padded = static_cast<double>(padded_side(arch, sample.width)) *
                        padded_side(arch, sample.height) * arguments.batch;
  const double work = 2 * multiply_adds_per_pixel(arch) * padded;  // floating-point operations
  const double median = percentile(samples, 50);
  const TilePlan plan = engine.plan(sample.width, sample.height);
  const double peak = engine.backend().measure_peak();

  nlohmann::json report = describe_run(loaded);
  report["hardware"] = hardware_name();
  report["width"] = sample.width;
  report["height"] = sample.height;
  report["batch"] = arguments.batch;
  report["tiles"] = plan.columns * plan.rows;
  report["iterations"] = samples.size();
  report["warm_up_ms"] = arguments.timing.warm_up_ms;
  report["median_ms"] = median;
  report["mean_ms"] = mean(samples);
  report["min_ms"] = percentile(samples, 0);
  report["max_ms"] = percentile(samples, 100);
  report["p95_ms"] = percentile(samples, 95);
  for (const double p : percentiles) {
    report["percentiles_ms"][number(p, p == static_cast<int>(p) ? 0 : 1)] = percentile(samples, p);
  }
  if (arguments.profile) report["operations"] = profile_of(engine, in, out);
  report["pictures_per_second"] = arguments.batch * 1000 / median;
  report["output_megapixels_per_second"] = static_cast<double>(sample.width) * sample.height *
                                           scale * scale * arguments.batch / median / 1e3;
  report["work_gflop"] = work / 1e9;
  report["gflops"] = work / median / 1e6;
  report["peak_gflops"] = peak > 0 ? nlohmann::json(peak) : nlohmann::json();
  report["share_of_peak"] =
      peak > 0 ? nlohmann::json(work / median / 1e6 / peak) : nlohmann::json();
  return report;
}

void print(const LoadedEngine& loaded, const nlohmann::json& report) {
  const auto ms = [&](const char* key) { return number(report.at(key), 2) + " ms"; };
  std::string text = title_of(loaded) + ", on " + std::string(report.at("hardware")) + "\n";
  const int scale = report.at("scale");
  const int width = report.at("width");
  const int height = report.at("height");
  text += "picture     " + std::to_string(width) + "x" + std::to_string(height) + " -> " +
          std::to_string(width * scale) + "x" + std::to_string(height * scale) + ", batch " +
          report.at("batch").dump() + ", " + report.at("tiles").dump() + " tile(s)\n";
  text += "iterations  " + report.at("iterations").dump() + " after a warm-up of " +
          report.at("warm_up_ms").dump() + " ms\n";
  text += "latency     min " + ms("min_ms") + ", median " + ms("median_ms") + ", mean " +
          ms("mean_ms") + ", max " + ms("max_ms") + "\n           ";
  for (const auto& [name, value] : report.at("percentiles_ms").items()) {
    text += " p" + name + " " + number(value, 2) + " ms";
  }
  text += "\nthroughput  " + number(report.at("pictures_per_second"), 2) + " pictures/s, " +
          number(report.at("output_megapixels_per_second"), 2) + " output megapixels/s\n";
  text += "work        " + number(report.at("work_gflop"), 1) + " GFLOP, " +
          number(report.at("gflops"), 1) + " GFLOP/s";
  if (!report.at("share_of_peak").is_null()) {
    text += ", " + number(100 * report.at("share_of_peak").get<double>(), 1) + " % of the " +
            number(report.at("peak_gflops"), 0) + " GFLOP/s this machine reached in a probe";
  }
  text += "\n";
  for (const auto& row : report.value("operations", nlohmann::json::array())) {
    char line[200];
    std::snprintf(line, sizeof line,
                  "  %-16s %10.3f ms %6.1f %% %9.1f GFLOP/s %8.1f GB/s %6.1f %% of the floor\n",
                  std::string(row.at("operation")).c_str(), row.at("ms").get<double>(),
                  100 * row.at("share").get<double>(), row.at("gflops").get<double>(),
                  row.at("gbytes_per_second").get<double>(),
                  100 * row.at("share_of_floor").get<double>());
    text += line;
  }
  std::fputs(text.c_str(), stdout);
}

int bench(const CLI::App& app, const BenchArguments& arguments) {
  if (arguments.input.empty()) {
    parse_picture_size("--size", arguments.size, kLongestSide);
  } else if (app.count("--size") > 0) {
    throw Error(ErrorKind::usage, "--size and --input contradict each other: give one");
  }
  picture::initialise(1);
  const std::vector<double> percentiles = parse_percentiles(arguments.percentiles);
  LoadedEngine loaded = load_engine(app, arguments.engine);
  const nlohmann::json report = measure(loaded, arguments, percentiles);
  if (arguments.json) {
    std::puts(report.dump(2).c_str());
  } else {
    print(loaded, report);
  }
  return kDone;
}

}  // namespace

Action setup_bench(CommandLine& line) {
  auto arguments = std::make_shared<BenchArguments>();
  CLI::App& app = line.app;
  add_engine_options(app, arguments->engine);
  add_text(app, "--size", arguments->size, "WxH",
           "size of the picture that is timed, noise (default: 320x180)");
  add_text(app, "-i,--input", arguments->input, "FILE", "time this picture instead");
  add_number(app, "--batch", arguments->batch, {1, 1024}, "pictures in one pass (default: 1)");
  add_number(app, "--warm-up,--warmUp", arguments->timing.warm_up_ms, {0, 600'000},
             "milliseconds to run before timing (default: 200)");
  add_number(app, "--iterations", arguments->timing.iterations, {1, 1'000'000},
             "runs, at least (default: 10)");
  add_number(app, "--duration", arguments->timing.duration_ms, {0, 3'600'000},
             "milliseconds to time, at least (default: 3000)");
  add_text(app, "--percentile", arguments->percentiles, "LIST",
           "percentiles to print (default: 90,95,99)");
  app.add_flag("--profile", arguments->profile, "time per operation as well");
  app.add_flag("--json", arguments->json, "print one JSON object");
  return [arguments, &app] { return bench(app, *arguments); };
}

}  // namespace elan::cli
