#include "model/plan.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "model/stages.h"
#include "support/errors.h"

namespace elan::test {
namespace {

Architecture architecture() {
  Architecture arch;
  arch.scale = 4;
  arch.channels = 60;
  arch.elabs = 12;
  arch.pairs = 2;
  arch.expand = 2;
  return arch;
}

PrecisionPlan parse(std::string_view json) {
  return PrecisionPlan::parse(json, "p.json", Precision::fp32);
}

std::string model_error(std::string_view json) {
  return error_of(ErrorKind::model, [&] { parse(json).check(architecture()); });
}

TEST(Plan, PatternsMatchWholeNames) {
  EXPECT_TRUE(matches("body.*.gmsa.*.qk", "body.3.gmsa.0.qk"));
  EXPECT_TRUE(matches("*", "head"));
  EXPECT_TRUE(matches("body.?.lfe.*", "body.3.lfe.0.conv1"));
  EXPECT_TRUE(matches("*conv*", "body.3.lfe.0.conv1"));
  EXPECT_TRUE(matches("*.a*v**", "body.3.gmsa.0.av"));
  EXPECT_FALSE(matches("body.?.lfe.*", "body.13.lfe.0.conv1"));
  EXPECT_FALSE(matches("body.*.qk", "body.3.gmsa.0.qkx"));
  EXPECT_FALSE(matches("conv1", "body.3.lfe.0.conv1"));
  EXPECT_FALSE(matches("", "head"));
}

TEST(Plan, TheMostParticularRuleWins) {
  const PrecisionPlan plan = parse(
      R"({"default": "fp16", "body.*.lfe.*": "int8", "body.3.lfe.*": "bf16",
          "body.3.lfe.0.conv1": "tf32", "body.*.gmsa.*.qk": "fp32"})");
  plan.check(architecture());
  EXPECT_EQ(plan.at("head"), Precision::fp16);
  EXPECT_EQ(plan.at("body.2.lfe.1.conv0"), Precision::int8);
  EXPECT_EQ(plan.at("body.3.lfe.1.conv0"), Precision::bf16);
  EXPECT_EQ(plan.at("body.3.lfe.0.conv1"), Precision::tf32);
  EXPECT_EQ(plan.at("body.11.gmsa.0.qk"), Precision::fp32);
  EXPECT_FALSE(plan.uniform());
}

TEST(Plan, TheResidualStreamIsChangedOnlyByItsName) {
  EXPECT_EQ(parse(R"({"default": "fp16", "*": "bf16"})").at("residual"), Precision::fp32);
  EXPECT_EQ(parse(R"({"default": "fp16", "residual": "fp16"})").at("residual"), Precision::fp16);
  EXPECT_EQ(PrecisionPlan(Precision::fp64).at("residual"), Precision::fp64);
  EXPECT_EQ(PrecisionPlan(Precision::int8).at("residual"), Precision::fp32);
}

TEST(Plan, AnElabsStreamHasNamesOfItsOwn) {
  const PrecisionPlan plan = parse(R"({"default": "bf16", "residual": "fp16", "body.3.*": "fp32",
      "body.1?.residual": "tf32", "body.11.residual": "bf16"})");
  EXPECT_EQ(plan.at("body.3.residual"), Precision::fp16);
  EXPECT_EQ(plan.at("body.10.residual"), Precision::tf32);
  EXPECT_EQ(plan.at("body.11.residual"), Precision::bf16);
  EXPECT_EQ(plan.at("residual"), Precision::fp16);
  EXPECT_EQ(plan.at("body.11.lfe.0.conv0"), Precision::bf16);
}

TEST(Plan, WithoutADefaultItIsTheDevices) {
  const auto plan = PrecisionPlan::parse(R"({"head": "fp32"})", "p.json", Precision::bf16);
  EXPECT_EQ(plan.at("tail"), Precision::bf16);
  EXPECT_EQ(plan.default_precision(), Precision::bf16);
  EXPECT_TRUE(parse("{}").uniform());
}

TEST(Plan, TextIsTheSameHoweverItWasWritten) {
  const PrecisionPlan plan =
      parse(R"({"tail":"fp16", "residual": "fp32","__metadata__": {"error": "0.1"}})");
  EXPECT_EQ(plan.to_json(), R"({"default":"fp32","residual":"fp32","tail":"fp16"})");
  EXPECT_EQ(parse(plan.to_json()).to_json(), plan.to_json());
  const PrecisionPlan again = parse(plan.to_file());
  EXPECT_EQ(again.to_json(), plan.to_json());
  EXPECT_EQ(again.metadata().at("error"), "0.1");
}

TEST(Plan, RefusesWhatIsNoPlan) {
  EXPECT_EQ(model_error("nix"), "p.json: expected JSON, found an error at byte 2");
  EXPECT_EQ(model_error("[]"), "p.json: expected a JSON object of precisions, found an array");
  EXPECT_EQ(model_error("\"fp16\""), "p.json: expected a JSON object of precisions, found a text");
  EXPECT_EQ(model_error(R"({"head": 16})"), "p.json: head: expected a precision, found 16");
  EXPECT_EQ(model_error(R"({"head": {"a": "fp16"}})"),
            "p.json: head: expected a precision, found an object");
  EXPECT_EQ(model_error(R"({"head": "fp16", "head": "fp16"})"),
            "p.json: head: expected the key once, found it twice");
  EXPECT_EQ(model_error(R"({"default": "fp16", "default": "fp16"})"),
            "p.json: default: expected the key once, found it twice");
  EXPECT_EQ(model_error(R"({"__metadata__": {}, "__metadata__": {}})"),
            "p.json: __metadata__: expected the key once, found it twice");
  EXPECT_EQ(model_error(R"({"__metadata__": {"a": 1}})"),
            "p.json: __metadata__: a: expected texts, found 1");
  EXPECT_EQ(model_error(R"({"head": "half"})"),
            "p.json: head: precision: expected one of fp64, fp32, tf32, bf16, fp16, fp8, int8; "
            "found half");
  EXPECT_NE(model_error("{\"he\\nad\": \"half\"}").find("p.json: he"), std::string::npos);
}

