// Checks the CUDA backend on a GPU against stored values computed in float64 and against the CPU;
// needs neither GoogleTest nor the picture code.
//
//   gpu-check [--json FILE] [--models DIR] [--data DIR] [--extra DIR] [--sets DIR] [--sizes N]
//             [--quick] [--tiny] [--only TEXT]
//
// --extra: a folder with further files like those in tests/data (bench/torch_gpu.py writes them).
// --sets: test sets as tools/to_ppm.py writes them, for PSNR.
// --sizes: how many random sizes for each model and precision (50).
// --quick: small sizes, one model of each width (for use under compute-sanitizer).
// --tiny: one picture of 16x16 and nothing else (for racecheck, which is slower still).
// --only: what "MODEL PRECISION" must contain, for example "elan_x4 fp16"; "int8", "mixed",
//         "robustness" and "quality" are the parts without a model.
// Columns: largest and mean difference on 0..255 (for PSNR: dB, and the distance from fp32).
// Ends with 0 when all is well, 1 when something is not, 77 when there is no GPU.
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "cuda/check/check.h"
#include "elan/error.h"

namespace elan::check {
namespace {

// fp32: asked for are 1e-3 for single values, whatever the model.
constexpr std::array<Bar, 5> kBars{{
    {Precision::fp32, 3e-5, 1e-3, 1e-3},
    {Precision::tf32, 1e-2, 2.7, 1.4},
    {Precision::fp16, 2.5e-2, 9.2, 3},  // on an FP16 stream
    {Precision::bf16, 0.2, 18, 10},
    {Precision::fp8, 0.6, 40, 25},
}};
constexpr Bar kHalfOnFinerStream{Precision::fp16, 1e-2, 10.5, 1.2};

// The bar of a precision with the residual stream that ELANSR_CUDA_STREAM asks for.
Bar with_stream(const Bar& bar) {
  const char* stream = std::getenv("ELANSR_CUDA_STREAM");
  const bool finer = stream != nullptr && std::string(stream) != "fp16";
  return bar.precision == Precision::fp16 && finer ? kHalfOnFinerStream : bar;
}

void check_model(const std::string& name, const Options& options, Results& results) {
  const Model model = Model::load(options.models + "/" + name + ".safetensors");
  const auto cpu =
      make_cpu_backend(model.shared_network(), Precision::fp32, std::make_shared<ThreadPool>(0));
  std::map<std::string, std::vector<float>> cpu_results;
  for (const Bar& usual : kBars) {
    const Bar bar = with_stream(usual);
    const std::string text = name + " " + std::string(to_string(bar.precision));
    if (text.find(options.only) == std::string::npos) continue;
    const auto start = std::chrono::steady_clock::now();
    try {
      const auto gpu = make_cuda_backend(model.shared_network(), bar.precision, 0);
      const Subject subject{name, model, bar, *gpu, *cpu, cpu_results, options, results};
      if (options.tiny) {
        const Picture p = drawn(16, 16, 1);
        const Difference e =
            compare(run(*gpu, p.view(), model.scale()), run(*cpu, p.view(), model.scale()));
        subject.note("16x16", e, e.mean <= bar.mean * 2);
        continue;
      }
      check_accuracy(subject);
      check_behaviour(subject);
      check_device_pictures(subject);
    } catch (const Error& e) {
      results.note(name, bar.precision, "error", {INFINITY, INFINITY}, false);
      std::printf("  %s\n", e.what());
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    std::printf("%s took %.1f s\n", text.c_str(), took.count());
  }
}

int check_all(const Options& options) {
  Results results;
  std::printf("%s\n", cuda_status().c_str());
  std::vector<std::string> models{"elan_light_x2", "elan_light_x3", "elan_light_x4", "elan_x4"};
  if (options.quick) models = {"elan_light_x4", "elan_x4"};
  for (const std::string& name : models) check_model(name, options, results);
  const auto part = [&](const std::string& name, auto check) {
    if (name.find(options.only) == std::string::npos) return;
    try {
      check(options, results);
    } catch (const std::exception& e) {
      results.note(name, false, e.what());
    }
  };
  part("int8", check_integers);
  part("mixed", check_mixed);
  part("robustness", check_robustness);
  if (!options.sets.empty()) {
    part("quality", check_quality);
    part("int8 quality", check_int8_quality);
  }
  if (!options.json.empty()) results.write(options.json);
  std::printf("%d checks, %d failed\n", results.checks(), results.failed());
  return results.failed() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace elan::check

int main(int argc, char** argv) {
  elan::check::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    const auto value = [&] { return std::string(i + 1 < argc ? argv[++i] : ""); };
    if (key == "--json") {
      options.json = value();
    } else if (key == "--models") {
      options.models = value();
    } else if (key == "--data") {
      options.data = value();
    } else if (key == "--extra") {
      options.extra = value();
    } else if (key == "--sets") {
      options.sets = value();
    } else if (key == "--sizes") {
      options.sizes = std::stoi(value());
    } else if (key == "--only") {
      options.only = value();
    } else if (key == "--quick") {
      options.quick = true;
    } else if (key == "--tiny") {
      options.tiny = options.quick = true;
    } else {
      std::fprintf(stderr, "gpu-check: unknown option %s\n", key.c_str());
      return 2;
    }
  }
  if (elan::cuda_device_count() == 0) {
    std::fprintf(stderr, "gpu-check: skipped, %s\n", elan::cuda_status().c_str());
    return 77;
  }
  try {
    return elan::check::check_all(options);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "gpu-check: %s\n", e.what());
    return 1;
  }
}
