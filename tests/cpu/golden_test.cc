// The CPU engine against stored FP64 values: every model and size, stage by stage.
#include "support/golden.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "core/thread_pool.h"

namespace elan {
namespace {

using test::Golden;
using test::GoldenCase;

class CpuGolden : public testing::TestWithParam<const char*> {
 protected:
  const Model model_ = Model::load(test::model_path(GetParam()));
  const Golden golden_ = test::load_golden(GetParam());

  std::unique_ptr<Backend> backend(Precision precision) {
    return make_cpu_backend(model_.shared_network(), precision, std::make_shared<ThreadPool>(2));
  }
};

TEST_P(CpuGolden, Fp32IsWithinAThousandthOnEverySize) {
  const auto cpu = backend(Precision::fp32);
  for (const GoldenCase& c : golden_.cases) {
    EXPECT_LE(test::max_abs_difference(test::run_golden(*cpu, c, model_.scale()), c.output), 1e-3)
        << c.size;
  }
}

// Apart, so that an emulated processor can be asked for these alone.
TEST_P(CpuGolden, TheSmallestSizesAreRight) {
  const auto cpu = backend(Precision::fp32);
  int seen = 0;
  for (const GoldenCase& c : golden_.cases) {
    if (c.height * c.width > 3 * 70) continue;
    ++seen;
    EXPECT_LE(test::max_abs_difference(test::run_golden(*cpu, c, model_.scale()), c.output), 1e-3)
        << c.size;
  }
  EXPECT_GT(seen, 0);
}

TEST_P(CpuGolden, EveryStageOfFp32IsRight) {
  const auto cpu = backend(Precision::fp32);
  RunContext context;
  std::vector<std::string> seen;
  context.observer = [&](const StageView& stage) {
    seen.emplace_back(stage.name);
    const auto expected = golden_.stages.find(std::string(stage.name));
    if (expected == golden_.stages.end()) return;
    EXPECT_LE(test::max_abs_difference({stage.f32, stage.size()}, expected->second), 1e-3)
        << stage.name;
  };
  test::run_golden(*cpu, golden_.at(golden_.staged_size), model_.scale(), context);
  EXPECT_EQ(seen, cpu->stages());
}

TEST_P(CpuGolden, Bf16StaysNear) {
  const auto cpu = backend(Precision::bf16);
  for (const GoldenCase& c : golden_.cases) {
    const std::vector<float> output = test::run_golden(*cpu, c, model_.scale());
    double sum = 0;
    for (std::size_t i = 0; i < output.size(); ++i) sum += std::abs(output[i] - c.output[i]);
    EXPECT_LE(sum / static_cast<double>(output.size()), 0.10) << c.size;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, CpuGolden, testing::ValuesIn(test::kGoldenModels),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace elan