TEST(Plan, RefusesNamesTheNetworkDoesNotHave) {
  const std::string known = " of this network (such as body.0.lfe.0.conv0), found ";
  EXPECT_EQ(model_error(R"({"body.12.lfe.0.conv0": "fp16"})"),
            "p.json: body.12.lfe.0.conv0: expected an operation" + known + "no such name");
  EXPECT_EQ(model_error(R"({"body.*.gmsa.1.qk": "fp16"})"),
            "p.json: body.*.gmsa.1.qk: expected a pattern that matches an operation" + known +
                "one that matches none");
  EXPECT_EQ(model_error(R"({"body.3.*": "fp16", "*.conv1?": "fp16"})").find("p.json: *.conv1?"),
            0U);
}

TEST(Plan, RefusesRulesOfWhichNoneIsTheBest) {
  EXPECT_EQ(model_error(R"({"body.1.*": "fp16", "*0.conv1": "int8"})"),
            "p.json: body.1.*: expected one best match for body.1.lfe.0.conv1, found *0.conv1 to "
            "match as well");
  parse(R"({"body.1.*": "fp16", "*0.conv1": "fp16"})").check(architecture());
}

TEST(Plan, IsReadFromAFileOrFromItsText) {
  EXPECT_EQ(PrecisionPlan::read(R"({"head": "fp16"})", Precision::fp32).at("head"),
            Precision::fp16);
  const std::string path = testing::TempDir() + "elan_plan_test.json";
  std::FILE* file = std::fopen(path.c_str(), "w");
  ASSERT_NE(file, nullptr);
  std::fputs(R"({"tail": "bf16"})", file);
  std::fclose(file);
  EXPECT_EQ(PrecisionPlan::read(path, Precision::fp32).at("tail"), Precision::bf16);
  std::remove(path.c_str());
  EXPECT_EQ(error_of(ErrorKind::model, [&] { PrecisionPlan::read(path, Precision::fp32); }),
            path + ": expected a plan, found: No such file or directory");
  const std::string folder = testing::TempDir();
  EXPECT_EQ(error_of(ErrorKind::model, [&] { PrecisionPlan::read(folder, Precision::fp32); }),
            folder + ": expected a plan, found a folder");
}

TEST(Plan, ShippedOnesAreForTheirNetworks) {
  const std::string plans = std::string(ELANSR_MODELS) + "/../plans/";
  for (const char* name : {"elan_light_x4", "elan_x4"}) {
    const Architecture arch =
        Model::load(std::string(ELANSR_MODELS) + "/" + name + ".safetensors").architecture();
    for (const char* file : {"convolutions-fp32.json", "products-fp32.json"}) {
      PrecisionPlan::read(plans + file, Precision::fp32).check(arch);
    }
    for (const char* device : {"-cpu.json", "-cuda.json"}) {
      const PrecisionPlan own = PrecisionPlan::read(plans + name + device, Precision::fp32);
      own.check(arch);
      EXPECT_TRUE(own.metadata().contains("worst_mean_abs_error")) << name << device;
      EXPECT_FALSE(own.uniform()) << name << device;
    }
  }
}

TEST(Plan, ADeviceThatDoesNotMixNamesTheOperation) {
  const auto single = [](std::string_view json) {
    return single_precision(parse(json), architecture(), "toy");
  };
  EXPECT_EQ(single(R"({"default": "fp16", "residual": "fp32"})"), Precision::fp16);
  EXPECT_EQ(single(R"({"default": "fp16", "*": "int8"})"), Precision::int8);
  EXPECT_EQ(single_precision(Precision::fp64, architecture(), "toy"), Precision::fp64);
  EXPECT_EQ(error_of(ErrorKind::usage, [&] { single(R"({"body.1.lfe.1.conv0": "fp16"})"); }),
            "device toy: body.1.lfe.1.conv0: expected fp32, as head is in the plan (this device "
            "does not mix), found fp16");
  EXPECT_EQ(error_of(ErrorKind::usage, [&] { single(R"({"residual": "fp16"})"); })
                .find("device toy: residual: expected fp32"),
            0U);
}

TEST(Plan, ADeviceThatMixesNamesWhatItCanDo) {
  const auto able = [](std::string_view operation) -> std::vector<Precision> {
    if (operation.ends_with("qk")) return {Precision::fp32};
    return {Precision::fp32, Precision::bf16, Precision::int8};
  };
  check_able(parse(R"({"body.*": "bf16", "*.qk": "fp32", "body.*.qk": "fp32"})"), architecture(),
             "toy", able);
  EXPECT_EQ(
      error_of(ErrorKind::usage, [&] { check_able(Precision::bf16, architecture(), "toy", able); }),
      "device toy: body.0.gmsa.0.qk: expected fp32, found bf16");
  EXPECT_EQ(
      error_of(ErrorKind::usage, [&] { check_able(Precision::fp16, architecture(), "toy", able); }),
      "device toy: head: expected fp32, bf16 or int8, found fp16");
}

}  // namespace
}  // namespace elan::test
