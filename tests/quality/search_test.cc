#include "quality/search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "model/stages.h"

namespace elan::test {
namespace {

constexpr Precision kExact = Precision::fp32, kHalf = Precision::fp16, kByte = Precision::int8;

SearchPart part(const std::string& name, double half_error, double cost = 2) {
  return {name, {name}, {{kExact, 0, cost}, {kHalf, half_error, cost / 2}}};
}

std::vector<Precision> precisions(const std::vector<SearchPart>& parts, const Choice& choice) {
  std::vector<Precision> list;
  for (std::size_t p = 0; p < parts.size(); ++p) {
    list.push_back(parts[p].options[choice[p]].precision);
  }
  return list;
}

TEST(Search, ErrorsAddAsSquares) {
  const std::vector<SearchPart> parts{part("a", 3), part("b", 4), part("c", 100)};
  EXPECT_DOUBLE_EQ(predicted_error(parts, {1, 1, 0}), 5);
  EXPECT_DOUBLE_EQ(predicted_cost(parts, {1, 1, 0}), 4);
}

TEST(Search, TakesWhatSavesMostForItsError) {
  // c saves twenty times as much for three times the error of a.
  const std::vector<SearchPart> parts{part("a", 1), part("b", 5), part("c", 3, 40)};
  EXPECT_EQ(cheapest_choice(parts, 0.5), (Choice{0, 0, 0}));
  EXPECT_EQ(cheapest_choice(parts, 1), (Choice{1, 0, 0}));
  EXPECT_EQ(cheapest_choice(parts, 3), (Choice{0, 0, 1}));
  EXPECT_EQ(cheapest_choice(parts, 3.2), (Choice{1, 0, 1}));
  EXPECT_EQ(cheapest_choice(parts, 100), (Choice{1, 1, 1}));
  EXPECT_EQ(most_accurate_choice(parts, 43), (Choice{0, 0, 1}));
  EXPECT_EQ(most_accurate_choice(parts, 23.5), (Choice{1, 0, 1}));
}

TEST(Search, GoesOnFromOnePrecisionToACheaperOne) {
  const std::vector<SearchPart> parts{{"a", {"a"}, {{kExact, 0, 4}, {kHalf, 1, 2}, {kByte, 10, 1}}},
                                      part("b", 2)};
  EXPECT_EQ(precisions(parts, cheapest_choice(parts, 3)), (std::vector{kHalf, kHalf}));
  EXPECT_EQ(precisions(parts, cheapest_choice(parts, 11)), (std::vector{kByte, kHalf}));
  EXPECT_EQ(most_accurate_choice(parts, 0), (Choice{2, 1}));  // cannot be had: the cheapest
}

TEST(Search, TakesBackWhatALaterStepMadeUnnecessary) {
  const std::vector<SearchPart> parts{part("a", 1), part("b", 5, 40)};
  EXPECT_EQ(most_accurate_choice(parts, 41), (Choice{1, 0}));
  EXPECT_EQ(most_accurate_choice(parts, 30), (Choice{0, 1}));
}

TEST(Search, APrecisionThatCostsNothingInErrorIsAlwaysTaken) {
  const std::vector<SearchPart> parts{part("a", 0), part("b", 1)};
  EXPECT_EQ(cheapest_choice(parts, 0), (Choice{1, 0}));
}

TEST(Search, OnePrecisionThatIsSlowerIsNot) {
  const std::vector<SearchPart> parts{{"a", {"a"}, {{kExact, 0, 1}, {kHalf, 0, 2}}}};
  EXPECT_EQ(cheapest_choice(parts, 1), (Choice{0}));
  EXPECT_EQ(most_accurate_choice(parts, 0), (Choice{0}));
}

std::vector<SearchPart> many_parts() {
  std::vector<SearchPart> parts;
  for (int i = 0; i < 60; ++i) {
    parts.push_back(part("p" + std::to_string(i), 1 + (i * 37 % 60) / 10.0));
  }
  return parts;
}

// The measured error is a multiple of the predicted one, either way.
TEST(Search, CorrectsAPredictionThatIsWrong) {
  const std::vector<SearchPart> parts = many_parts();
  for (const double wrong : {0.2, 1.0, 4.0}) {
    const auto measure = [&](const Choice& choice) {
      return wrong * predicted_error(parts, choice);
    };
    const SearchResult result = search_cheapest(parts, 12, measure);
    EXPECT_TRUE(result.met);
    EXPECT_LE(result.error, 12) << wrong;
    EXPECT_DOUBLE_EQ(result.error, measure(result.choice));
    EXPECT_LE(result.measurements, 10);
    // No part that could still be made cheaper alone.
    const Choice best = cheapest_choice(parts, 12 / wrong);
    EXPECT_LE(result.cost, 1.05 * predicted_cost(parts, best)) << wrong;
  }
}

TEST(Search, ABoundThatNothingKeepsLeavesTheExactPlan) {
  const std::vector<SearchPart> parts = many_parts();
  const SearchResult result = search_cheapest(parts, 0.5, [](const Choice& choice) {
    return std::count(choice.begin(), choice.end(), 1U) > 0 ? 3.0 : 0.0;
  });
  EXPECT_EQ(result.choice, Choice(60, 0));
  EXPECT_EQ(result.error, 0);
}

TEST(Search, KeepsATimeThatIsMeasured) {
  const std::vector<SearchPart> parts = many_parts();  // 120 exact, 60 at least
  const auto cost = [&](const Choice& choice) { return 1.2 * predicted_cost(parts, choice); };
  const auto error = [&](const Choice& choice) { return predicted_error(parts, choice); };
  const SearchResult result = search_most_accurate(parts, 100, cost, error);
  EXPECT_TRUE(result.met);
  EXPECT_LE(result.cost, 100);
  EXPECT_GE(result.cost, 95);
  EXPECT_DOUBLE_EQ(result.error, error(result.choice));
  const SearchResult never = search_most_accurate(parts, 10, cost, error);
  EXPECT_FALSE(never.met);
  EXPECT_EQ(never.choice, Choice(60, 1));
}

TEST(Search, WritesShortPlans) {
  Architecture arch;
  arch.elabs = 12;
  arch.pairs = 2;
  std::vector<SearchPart> parts;
  Choice choice;
  for (const std::string& operation : operation_names(arch)) {
    parts.push_back(part(operation, 1));
    const bool exact =
        operation == "residual" || operation.ends_with("qk") || operation == "body.11.lfe.1.conv0";
    choice.push_back(exact && operation != "body.3.gmsa.0.qk" ? 0 : 1);
  }
  const PrecisionPlan plan = plan_of(parts, choice);
  EXPECT_EQ(plan.to_json(),
            R"({"default":"fp16","body.*.gmsa.*.qk":"fp32","body.11.lfe.1.conv0":"fp32",)"
            R"("body.3.gmsa.0.qk":"fp16"})");
  plan.check(arch);
  for (std::size_t p = 0; p < parts.size(); ++p) {
    EXPECT_EQ(plan.at(parts[p].name), parts[p].options[choice[p]].precision) << parts[p].name;
  }
}

TEST(Search, NamesTheStreamsThatDifferFromMost) {
  std::vector<SearchPart> parts;
  for (int i = 0; i < 4; ++i) {
    parts.push_back(part("body." + std::to_string(i), 1));
    parts.back().operations = {parts.back().name + ".lfe.0.conv0"};
    parts.back().stream = parts.back().name + ".residual";
    parts.back().options.push_back({Precision::fp16, 0, 0, Precision::fp16});
  }
  EXPECT_EQ(plan_of(parts, {2, 1, 2, 2}).to_json(),
            R"({"default":"fp16","body.1.residual":"fp32","residual":"fp16"})");
  EXPECT_EQ(plan_of(parts, {1, 1, 1, 1}).to_json(), R"({"default":"fp16","residual":"fp32"})");
}

TEST(Search, KindsOfOperations) {
  EXPECT_EQ(kind_of_operation("body.13.gmsa.0.project_inp.q"), "body.*.gmsa.*.project_inp.q");
  EXPECT_EQ(kind_of_operation("body.1.lfe.10.conv0"), "body.*.lfe.*.conv0");
  EXPECT_EQ(kind_of_operation("head"), "head");
}

}  // namespace
}  // namespace elan::test
