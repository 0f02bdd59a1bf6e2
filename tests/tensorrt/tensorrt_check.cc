// Builds and runs engines on the TensorRT of this machine and compares them with the CPU engine's
// FP32 and with our own CUDA backend: one line a variant. Needs a GPU, no picture files.
//
//   tensorrt-check MODEL[,MODEL...] [--size WxH] [--variants LIST] [--folder DIR] [--plan FILE]
//                  [--pictures A.ppm,B.ppm...] [--crops N] [--sets DIR] [--build]
//   tensorrt-check MODEL,OTHER --faults [--folder DIR]     what must fail, and how
//   tensorrt-check --graphs A.onnx,B.onnx...               whether graphs of others build
//
// A variant is PRECISION[+plugins][+loose][+dynamic][+effortN], for example fp16+plugins+dynamic,
// or plan[+...] for the precisions of --plan; effort is the builder's, 0 to 5. int8+calibrated lets
// TensorRT 8.6 find scales on N crops (16) of the pictures (made-up ones without --pictures),
// int8+uninitialised on whatever is in the device's memory instead. A model in 8 bits is compared
// with the CPU engine's FP32 of its own values. --sets: test sets as tools/to_ppm.py writes them,
// for PSNR; an engine of one size sees each picture reflected up to that, and what was added is cut
// off the result, so all variants do the same.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "cuda/cuda_backend.h"
#include "elan/error.h"
#include "model/reference.h"
#include "quality/metrics.h"
#include "support/ppm.h"
#include "tensorrt/tensorrt_backend.h"
#include "tensorrt_faults.h"

