// Checks the CUDA backend on a GPU against stored values computed in float64; needs neither
// GoogleTest nor picture files.
//
//   gpu-check [--json FILE] [--models DIR] [--data DIR] [--extra DIR] [--quick] [--only TEXT]
//
// --extra: a folder with further files like those in tests/data (bench/torch_gpu.py writes them).
// --quick: small sizes, one model of each width (for use under compute-sanitizer).
// --only: what "MODEL PRECISION" must contain, for example "elan_x4 fp16".
// Ends with 0 when all is well, 1 when something is not, 77 when there is no GPU.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "cuda/cuda_backend.h"
#include "elan/error.h"
#include "model/network.h"
#include "support/golden.h"

namespace elan {
namespace {

// The worst errors on 0..255 that are accepted, from emulations of each arithmetic.
struct Bar {
  Precision precision;
  double mean, largest_light, largest_full;
};
constexpr Bar kHalfOnFp32Stream{Precision::fp16, 1e-2, 10.5, 1.2};
constexpr std::array<Bar, 4> kBars{{
    {Precision::fp32, 3e-5, 5e-3, 3e-3},
    {Precision::tf32, 1e-2, 2.7, 1.4},
    {Precision::fp16, 2.5e-2, 9.2, 3},  // on an FP16 stream
    {Precision::bf16, 0.2, 18, 10},
}};

// The bar of a precision with the residual stream that ELANSR_CUDA_STREAM asks for.
Bar with_stream(const Bar& bar) {
  const char* stream = std::getenv("ELANSR_CUDA_STREAM");
  const bool fp32 = stream != nullptr && std::string(stream) == "fp32";
  return bar.precision == Precision::fp16 && fp32 ? kHalfOnFp32Stream : bar;
}

struct Options {
  std::string json, models = ELANSR_MODELS, data = ELANSR_TEST_DATA, extra, only;
  bool quick = false;
};

struct Error2 {
  double largest = 0, mean = 0;
};

Error2 compare(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return {INFINITY, INFINITY};
  Error2 e;
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(double(a[i]) - double(b[i]));
    if (!(d <= e.largest)) e.largest = std::isnan(d) ? INFINITY : d;
    sum += d;
  }
  e.mean = std::isfinite(e.largest) ? sum / static_cast<double>(std::max<std::size_t>(a.size(), 1))
                                    : INFINITY;
  return e;
}

class Check {
 public:
  explicit Check(Options options) : options_(std::move(options)) {}

  int run() {
    std::printf("%s\n", cuda_status().c_str());
    std::printf("%-14s %-5s %-22s %10s %10s  %s\n", "model", "kind", "case", "max", "mean", "");
    for (const char* name : {"elan_light_x2", "elan_light_x3", "elan_light_x4", "elan_x4"}) {
      if (options_.quick && std::string(name) != "elan_light_x4" && std::string(name) != "elan_x4")
        continue;
      const Model model = Model::load(options_.models + "/" + name + ".safetensors");
      for (const Bar& usual : kBars) {
        const Bar bar = with_stream(usual);
        const std::string text = std::string(name) + " " + std::string(to_string(bar.precision));
        if (text.find(options_.only) == std::string::npos) continue;
        try {
          check_model(name, model, bar);
        } catch (const Error& e) {
          note(name, bar, "error", {INFINITY, INFINITY}, false);
          std::printf("  %s\n", e.what());
        }
      }
    }
    if (!options_.json.empty()) {
      std::ofstream file(options_.json);
      file << "{\"device\": \"" << cuda_status() << "\", \"failed\": " << failed_
           << ", \"checks\": [\n"
           << json_ << "\n]}\n";
    }
    std::printf("%d checks, %d failed\n", checks_, failed_);
    return failed_ == 0 ? 0 : 1;
  }

 private:
  void note(const std::string& model, const Bar& bar, const std::string& what, const Error2& e,
            bool ok) {
    ++checks_;
    failed_ += ok ? 0 : 1;
    const std::string kind(to_string(bar.precision));
    std::printf("%-14s %-5s %-22s %10.3g %10.3g  %s\n", model.c_str(), kind.c_str(), what.c_str(),
                e.largest, e.mean, ok ? "" : "FAILED");
    std::fflush(stdout);
    char line[256];
    std::snprintf(
        line, sizeof line,
        R"({"model": "%s", "precision": "%s", "case": "%s", "max": %.4g, "mean": %.4g, "ok": %s})",
        model.c_str(), kind.c_str(), what.c_str(), std::min(e.largest, 1e30),
        std::min(e.mean, 1e30), ok ? "true" : "false");
    json_ += (json_.empty() ? "" : ",\n") + std::string(line);
  }

