#include "tune_parts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "model/stages.h"

namespace elan::cli {
namespace {

using enum Precision;

Architecture small_architecture() {
  Architecture arch;
  arch.elabs = 2;
  arch.pairs = 2;
  return arch;
}

// All of an ELAB changes at once, as on GPUs.
std::vector<std::vector<std::string>> by_elab(const Architecture& arch) {
  std::vector<std::vector<std::string>> groups(static_cast<std::size_t>(arch.elabs));
  for (const std::string& operation : operation_names(arch)) {
    if (!operation.starts_with("body.")) {
      groups.push_back({operation});
    } else {
      groups[static_cast<std::size_t>(operation[5] - '0')].push_back(operation);
    }
  }
  return groups;
}

const SearchPart& part_named(const std::vector<SearchPart>& parts, const std::string& name) {
  const auto at = std::find_if(parts.begin(), parts.end(),
                               [&](const SearchPart& part) { return part.name == name; });
  if (at == parts.end()) throw std::out_of_range(name);
  return *at;
}

// "fp16/fp32" for fp16 with its stream in FP32.
std::vector<std::string> options_of(const SearchPart& part) {
  std::vector<std::string> texts;
  for (const SearchOption& option : part.options) {
    texts.push_back(std::string(to_string(option.precision)) + "/" +
                    std::string(to_string(option.stream)));
  }
  return texts;
}

TEST(TuneParts, WhatComputesInFp16OrIn8BitsIsOfferedBothStreams) {
  const Architecture arch = small_architecture();
  const auto parts = device_parts(arch, {fp32, tf32, fp16, bf16, fp8, int8}, by_elab(arch),
                                  [](const PrecisionPlan&) { return true; });
  for (const std::string name : {"body.0", "body.1"}) {
    const SearchPart& part = part_named(parts, name);
    EXPECT_EQ(part.stream, name + ".residual");
    EXPECT_EQ(options_of(part), (std::vector<std::string>{"fp32/fp32", "tf32/fp32", "fp16/fp32",
                                                          "fp16/fp16", "bf16/fp32", "fp8/fp32",
                                                          "fp8/fp16", "int8/fp32", "int8/fp16"}));
  }
  const SearchPart& head = part_named(parts, "head");
  EXPECT_EQ(head.stream, "");
  EXPECT_EQ(options_of(head), (std::vector<std::string>{"fp32/fp32", "tf32/fp32", "fp16/fp32",
                                                        "bf16/fp32", "fp8/fp32", "int8/fp32"}));
}

TEST(TuneParts, NoStreamIsOfferedInFp16UnlessFp16IsToChooseFrom) {
  const Architecture arch = small_architecture();
  const auto parts = device_parts(arch, {fp32, bf16, fp8}, by_elab(arch),
                                  [](const PrecisionPlan&) { return true; });
  EXPECT_EQ(options_of(part_named(parts, "body.0")),
            (std::vector<std::string>{"fp32/fp32", "bf16/fp32", "fp8/fp32"}));
}

TEST(TuneParts, WhatTheDeviceRefusesIsNotOffered) {
  const Architecture arch = small_architecture();
  const auto parts =
      device_parts(arch, {fp32, fp16, fp8}, by_elab(arch), [](const PrecisionPlan& plan) {
        return plan.at("body.0.lfe.0.conv0") != fp8 && plan.at("head") == fp32;
      });
  EXPECT_EQ(options_of(part_named(parts, "body.0")),
            (std::vector<std::string>{"fp32/fp32", "fp16/fp32", "fp16/fp16"}));
  EXPECT_EQ(options_of(part_named(parts, "head")), (std::vector<std::string>{"fp32/fp32"}));
}

TEST(TuneParts, Int8IsUsualOnlyWithScales) {
  EXPECT_EQ(usual_precisions("cpu", false), (std::vector{fp32, bf16}));
  EXPECT_EQ(usual_precisions("cpu", true), (std::vector{fp32, bf16, int8}));
  EXPECT_EQ(usual_precisions("cuda", false), (std::vector{fp32, tf32, fp16, bf16, fp8}));
  EXPECT_EQ(usual_precisions("cuda", true), (std::vector{fp32, tf32, fp16, bf16, fp8, int8}));
  EXPECT_EQ(usual_precisions("reference", true), (std::vector{fp32, tf32, fp16, bf16}));
}

}  // namespace
}  // namespace elan::cli
