#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string_view>

#include "cuda/check/check.h"
#include "model/plan.h"

namespace elan::check {
namespace {

// What the CPU's FP32 is off from float64 on ordinary pictures, in the mean: at most so much.
constexpr double kUsualError = 2e-5;

// Some pictures amplify the smallest differences: where the softmax is close to a tie, one rounding
// decides what a pixel attends to, and |q|^2 may be large. Synthetic pictures of a few pixels'
// width are the worst: on 75 x 2 PyTorch's FP32 is off by a mean of 1.5e-3, the CPU's by 2.6e-3.
// But also on one of 74 x 9 with hard edges logits reach 9182 on ELAN, and plain FP32 is off by up
// to 5.4e-3. No bar that holds for ordinary pictures can hold there, so a miss is judged again by
// what the reference, which computes in the same precision and on the same kind of residual stream
// on the CPU, is off from float64 itself: twice its mean and ten times its largest error are
// granted.
//
// `exact`: `wanted` are float64 values; else they are the CPU's FP32, which is off, too.
void judge(const Subject& s, const std::string& what, const ConstImageView& in,
           const std::vector<float>& found, const std::vector<float>& wanted, bool exact) {
  Difference e = compare(found, wanted);
  const double mean = s.bar.mean, largest = s.bar.largest(s.model);
  if (e.mean <= mean + (exact ? 0 : kUsualError) && e.largest <= largest) {
    return s.note(what, e, true);
  }
  const auto reference = [&](const PrecisionPlan& plan) {
    return run(*make_reference_backend(s.model.shared_network(), plan), in, s.model.scale());
  };
  std::vector<float>& computed = s.cpu_results["float64 of " + what];
  if (computed.empty()) computed = exact ? wanted : reference(Precision::fp64);
  e = compare(found, computed);
  PrecisionPlan same = s.bar.precision;
  const char* stream = std::getenv("ELANSR_CUDA_STREAM");
  if (same.default_precision() == Precision::fp16 &&
      (stream == nullptr || std::string_view(stream) == "fp16")) {
    same.set("residual", Precision::fp16);
  }
  const Difference own = compare(reference(same), computed);
  const bool held =
      e.mean <= std::max(mean, 2 * own.mean) && e.largest <= std::max(largest, 10 * own.largest);
  char text[160];
  std::snprintf(text, sizeof text, "%s, reference %.2g %.2g", what.c_str(), own.largest, own.mean);
  s.note(text, e, held);
}

// Names the first stage that is off by more than the precision explains, relative to the largest
// value of the stage.
void check_stages(const Subject& s, const test::Golden& golden) {
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
  test::run_golden(s.gpu, golden.at(golden.staged_size), s.model.scale(), context);
  const bool coarse = s.bar.precision == Precision::bf16 || s.bar.precision == Precision::fp8;
  const double limit = s.bar.precision == Precision::fp32 ? 1e-4 : coarse ? 0.3 : 0.1;
  std::string first;
  for (const std::string& stage : order) {
    if (!(errors[stage].first <= limit * errors[stage].second) && first.empty()) first = stage;
  }
  Difference worst;
  for (const auto& [stage, e] : errors) {
    worst.largest = std::max(worst.largest, e.first / std::max(e.second, 1e-30));
  }
  const bool complete = order.size() >= golden.stages.size() - 1;
  s.note(first.empty() ? "stages (relative)" : "stages, first off " + first, worst,
         first.empty() && complete);
  if (!first.empty() || !complete) {
    for (const std::string& stage : order) {
      std::printf("  %-18s max %.4g of %.4g\n", stage.c_str(), errors[stage].first,
                  errors[stage].second);
    }
  }
}

void check_file(const Subject& s, const std::string& path) {
  const test::Golden golden = test::load_golden_file(path);
  for (const test::GoldenCase& c : golden.cases) {
    if (s.options.quick && c.height * c.width > 1000) continue;
    judge(s, c.size, view_of(c.input.data(), c.width, c.height),
          test::run_golden(s.gpu, c, s.model.scale()), c.output, true);
  }
  if (!golden.stages.empty()) check_stages(s, golden);
}

void check_against_cpu(const Subject& s, const std::string& what, const Picture& p) {
  judge(s, what, p.view(), run(s.gpu, p.view(), s.model.scale()), s.on_cpu(what, p.view()), false);
}

// Odd and even sides from 1 to 90 pixels, most of them small.
void check_random_sizes(const Subject& s) {
  std::mt19937 random(17);
  for (int i = 0; i < s.options.sizes; ++i) {
    const auto side = [&] {
      const int most = random() % 3 == 0 ? 90 : 40;
      return 1 + static_cast<int>(random() % static_cast<unsigned>(most));
    };
    const int width = side(), height = side();
    const auto seed = static_cast<std::uint32_t>(random());
    const std::string what =
        "random " + std::to_string(i) + ", " + std::to_string(width) + "x" + std::to_string(height);
    check_against_cpu(s, what, drawn(width, height, seed));
  }
}

void check_batch(const Subject& s) {
  const int w = 206, h = 292, scale = s.model.scale();
  std::vector<Picture> pictures;
  std::vector<ConstImageView> in;
  std::vector<std::vector<float>> out;
  std::vector<ImageView> views;
  for (std::uint32_t i = 0; i < 3; ++i) pictures.push_back(drawn(w, h, 100 + i));
  for (const Picture& p : pictures) {
    in.push_back(p.view());
    out.emplace_back(p.rgb.size() * scale * scale);
  }
  for (auto& o : out) views.push_back(view_of(o.data(), w * scale, h * scale));
  s.gpu.run(in, views, {});
  for (std::size_t i = 0; i < in.size(); ++i) {
    const std::string what = "206x292, batch 3, picture " + std::to_string(i);
    judge(s, what, in[i], out[i], s.on_cpu(what, in[i]), false);
  }
}

}  // namespace

void check_accuracy(const Subject& s) {
  check_file(s, s.options.data + "/" + s.name + ".safetensors");
  const std::string extra = s.options.extra + "/" + s.name + ".safetensors";
  if (!s.options.extra.empty() && std::filesystem::exists(extra)) check_file(s, extra);
  if (s.options.quick) return;
  check_random_sizes(s);
  check_batch(s);
}

}  // namespace elan::check