  [[nodiscard]] static bool within(const Bar& bar, const Model& model, const Error2& e) {
    const double largest =
        model.architecture().channels == 180 ? bar.largest_full : bar.largest_light;
    return e.mean <= bar.mean && e.largest <= largest;
  }

  void check_model(const std::string& name, const Model& model, const Bar& bar) {
    const auto backend = make_cuda_backend(model.shared_network(), bar.precision, 0);
    check_file(options_.data + "/" + name + ".safetensors", name, model, bar, *backend);
    const std::string extra = options_.extra + "/" + name + ".safetensors";
    if (!options_.extra.empty() && std::filesystem::exists(extra)) {
      check_file(extra, name, model, bar, *backend);
    }
    check_repeats(name, model, bar, *backend);
    check_samples(name, model, bar, *backend);
    // A result that is no finite number would have been computed again, unnoticed above.
    const auto reruns = static_cast<double>(backend->reruns());
    note(name, bar, "no reruns", {reruns, 0}, reruns == 0);
  }

  void check_file(const std::string& path, const std::string& name, const Model& model,
                  const Bar& bar, CudaBackend& backend) {
    const test::Golden golden = test::load_golden_file(path);
    for (const test::GoldenCase& c : golden.cases) {
      if (options_.quick && c.height * c.width > 1000) continue;
      const Error2 e = compare(test::run_golden(backend, c, model.scale()), c.output);
      note(name, bar, c.size, e, within(bar, model, e));
    }
    if (!golden.stages.empty()) check_stages(golden, name, model, bar, backend);
  }

  // Names the first stage that is off by more than the precision explains, relative to the largest
  // value of the stage.
  void check_stages(const test::Golden& golden, const std::string& name, const Model& model,
                    const Bar& bar, CudaBackend& backend) {
    std::map<std::string, std::pair<double, double>> errors;
    std::vector<std::string> order;
    RunContext context;
    context.observer = [&](const StageView& view) {
      const auto at = golden.stages.find(std::string(view.name));
      if (at == golden.stages.end()) return;
      double largest = 0, error = view.size() == at->second.size() ? 0 : INFINITY;
      for (std::size_t i = 0; i < at->second.size() && std::isfinite(error); ++i) {
        largest = std::max(largest, std::abs(double(at->second[i])));
        const double d = std::abs(view.at(i) - at->second[i]);
        if (!(d <= error)) error = std::isnan(d) ? INFINITY : d;
      }
      order.emplace_back(view.name);
      errors[order.back()] = {error, largest};
    };
    test::run_golden(backend, golden.at(golden.staged_size), model.scale(), context);
    const double limit = bar.precision == Precision::fp32   ? 1e-4
                         : bar.precision == Precision::bf16 ? 0.3
                                                            : 0.1;
    std::string first;
    for (const std::string& stage : order) {
      if (!(errors[stage].first <= limit * errors[stage].second) && first.empty()) first = stage;
    }
    Error2 worst;
    for (const auto& [stage, e] : errors) {
      worst.largest = std::max(worst.largest, e.first / std::max(e.second, 1e-30));
    }
    const bool complete = order.size() >= golden.stages.size() - 1;
    note(name, bar, "stages (relative)", worst, first.empty() && complete);
    if (!first.empty() || !complete) {
      std::printf("  first off: %s\n", first.c_str());
      for (const std::string& stage : order) {
        std::printf("  %-18s max %.4g of %.4g\n", stage.c_str(), errors[stage].first,
                    errors[stage].second);
      }
    }
  }

