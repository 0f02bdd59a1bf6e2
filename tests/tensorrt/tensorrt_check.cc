// Builds and runs engines on the TensorRT of this machine and compares them with the CPU engine's
// FP32 and with our own CUDA backend: one line a variant. Needs a GPU, no picture files.
//
//   tensorrt-check MODEL[,MODEL...] [--size WxH] [--variants LIST] [--folder DIR]
//
// A variant is PRECISION[+plugins][+loose][+dynamic], for example fp16+plugins+dynamic.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "cuda/cuda_backend.h"
#include "elan/error.h"
#include "tensorrt/tensorrt_backend.h"

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
void fill(Sample& s) {
  std::uint32_t state = 1;
  for (int y = 0; y < s.height; ++y) {
    for (int x = 0; x < s.width; ++x) {
      for (int c = 0; c < 3; ++c) {
        state = state * 1664525U + 1013904223U;
        const double wave = std::sin(x * 0.11 + c) * std::cos(y * 0.07 - c);
        const double edge = (x / 24 + y / 24) % 2 == 0 ? 30 : -30;
        s.rgb.push_back(static_cast<float>(
            std::rint(std::clamp(128 + 70 * wave + edge + (state >> 24) * 0.05, 0.0, 255.0))));
      }
    }
  }
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

void print(const std::string& name, const Result& r, const std::vector<float>& reference,
           double build_seconds, double megabytes) {
  double squares = 0, relative = 0, worst = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double d = std::abs(static_cast<double>(r.rgb[i]) - reference[i]);
    squares += d * d;
    relative += d / (std::abs(static_cast<double>(reference[i])) + 1e-5);
    worst = std::isfinite(d) ? std::max(worst, d) : INFINITY;
  }
  const double count = static_cast<double>(reference.size());
  std::printf("%-40s %8.3f ms %9.3f ms %9.2e %8.4f %8.2f dB %7.1f s %7.1f MB\n", name.c_str(),
              r.engine_ms, r.whole_ms, relative / count, worst,
              10 * std::log10(255.0 * 255.0 * count / squares), build_seconds, megabytes);
  std::fflush(stdout);
}

tensorrt::BuildOptions options_of(const std::string& variant, const Sample& s) {
  tensorrt::BuildOptions options;
  const std::vector<std::string> words = split(variant, '+');
  options.precision = parse_precision(words[0]);
  const PictureSize size{s.width, s.height};
  options.profile = {size, size, size, 1};
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (words[i] == "plugins") {
      options.plugins = true;
    } else if (words[i] == "loose") {
      options.loose = true;
    } else if (words[i] == "dynamic") {
      options.profile = {{1, 1}, size, {512, 512}, 1};
    } else {
      throw Error(ErrorKind::usage,
                  "variant: expected plugins, loose or dynamic, found " + words[i]);
    }
  }
  return options;
}

// Returns how many variants failed.
int check_model(const std::string& path, const std::vector<std::string>& variants, Sample& s,
                const std::string& folder) {
  const Model model = Model::load(path);
  const std::string name = model.architecture().variant() + " x" + std::to_string(model.scale());
  const auto cpu =
      make_cpu_backend(model.shared_network(), Precision::fp32, std::make_shared<ThreadPool>(0));
  const std::vector<float> reference = run(*cpu, s, model.scale(), 1).rgb;
  int failed = 0;
  for (const std::string& variant : variants) {
    const std::string title = name + " " + variant;
    try {
      if (variant.starts_with("cuda-")) {
        const auto own =
            make_cuda_backend(model.shared_network(), parse_precision(variant.substr(5)), 0);
        print(title, run(*own, s, model.scale(), kRuns), reference, 0, 0);
        continue;
      }
      const tensorrt::BuildOptions options = options_of(variant, s);
      tensorrt::BackendOptions backend;
      backend.plan = folder + "/" + model.fingerprint() + "-" + variant + ".plan";
      tensorrt::BuildContext context;
      context.warning = [](const std::string& text) { std::printf("warning: %s\n", text.c_str()); };
      const tensorrt::Built built =
          tensorrt::build_engine(model, options, backend.plan, 0, context);
      const auto engine = tensorrt::make_tensorrt_backend(model, backend, context);
      print(title, run(*engine, s, model.scale(), kRuns), reference, built.seconds,
            static_cast<double>(built.bytes) / 1e6);
    } catch (const Error& error) {
      std::printf("%-40s FAILED: %s\n", title.c_str(), error.what());
      std::fflush(stdout);
      ++failed;
    }
  }
  return failed;
}

int check(const std::vector<std::string>& arguments) {
  std::string folder = ".";
  std::string list =
      "cuda-fp16,cuda-fp32,fp16,fp16+plugins,tf32,fp32,fp32+plugins,fp16+loose,"
      "fp16+dynamic,fp16+plugins+dynamic";
  std::vector<std::string> models;
  Sample sample;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const bool valued = arguments[i].starts_with("--") && i + 1 < arguments.size();
    if (valued && arguments[i] == "--folder") {
      folder = arguments[++i];
    } else if (valued && arguments[i] == "--variants") {
      list = arguments[++i];
    } else if (valued && arguments[i] == "--size" &&
               std::sscanf(arguments[i + 1].c_str(), "%dx%d", &sample.width, &sample.height) == 2) {
      ++i;
    } else if (!arguments[i].starts_with("--")) {
      models = split(arguments[i], ',');
    } else {
      throw Error(ErrorKind::usage,
                  "expected --folder, --variants or --size, found " + arguments[i]);
    }
  }
  fill(sample);
  std::printf("%-40s %11s %12s %9s %8s %11s %9s %10s\n", "variant", "engine", "whole", "mean rel.",
              "max", "PSNR", "build", "plan");
  int failed = 0;
  for (const std::string& path : models)
    failed += check_model(path, split(list, ','), sample, folder);
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
