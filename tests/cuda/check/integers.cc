#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "core/thread_pool.h"
#include "cuda/check/check.h"
#include "cuda/pack.h"
#include "model/stages.h"
#include "support/fp8_lfe.h"
#include "support/int8_lfe.h"

namespace elan::check {
namespace {

using Stages = std::map<std::string, std::vector<float>>;

Stages stages_of(Backend& backend, const Picture& p, int scale) {
  Stages stages;
  RunContext context;
  context.observer = [&](const StageView& view) {
    auto& values = stages[std::string(view.name)];
    for (std::size_t i = 0; i < view.size(); ++i) values.push_back(static_cast<float>(view.at(i)));
  };
  run(backend, p.view(), scale, context);
  return stages;
}

// Every LFE whose convolutions are in 8 bits, on the x that the device had: the same bits.
void check_lfes(const Model& model, CudaBackend& gpu, const std::string& name, Results& results) {
  const Network& net = model.network();
  constexpr int kWidth = 32, kHeight = 16;  // padded already
  const Stages stages = stages_of(gpu, drawn(kWidth, kHeight, 5), model.scale());
  std::string before = "head", worst;
  std::size_t checked = 0, wrong = 0;
  for (int i = 0; i < net.arch.elabs; ++i) {
    for (int j = 0; j < net.arch.pairs; ++j) {
      const std::string stage = lfe_stage(i, j);
      const Lfe& lfe = net.body[i].lfe[j];
      if (lfe.conv0.int8 && lfe.conv1.int8) {
        const auto wanted = test::int8_lfe(lfe, stages.at(before), kWidth, kHeight);
        const auto& found = stages.at(stage);
        for (std::size_t k = 0; k < found.size(); ++k) {
          if (found[k] == cuda::from_half(cuda::to_half(wanted[k]))) continue;
          if (wrong++ == 0) worst = stage;
        }
        checked += found.size();
      }
      before = gmsa_stage(i, j);
    }
  }
  results.note(name + " int8, LFEs on the same input", wrong == 0 && checked > 0,
               std::to_string(wrong) + " of " + std::to_string(checked) + " values differ" +
                   (worst.empty() ? "" : ", first in " + worst));
}

// Two engines end as far from each other as each is from FP32, and no further.
void check_distance(const Model& model, CudaBackend& gpu, const std::string& name,
                    const Options& options, Results& results) {
  const auto threads = std::make_shared<ThreadPool>(0);
  const auto exact = make_cpu_backend(model.shared_network(), Precision::fp32, threads);
  const auto cpu = make_cpu_backend(model.shared_network(), Precision::int8, threads);
  std::vector<std::pair<int, int>> sizes{{17, 30}, {64, 64}};
  if (!options.quick) sizes.insert(sizes.end(), {{1, 5}, {33, 90}, {206, 292}});
  for (const auto& [width, height] : sizes) {
    const Picture p = drawn(width, height, 9);
    const auto on_gpu = run(gpu, p.view(), model.scale());
    const auto on_cpu = run(*cpu, p.view(), model.scale());
    const auto wanted = run(*exact, p.view(), model.scale());
    const Difference usual = compare(on_cpu, wanted), found = compare(on_gpu, wanted);
    const Difference apart = compare(on_gpu, on_cpu);
    // The mean over a handful of pixels is not one of many independent errors.
    const double most = (width * height < 64 ? 2 : 1.25) * usual.mean + 0.01;
    char text[160];
    std::snprintf(text, sizeof text, "from fp32 mean %.4f, cpu %.4f; from cpu mean %.4f, max %.3g",
                  found.mean, usual.mean, apart.mean, apart.largest);
    results.note(name + " int8, " + std::to_string(width) + "x" + std::to_string(height),
                 found.mean <= most && apart.mean <= 1.5 * most, text);
  }
}

// The same in fp8, where tensor cores drop the lowest bits of sums, so that some round to the next
// number: no further off, in the mean, than a hundredth of what the LFE adds.
void check_fp8_lfes(const std::string& name, const Options& options, Results& results) {
  const Model model = Model::load(options.models + "/" + name + ".safetensors");
  const auto gpu = make_cuda_backend(model.shared_network(), Precision::fp8, 0);
  const Network& net = model.network();
  constexpr int kWidth = 32, kHeight = 16;  // padded already
  const Stages stages = stages_of(*gpu, drawn(kWidth, kHeight, 5), model.scale());
  std::string before = "head";
  double misses = 0, error = 0;
  for (int i = 0; i < net.arch.elabs; ++i) {
    for (int j = 0; j < net.arch.pairs; ++j) {
      const std::vector<float>&x = stages.at(before), &found = stages.at(lfe_stage(i, j));
      const auto wanted = test::fp8_lfe(net.body[i].lfe[j], x, kWidth, kHeight);
      misses = std::max(misses, test::fp8_misses(found, wanted));
      error = std::max(error, compare(found, wanted).mean / compare(wanted, x).mean);
      before = gmsa_stage(i, j);
    }
  }
  char text[100];
  std::snprintf(text, sizeof text, "off by %.2g of what is added, %.2g of the values differ", error,
                misses);
  results.note(name + " fp8, LFEs on the same input", error <= 0.01, text);
}

}  // namespace

void check_integers(const Options& options, Results& results) {
  std::vector<std::string> models{"elan_light_int8_x2", "elan_light_int8_x3", "elan_light_int8_x4",
                                  "elan_int8_x4"};
  if (options.quick) models = {"elan_light_int8_x4", "elan_int8_x4"};
  for (const std::string& name : models) {
    const Model model = Model::load(options.models + "/" + name + ".safetensors");
    const auto gpu = make_cuda_backend(model.shared_network(), Precision::int8, 0);
    std::printf("%s\n", gpu->description().c_str());
    const bool hopper = gpu->description().ends_with(", hopper)");
    results.note(name + ", int8 by default on Hopper's kernels only",
                 (default_cuda_precision(model.network(), 0) == Precision::int8) == hopper, "");
    check_lfes(model, *gpu, name, results);
    check_distance(model, *gpu, name, options, results);
  }
  for (const char* name : {"elan_light_x4", "elan_x4"}) check_fp8_lfes(name, options, results);
}

}  // namespace elan::check