namespace elan {
namespace {

constexpr int kRuns = 30, kWarmUp = 5;

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts{""};
  for (const char c : text) {
    if (c == at) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

struct Sample {
  int width = 206, height = 292;
  std::vector<float> rgb;
};

// Smooth shapes and a little noise: nearer to a picture than noise alone.
void fill(Sample& s, std::uint32_t seed = 1) {
  std::uint32_t state = seed;
  for (int y = 0; y < s.height; ++y) {
    for (int x = 0; x < s.width; ++x) {
      for (int c = 0; c < 3; ++c) {
        state = state * 1664525U + 1013904223U;
        const double wave = std::sin(x * 0.11 * seed + c) * std::cos(y * 0.07 * seed - c);
        const double edge = (x / 24 + y / 24) % 2 == 0 ? 30 : -30;
        s.rgb.push_back(static_cast<float>(
            std::rint(std::clamp(128 + 70 * wave + edge + (state >> 24) * 0.05, 0.0, 255.0))));
      }
    }
  }
}

// `p` in the size of `s`, from (left, top), reflected where it is smaller.
void fill(Sample& s, const test::Ppm& p, int left = 0, int top = 0) {
  s.rgb.clear();
  for (int y = 0; y < s.height; ++y) {
    for (int x = 0; x < s.width; ++x) {
      const int row = reflect(top + y, p.height), column = reflect(left + x, p.width);
      const auto at = (static_cast<std::size_t>(row) * p.width + column) * 3;
      for (std::size_t c = 0; c < 3; ++c) s.rgb.push_back(p.rgb[at + c]);
    }
  }
}

// What the command line says beside the models.
struct Job {
  std::string folder = ".", plan, sets;
  std::vector<std::string> variants, pictures;
  int crops = 16;
  bool build_only = false;
  Sample sample;
};

// Crops of the pictures in turn, or made-up ones.
std::shared_ptr<const tensorrt::Calibration> calibration(const Job& job, const PictureSize& size,
                                                         bool copied) {
  auto data = std::make_shared<tensorrt::Calibration>();
  data->copied = copied;
  for (int i = 0; i < job.crops; ++i) {
    Sample s{size.width, size.height, {}};
    if (job.pictures.empty()) {
      fill(s, static_cast<std::uint32_t>(i) + 2);
    } else {
      const auto count = static_cast<int>(job.pictures.size());
      const test::Ppm picture = test::read_ppm(job.pictures[static_cast<std::size_t>(i % count)]);
      fill(s, picture, i * 37 % std::max(1, picture.width - size.width),
           i * 53 % std::max(1, picture.height - size.height));
    }
    std::vector<float>& planar = data->pictures.emplace_back();
    for (std::size_t c = 0; c < 3; ++c) {
      for (std::size_t at = c; at < s.rgb.size(); at += 3) planar.push_back(s.rgb[at]);
    }
  }
  return data;
}

struct Result {
  std::vector<float> rgb;
  double engine_ms = 0, whole_ms = 0;  // medians; the engine's by events, 0: not known
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Result run(Backend& backend, const Sample& s, int scale, int runs) {
  Result result;
  result.rgb.resize(s.rgb.size() * static_cast<std::size_t>(scale) * scale);
  const ConstImageView in = view_of(s.rgb.data(), s.width, s.height);
  const ImageView out = view_of(result.rgb.data(), s.width * scale, s.height * scale);
  std::vector<double> whole, engine;
  for (int i = 0; i < runs; ++i) {
    std::vector<OperationTime> operations;
    RunContext context;
    context.profile = &operations;
    const auto begin = std::chrono::steady_clock::now();
    backend.run({&in, 1}, {&out, 1}, context);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    if (i < std::min(kWarmUp, runs - 1)) continue;
    whole.push_back(took.count());
    double sum = 0;
    for (const OperationTime& o : operations) sum += o.seconds * 1e3;
    engine.push_back(sum);
  }
  result.whole_ms = median(whole);
  result.engine_ms = median(engine);
  return result;
}

// Mean PSNR of the pictures of a folder.
double psnr_of(Backend& backend, Sample s, int scale, const std::filesystem::path& folder) {
  double sum = 0;
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const auto at = name.find("_LR.ppm");
    if (at == std::string::npos) continue;
    const test::Ppm low = test::read_ppm(entry.path());
    const test::Ppm high = test::read_ppm(folder / (name.substr(0, at) + "_HR.ppm"));
    if (low.width > s.width || low.height > s.height) {
      throw Error(ErrorKind::input, entry.path().string() + ": larger than --size");
    }
    fill(s, low);
    const std::vector<float> values = run(backend, s, scale, 1).rgb;
    std::vector<std::uint8_t> rgb(values.size());
    std::transform(values.begin(), values.end(), rgb.begin(), [](float v) {
      return static_cast<std::uint8_t>(std::nearbyint(std::clamp(v, 0.F, 255.F)));
    });
    const int width = low.width * scale, height = low.height * scale;
    const ConstImageView out = view_of(rgb.data(), s.width * scale, s.height * scale);
    const ConstImageView wanted = high.view();
    sum +=
        compare_luma(out.crop(0, 0, width, height), wanted.crop(0, 0, width, height), scale).psnr;
    ++count;
  }
  return count > 0 ? sum / count : NAN;
}

// ", Set5 32.751 dB" for each of the sets.
std::string qualities(Backend& backend, const Job& job, int scale) {
  std::string text;
  if (job.sets.empty()) return text;
  for (const auto& set : std::filesystem::directory_iterator(job.sets)) {
    const auto folder = set.path() / ("x" + std::to_string(scale));
    if (!std::filesystem::is_directory(folder)) continue;
    char number[32];
    std::snprintf(number, sizeof number, " %.3f dB", psnr_of(backend, job.sample, scale, folder));
    text += ", " + set.path().filename().string() + number;
  }
  return text;
}

void print(const std::string& name, const Result& r, const std::vector<float>& reference,
           double build_seconds, double megabytes, const std::string& more) {
  double squares = 0, relative = 0, worst = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double d = std::abs(static_cast<double>(r.rgb[i]) - reference[i]);
    squares += d * d;
    relative += d / (std::abs(static_cast<double>(reference[i])) + 1e-5);
    worst = std::isfinite(d) ? std::max(worst, d) : INFINITY;
  }
  const double count = static_cast<double>(reference.size());
  std::printf("%-40s %8.3f ms %9.3f ms %9.2e %8.4f %8.2f dB %7.1f s %7.1f MB%s\n", name.c_str(),
              r.engine_ms, r.whole_ms, relative / count, worst,
              10 * std::log10(255.0 * 255.0 * count / squares), build_seconds, megabytes,
              more.c_str());
  std::fflush(stdout);
}

tensorrt::BuildOptions options_of(const std::string& variant, const Job& job) {
  const Sample& s = job.sample;
  tensorrt::BuildOptions options;
  const std::vector<std::string> words = split(variant, '+');
  if (words[0] == "plan") {
    options.precision = PrecisionPlan::read(job.plan, Precision::fp16);
  } else {
    options.precision = parse_precision(words[0]);
  }
  const PictureSize size{s.width, s.height};
  options.profile = {size, size, size, 1};
  std::string calibrated;
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (words[i] == "plugins") {
      options.plugins = true;
    } else if (words[i] == "loose") {
      options.loose = true;
    } else if (words[i] == "dynamic") {
      options.profile = {{1, 1}, size, {512, 512}, 1};
    } else if (words[i].starts_with("effort") && words[i].size() == 7) {
      options.effort = words[i][6] - '0';
    } else if (words[i] == "calibrated" || words[i] == "uninitialised") {
      calibrated = words[i];
    } else {
      throw Error(ErrorKind::usage,
                  "variant: expected plugins, loose, dynamic, effort0 to effort5, calibrated or "
                  "uninitialised, found " +
                      words[i]);
    }
  }
  if (!calibrated.empty()) {
    options.calibration =
        calibration(job, tensorrt::calibration_size(options.profile), calibrated == "calibrated");
  }
  return options;
}

// What the CPU engine gives in FP32; kept in a file, for a process each time.
std::vector<float> reference_of(const Model& model, const Job& job) {
  const Sample& s = job.sample;
  const std::string path = job.folder + "/" + model.fingerprint() + "-" + std::to_string(s.width) +
                           "x" + std::to_string(s.height) + ".reference";
  std::vector<float> values(s.rgb.size() * static_cast<std::size_t>(model.scale()) * model.scale());
  const auto bytes = static_cast<std::streamsize>(values.size() * sizeof(float));
  if (std::ifstream file(path, std::ios::binary);
      file.read(reinterpret_cast<char*>(values.data()), bytes)) {
    return values;
  }
  const auto cpu =
      make_cpu_backend(model.shared_network(), Precision::fp32, std::make_shared<ThreadPool>(0));
  values = run(*cpu, s, model.scale(), 1).rgb;
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(values.data()), bytes);
  return values;
}