  // Bit for bit the same: again, from a graph, in a batch, and after another size.
  void check_repeats(const std::string& name, const Model& model, const Bar& bar,
                     CudaBackend& backend) {
    std::mt19937 random(7);
    const int w = 41, h = options_.quick ? 19 : 83, s = model.scale();
    std::vector<std::vector<std::uint8_t>> in(3);
    std::vector<ConstImageView> views;
    for (auto& picture : in) {
      picture.resize(static_cast<std::size_t>(w) * h * 3);
      for (auto& v : picture) v = static_cast<std::uint8_t>(random());
      views.push_back(view_of(std::as_const(picture).data(), w, h));
    }
    const std::size_t size = static_cast<std::size_t>(w) * h * 3 * s * s;
    const auto run_some = [&](std::size_t first, std::size_t count) {
      std::vector<std::vector<float>> out(count, std::vector<float>(size, NAN));
      std::vector<ImageView> to;
      for (auto& o : out) to.push_back(view_of(o.data(), w * s, h * s));
      backend.run({views.data() + first, count}, to, {});
      return out;
    };
    std::vector<std::vector<float>> alone;
    for (std::size_t i = 0; i < 3; ++i) alone.push_back(run_some(i, 1)[0]);  // plain, then graphs
    const Error2 again = compare(run_some(0, 1)[0], alone[0]);
    const auto batch = run_some(0, 3);
    const auto batch_again = run_some(0, 3);
    Error2 e = again;
    for (std::size_t i = 0; i < 3; ++i) {
      e.largest = std::max({e.largest, compare(batch[i], alone[i]).largest,
                            compare(batch_again[i], alone[i]).largest});
    }
    note(name, bar, "repeats, batch 3", e, e.largest == 0);
  }

  // u8 and u16 output are the rounded float output; u16 input is 257 times u8.
  void check_samples(const std::string& name, const Model& model, const Bar& bar,
                     CudaBackend& backend) {
    std::mt19937 random(11);
    const int w = 21, h = 18, s = model.scale();
    const std::size_t in_size = static_cast<std::size_t>(w) * h * 3, out_size = in_size * s * s;
    std::vector<std::uint8_t> in8(in_size), out8(out_size);
    std::vector<std::uint16_t> in16(in_size), out16(out_size);
    std::vector<float> in32(in_size), out32(out_size), out32b(out_size);
    for (std::size_t i = 0; i < in_size; ++i) {
      in8[i] = static_cast<std::uint8_t>(random());
      in16[i] = static_cast<std::uint16_t>(in8[i] * 257);
      in32[i] = in8[i];
    }
    const auto once = [&](const ConstImageView& in, const ImageView& out) {
      backend.run({&in, 1}, {&out, 1}, {});
    };
    once(view_of(std::as_const(in32).data(), w, h), view_of(out32.data(), w * s, h * s));
    once(view_of(std::as_const(in16).data(), w, h), view_of(out32b.data(), w * s, h * s));
    once(view_of(std::as_const(in8).data(), w, h), view_of(out8.data(), w * s, h * s));
    once(view_of(std::as_const(in8).data(), w, h), view_of(out16.data(), w * s, h * s));
    Error2 e = compare(out32, out32b);
    for (std::size_t i = 0; i < out_size; ++i) {
      const float r8 = std::clamp(std::nearbyint(out32[i]), 0.F, 255.F);
      const float r16 = std::clamp(std::nearbyint(out32[i] * 257.F), 0.F, 65535.F);
      e.largest =
          std::max({e.largest, double(std::abs(r8 - out8[i])), double(std::abs(r16 - out16[i]))});
    }
    note(name, bar, "sample types", e, e.largest <= 1e-4);
  }

  Options options_;
  int checks_ = 0, failed_ = 0;
  std::string json_;
};

}  // namespace
}  // namespace elan

int main(int argc, char** argv) {
  elan::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    const auto value = [&] { return i + 1 < argc ? argv[++i] : ""; };
    if (key == "--json")
      options.json = value();
    else if (key == "--models")
      options.models = value();
    else if (key == "--data")
      options.data = value();
    else if (key == "--extra")
      options.extra = value();
    else if (key == "--only")
      options.only = value();
    else if (key == "--quick")
      options.quick = true;
    else {
      std::fprintf(stderr, "gpu-check: unknown option %s\n", key.c_str());
      return 2;
    }
  }
  if (elan::cuda_device_count() == 0) {
    std::fprintf(stderr, "gpu-check: skipped, %s\n", elan::cuda_status().c_str());
    return 77;
  }
  try {
    return elan::Check(options).run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "gpu-check: %s\n", e.what());
    return 1;
  }
}
