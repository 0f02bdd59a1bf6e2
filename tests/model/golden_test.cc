// The readable forward pass against values computed elsewhere in float64, per stage and size.
#include "support/golden.h"

#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "backend.h"
#include "model/network.h"

namespace elan::test {
namespace {

double tolerance(Precision precision) {
  return precision == Precision::fp64 ? 1e-4 : 1e-3;
}

class GoldenTest : public testing::TestWithParam<std::tuple<const char*, Precision>> {
 protected:
  [[nodiscard]] std::unique_ptr<Backend> backend() const {
    return make_reference_backend(model_.shared_network(), precision_);
  }

  const char* const name_ = std::get<0>(GetParam());
  const Precision precision_ = std::get<1>(GetParam());
  const Model model_ = Model::load(model_path(name_));
  const Golden golden_ = load_golden(name_);
};

TEST_P(GoldenTest, OutputOfEverySize) {
  ASSERT_GE(golden_.cases.size(), 2U);
  for (const GoldenCase& c : golden_.cases) {
    SCOPED_TRACE(c.size);
    EXPECT_LE(max_abs_difference(run_golden(*backend(), c, model_.scale()), c.output),
              tolerance(precision_));
  }
}

TEST_P(GoldenTest, EveryStage) {
  ASSERT_GE(golden_.stages.size(), 5U);
  std::map<std::string, double> difference;
  RunContext context;
  context.observer = [&](const StageView& stage) {
    const auto at = golden_.stages.find(std::string(stage.name));
    if (at == golden_.stages.end()) return;
    ASSERT_EQ(stage.size(), at->second.size()) << stage.name;
    ASSERT_EQ(stage.f64 != nullptr, precision_ == Precision::fp64);
    double& largest = difference[at->first];
    for (std::size_t i = 0; i < stage.size(); ++i) {
      largest = std::max(largest, std::abs(stage.at(i) - at->second[i]));
    }
  };
  run_golden(*backend(), golden_.at(golden_.staged_size), model_.scale(), context);
  EXPECT_EQ(difference.size(), golden_.stages.size());
  for (const auto& [stage, largest] : difference) {
    EXPECT_LE(largest, tolerance(precision_)) << stage;
  }
}

std::string case_name(const testing::TestParamInfo<GoldenTest::ParamType>& info) {
  return std::string(std::get<0>(info.param)) + "_" +
         std::string(to_string(std::get<1>(info.param)));
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest,
                         testing::Combine(testing::ValuesIn(kGoldenModels),
                                          testing::Values(Precision::fp64, Precision::fp32)),
                         case_name);

}  // namespace
}  // namespace elan::test