// Returns how many variants failed.
int check_model(const std::string& path, const Job& job) {
  const Sample& s = job.sample;
  const Model model = Model::load(path);
  const std::string name = model.architecture().variant() + " x" + std::to_string(model.scale());
  const std::vector<float> reference = reference_of(model, job);
  int failed = 0;
  for (const std::string& variant : job.variants) {
    const std::string title = name + " " + variant;
    try {
      if (variant.starts_with("cuda-")) {
        const auto own =
            make_cuda_backend(model.shared_network(), parse_precision(variant.substr(5)), 0);
        const Result result = run(*own, s, model.scale(), kRuns);
        print(title, result, reference, 0, 0, qualities(*own, job, model.scale()));
        continue;
      }
      const tensorrt::BuildOptions options = options_of(variant, job);
      tensorrt::BackendOptions backend;
      backend.plan = job.folder + "/" + model.fingerprint() + "-" + variant + ".plan";
      tensorrt::BuildContext context;
      context.warning = [](const std::string& text) { std::printf("warning: %s\n", text.c_str()); };
      tensorrt::Built built;
      if (!std::filesystem::exists(backend.plan)) {
        std::fprintf(stderr, "%s: building\n", title.c_str());
        built = tensorrt::build_engine(model, options, backend.plan, 0, context);
        std::fprintf(stderr, "%s: built in %.1f s\n", title.c_str(), built.seconds);
      }
      built.bytes = std::filesystem::file_size(backend.plan);
      if (job.build_only) continue;
      const auto engine = tensorrt::make_tensorrt_backend(model, backend, context);
      const Result result = run(*engine, s, model.scale(), kRuns);
      print(title, result, reference, built.seconds, static_cast<double>(built.bytes) / 1e6,
            qualities(*engine, job, model.scale()));
    } catch (const Error& error) {
      std::printf("%-40s FAILED: %s\n", title.c_str(), error.what());
      std::fflush(stdout);
      ++failed;
    }
  }
  return failed;
}

int check(const std::vector<std::string>& arguments) {
  Job job;
  std::string list =
      "cuda-fp16,cuda-fp32,fp16,fp16+plugins,tf32,fp32,fp32+plugins,fp16+loose,"
      "fp16+dynamic,fp16+plugins+dynamic";
  std::vector<std::string> models, graphs;
  bool faults = false;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const bool valued = arguments[i].starts_with("--") && i + 1 < arguments.size();
    if (valued && arguments[i] == "--folder") {
      job.folder = arguments[++i];
    } else if (valued && arguments[i] == "--variants") {
      list = arguments[++i];
    } else if (valued && arguments[i] == "--plan") {
      job.plan = arguments[++i];
    } else if (valued && arguments[i] == "--sets") {
      job.sets = arguments[++i];
    } else if (valued && arguments[i] == "--pictures") {
      job.pictures = split(arguments[++i], ',');
    } else if (valued && arguments[i] == "--crops") {
      job.crops = std::max(1, std::atoi(arguments[++i].c_str()));
    } else if (valued && arguments[i] == "--size" &&
               std::sscanf(arguments[i + 1].c_str(), "%dx%d", &job.sample.width,
                           &job.sample.height) == 2) {
      ++i;
    } else if (valued && arguments[i] == "--graphs") {
      graphs = split(arguments[++i], ',');
    } else if (arguments[i] == "--build") {
      job.build_only = true;
    } else if (arguments[i] == "--faults") {
      faults = true;
    } else if (!arguments[i].starts_with("--")) {
      models = split(arguments[i], ',');
    } else {
      throw Error(ErrorKind::usage,
                  "expected --folder, --variants, --plan, --pictures, --crops, --sets, --size, "
                  "--build, --faults or --graphs, found " +
                      arguments[i]);
    }
  }
  if (!graphs.empty()) {
    check_graphs(graphs);
    return 0;
  }
  if (faults) return check_faults(models.at(0), models.at(1), job.folder) == 0 ? 0 : 1;
  job.variants = split(list, ',');
  fill(job.sample);
  std::printf("%-40s %11s %12s %9s %8s %11s %9s %10s\n", "variant", "engine", "whole", "mean rel.",
              "max", "PSNR", "build", "plan");
  int failed = 0;
  for (const std::string& path : models) failed += check_model(path, job);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace elan

int main(int argc, char** argv) {
  try {
    return elan::check({argv + 1, argv + argc});
  } catch (const elan::Error& error) {
    std::fprintf(stderr, "tensorrt-check: %s\n", error.what());
    return 2;
  }
}
