// The commands and options about precision: plans, compare, tune, eval of several runs, the check
// of a sample.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "folder.h"
#include "process.h"
#include "support/weights_files.h"

namespace elan::test {
namespace {

using nlohmann::json;

// A folder with a tiny network, which the reference runs in no time, and a picture.
class Precise : public testing::Test {
 protected:
  Folder folder;

  void SetUp() override {
    const Bytes model = serialise(make_elan(small_architecture()));
    folder.write("tiny.safetensors", {reinterpret_cast<const char*>(model.data()), model.size()});
    folder.write("a.ppm", ppm(20, 16));
  }
  Outcome run(std::vector<std::string> arguments) const {
    return run_command(arguments, {.folder = folder.str()});
  }
  // On the tiny network.
  Outcome tiny(std::vector<std::string> arguments) const {
    arguments.insert(arguments.end(), {"-m", "tiny.safetensors", "-d", "reference"});
    return run(std::move(arguments));
  }
};

void expect_refused(const Outcome& o, int status, const std::string& says) {
  EXPECT_EQ(o.status, status) << o.err;
  EXPECT_EQ(o.out, "");
  EXPECT_EQ(line_count(o.err), 1) << o.err;
  EXPECT_NE(o.err.find(says), std::string::npos) << o.err;
}

TEST_F(Precise, PlansAreHonouredByUpscale) {
  folder.write("plan.json", R"({"default": "fp32", "tail": "bf16"})");
  folder.write("all.json", R"({"default": "fp32"})");
  for (const auto& [name, option, value] :
       {std::tuple{"exact.ppm", "-p", "fp32"}, std::tuple{"same.ppm", "--plan", "all.json"},
        std::tuple{"mixed.ppm", "--plan", "plan.json"}}) {
    const Outcome o = tiny({"upscale", "-i", "a.ppm", "-o", name, option, value});
    EXPECT_EQ(o.status, 0) << o.err;
  }
  const std::string exact = ppm_samples(folder.read("exact.ppm"));
  EXPECT_EQ(ppm_samples(folder.read("same.ppm")), exact);
  EXPECT_NE(ppm_samples(folder.read("mixed.ppm")), exact);
}

TEST_F(Precise, BadPlansAreRefusedByEveryCommand) {
  folder.write("plan.json", R"({"body.99.lfe.0.conv0": "bf16"})");
  for (const std::vector<std::string>& command :
       std::vector<std::vector<std::string>>{{"upscale", "-i", "a.ppm", "-o", "b.ppm"},
                                             {"bench"},
                                             {"compare", "a.ppm"},
                                             {"eval", "--data", "."}}) {
    std::vector<std::string> words = command;
    words.insert(words.end(), {"--plan", "plan.json"});
    expect_refused(tiny(words), 3, "plan.json: body.99.lfe.0.conv0: expected an operation");
    words.insert(words.end(), {"-p", "fp32"});
    expect_refused(tiny(words), 2, "--precision and --plan contradict each other");
  }
  expect_refused(tiny({"bench", "--plan", "{}"}), 3, "./{}: expected a plan");
}

TEST_F(Precise, CompareMeasuresTheDifference) {
  const Outcome o = tiny({"compare", "a.ppm", "-p", "bf16", "--stages", "--map", "--json"});
  ASSERT_EQ(o.status, 0) << o.err;
  const json report = json::parse(o.out);
  EXPECT_EQ(report["run"]["precision"], "bf16");
  EXPECT_EQ(report["reference"]["precision"], "fp64");
  EXPECT_EQ(report["relative_floor"], 1e-5);
  const json& overall = report["overall"];
  EXPECT_EQ(overall["count"], 20 * 16 * 3 * 4);
  EXPECT_GT(overall["mean_abs"], 0);
  EXPECT_GT(overall["max_abs"], overall["mean_abs"]);
  EXPECT_EQ(report["pictures"].size(), 1U);
  EXPECT_EQ(report["pictures"][0]["mean_abs"], overall["mean_abs"]);
  const json& map = report["pictures"][0]["map"];
  EXPECT_EQ(map["mean_abs"].size(),
            map["columns"].get<std::size_t>() * map["rows"].get<std::size_t>());
  ASSERT_EQ(report["stages"].size(), 2U * 2 * 2 + 4);
  EXPECT_EQ(report["stages"][0]["stage"], "head");
  const double last = report["stages"].back()["mean_abs"];
  EXPECT_NEAR(last, overall["mean_abs"].get<double>(), 1e-6);  // the output is the picture
}

TEST_F(Precise, CompareOfTheSameIsZeroAndTellsTheDenominator) {
  const Outcome o = tiny({"compare", "a.ppm", "-p", "bf16", "--ref-precision", "bf16",
                          "--ref-device", "reference", "--tolerance", "0"});
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_NE(o.out.find("|error| / (|reference| + 1e-05)"), std::string::npos) << o.out;
}

TEST_F(Precise, CompareFailsBeyondTheTolerance) {
  for (const char* option : {"--tolerance", "--mean-tolerance"}) {
    EXPECT_EQ(tiny({"compare", "a.ppm", "-p", "bf16", option, "100"}).status, 0);
    const Outcome o = tiny({"compare", "a.ppm", "-p", "bf16", option, "1e-7"});
    EXPECT_EQ(o.status, 1);
    EXPECT_NE(o.err.find("tolerance: exceeded"), std::string::npos) << o.err;
  }
}

TEST_F(Precise, CompareReadsStoredResults) {
  const std::string stored = std::string(ELANSR_TEST_DATA) + "/elan_light_x2.safetensors";
  const Outcome o = run({"compare", "--reference", stored, "-s", "2", "-d", "cpu", "-p", "fp32",
                         "--stages", "--tolerance", "0.001", "--json"});
  ASSERT_EQ(o.status, 0) << o.err;
  const json report = json::parse(o.out);
  EXPECT_EQ(report["pictures"].size(), 4U);
  EXPECT_GT(report["stages"].size(), 3U);
  EXPECT_LT(report["stages"].back()["max_abs"], 1e-3);
  const Outcome other = run({"compare", "--reference", stored, "-s", "4", "-d", "cpu", "--json"});
  expect_refused(other, 3, "expected 24480 values, found 6120");
}

TEST_F(Precise, CompareOfRandomInputIsTheSameEachTime) {
  const std::vector<std::string> words{"compare", "--random", "--size", "16x32", "-p",
                                       "fp16",    "--seed",   "7",      "--json"};
  const Outcome one = tiny(words), two = tiny(words);
  ASSERT_EQ(one.status, 0) << one.err;
  EXPECT_EQ(one.out, two.out);
  EXPECT_EQ(json::parse(one.out)["overall"]["count"], 16 * 32 * 3 * 4);
  std::vector<std::string> other = words;
  other[7] = "8";
  EXPECT_NE(json::parse(tiny(other).out)["overall"], json::parse(one.out)["overall"]);
}

TEST_F(Precise, CompareRefusesOptionsThatContradict) {
  expect_refused(tiny({"compare"}), 2, "expected one of --input, --random and --reference");
  expect_refused(tiny({"compare", "a.ppm", "--random"}), 2, "found 2 of them");
  expect_refused(tiny({"compare", "a.ppm", "--seed", "1"}), 2, "--seed needs --random");
  expect_refused(tiny({"compare", "--reference", "x", "--ref-device", "cpu"}), 2, "contradict");
  expect_refused(tiny({"compare", "a.ppm", "--tolerance", "-1"}), 2,
                 "--tolerance: expected a number");
  expect_refused(tiny({"compare", "a.ppm", "--ref-precision", "fp32", "--ref-plan", "x"}), 2,
                 "contradict");
}

TEST_F(Precise, EvalComparesSeveralRuns) {
  folder.write("set/x_LR.ppm", ppm(20, 16));
  folder.write("set/x_HR.ppm", ppm(40, 32));
  folder.write("plan.json", R"({"default": "fp32", "tail": "bf16"})");
  folder.write("a|b.json", R"({"default": "bf16"})");
  const Outcome o =
      run({"eval", "--data", "set", "-m", "tiny.safetensors", "--json", "--rows", "reference/fp32",
           "reference/bf16", "reference/plan.json", "reference/tiny.safetensors@bf16"});
  ASSERT_EQ(o.status, 0) << o.err;
  const json report = json::parse(o.out);
  ASSERT_EQ(report["rows"].size(), 4U);
  const auto set = [&](int row) { return report["rows"][row]["datasets"][0]; };
  EXPECT_EQ(report["rows"][2]["precision"], "mixed");
  EXPECT_EQ(report["rows"][2]["plan"]["tail"], "bf16");
  EXPECT_EQ(report["rows"][3]["precision"], "bf16");
  EXPECT_EQ(set(3)["mean_abs"], set(1)["mean_abs"]);
  EXPECT_FALSE(set(0).contains("mean_abs"));
  EXPECT_GT(set(1)["mean_abs"], set(2)["mean_abs"]);
  EXPECT_GT(set(2)["mean_abs"], 0);
  EXPECT_NE(set(0)["psnr"], set(1)["psnr"]);
  EXPECT_GT(set(0)["ms"], 0);
  expect_refused(run({"eval", "--data", "set", "--rows", "tiny.safetensors@"}), 2,
                 "expected a precision after @");
  const Outcome table = run({"eval", "--data", "set", "-m", "tiny.safetensors", "--markdown",
                             "--rows", "reference/fp32", "reference/bf16", "reference/a|b.json"});
  ASSERT_EQ(table.status, 0) << table.err;
  EXPECT_NE(table.out.find("| | PSNR (dB) | SSIM |"), std::string::npos) << table.out;
  EXPECT_NE(table.out.find("\n| reference/bf16 | "), std::string::npos) << table.out;
  EXPECT_NE(table.out.find("\n| reference/a\\|b.json | "), std::string::npos) << table.out;
  EXPECT_EQ(line_count(table.out), 9) << table.out;
  const Outcome long_table = run({"eval", "--data", "set", "-m", "tiny.safetensors", "--markdown",
                                  "--pictures", "--rows", "reference/fp32", "reference/bf16"});
  ASSERT_EQ(long_table.status, 0) << long_table.err;
  EXPECT_EQ(line_count(long_table.out), 10) << long_table.out;
  EXPECT_NE(long_table.out.find("\n| reference/fp32, x | "), std::string::npos) << long_table.out;
  EXPECT_NE(long_table.out.find("\n| reference/bf16, x | "), std::string::npos) << long_table.out;
}

TEST_F(Precise, EvalWithoutHighResolutionSaysSo) {
  folder.write("set/x_LR.ppm", ppm(20, 16));
  const Outcome o = tiny({"eval", "--data", "set", "--json"});
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_NE(o.err.find("warning: set: not every picture has its HR: no PSNR and SSIM"),
            std::string::npos)
      << o.err;
  const json set = json::parse(o.out)["datasets"][0];
  EXPECT_TRUE(set["psnr"].is_null());
  EXPECT_TRUE(set["ssim"].is_null());
  EXPECT_GT(set["ms"], 0);
}

TEST_F(Precise, TuneFindsAPlanWithinTheError) {
  const std::vector<std::string> words{"tune",     "a.ppm",      "--precisions", "fp32,tf32,bf16",
                                       "--crop",   "16",         "--state",      "state",
                                       "--error",  "0.02",       "-o",           "plan.json",
                                       "--report", "report.json"};
  const Outcome o = tiny(words);
  ASSERT_EQ(o.status, 0) << o.err;
  const json report = json::parse(folder.read("report.json"));
  EXPECT_LE(report["mean_abs"], 0.02);
  EXPECT_GT(report["mean_abs"], 0);
  EXPECT_LT(report["time"], report["uniform"][0]["time"]);
  EXPECT_EQ(report["uniform"].size(), 3U);
  EXPECT_GT(report["uniform"][2]["mean_abs"], 0.02) << "the bound should not allow all of bf16";
  EXPECT_EQ(report["parts"].size(), 3U + 2 * (7 + 5));

  // What is promised is what a run with the plan does.
  const Outcome check = tiny({"compare", "a.ppm", "--crop", "16", "--plan", "plan.json",
                              "--ref-device", "reference", "--ref-precision", "fp32", "--json"});
  ASSERT_EQ(check.status, 0) << check.err;
  EXPECT_NEAR(json::parse(check.out)["overall"]["mean_abs"].get<double>(),
              report["mean_abs"].get<double>(), 1e-9);

  // Interrupted in the middle of a line, it goes on to the same plan.
  const std::string state = folder.read("state"), plan = folder.read("plan.json");
  folder.write("state", state.substr(0, state.size() / 2));
  ASSERT_EQ(tiny(words).status, 0);
  EXPECT_EQ(folder.read("plan.json"), plan);
  EXPECT_EQ(folder.read("state").size(), state.size());

  std::vector<std::string> other = words;
  other[5] = "20";
  expect_refused(tiny(other), 2, "state: expected the state of this search");
}

TEST_F(Precise, TuneKeepsATime) {
  const Outcome o = tiny({"tune", "a.ppm", "--precisions", "fp32,bf16", "--crop", "16", "--time",
                          "2", "--json", "-o", "plan.json"});
  ASSERT_EQ(o.status, 0) << o.err;
  const json report = json::parse(o.out);
  EXPECT_LE(report["time"], 2);  // of 3 for fp32 and 1 for bf16
  EXPECT_GT(report["time"], 1.8);
  EXPECT_LT(report["mean_abs"], report["uniform"][1]["mean_abs"]);
  EXPECT_EQ(
      tiny({"tune", "a.ppm", "--precisions", "fp32,bf16", "--crop", "16", "--time", "0.5"}).status,
      1);
}

TEST_F(Precise, TuneRefusesWhatMeansNothing) {
  expect_refused(tiny({"tune"}), 2, "expected pictures");
  expect_refused(tiny({"tune", "a.ppm", "--error", "1", "--time", "1"}), 2, "contradict");
  expect_refused(tiny({"tune", "a.ppm", "-p", "fp32"}), 2, "expected --precisions");
  expect_refused(tiny({"tune", "a.ppm", "--precisions", "fp32"}), 2, "at least two");
  expect_refused(tiny({"tune", "a.ppm", "--precisions", "fp32,half"}), 2, "found half");
  expect_refused(tiny({"tune", "a.ppm", "--precisions", "fp32,int8"}), 2,
                 "expected a model with 8-bit scales for int8");
  expect_refused(tiny({"tune", "nix.ppm"}), 1, "nix.ppm");
  // Before the pictures are looked at.
  for (const char* option : {"-o", "--report"}) {
    expect_refused(tiny({"tune", "nix.ppm", option, "nowhere/x.json"}), 1,
                   "nowhere/x.json: cannot be written: No such file");
  }
}

TEST_F(Precise, ASampleThatStraysGivesAWarning) {
  const std::string rules = R"({"default": "fp32", "tail": "bf16", "__metadata__": )";
  folder.write("strict.json", rules + R"({"worst_mean_abs_error": "1e-6"}})");
  folder.write("loose.json", rules + R"({"worst_mean_abs_error": "10"}})");
  folder.write("silent.json", rules + "{}}");
  int run = 0;
  const auto warning = [&](const std::string& plan, const std::vector<std::string>& options) {
    std::vector<std::string> words{"upscale", "-i", "a.ppm", "-o", std::to_string(++run) + ".ppm",
                                   "--plan",  plan};
    words.insert(words.end(), options.begin(), options.end());
    const Outcome o = tiny(words);
    EXPECT_EQ(o.status, 0) << o.err;
    return o.err;
  };
  const std::string text = warning("strict.json", {"--check"});
  EXPECT_TRUE(text.starts_with("elan-sr: warning: a.ppm: precision: expected a mean error of"))
      << text;
  EXPECT_EQ(line_count(text), 1) << text;
  EXPECT_EQ(warning("strict.json", {}), "");  // the picture is too small for it to be cheap
  EXPECT_EQ(warning("strict.json", {"--no-check"}), "");
  EXPECT_EQ(warning("loose.json", {"--check"}), "");
  EXPECT_EQ(warning("silent.json", {"--check"}), "");
  expect_refused(tiny({"upscale", "-i", "a.ppm", "-o", "x.ppm", "--check", "--no-check"}), 2,
                 "contradict");
}

// FP8 has no scales of activations: a network whose hidden tensor goes far beyond 448 is the same
// one in FP32, and clipped in FP8.
TEST_F(Precise, ASampleThatClipsInFp8GivesAWarning) {
  WeightsFile file = make_elan(small_architecture());
  constexpr float kFactor = 256;
  const auto scale = [&](const std::string& key, float factor) {
    RawTensor& tensor = file.tensors.at("body.0.modules_lfe.lfe_0." + key);
    std::vector<float> values = floats_of(tensor);
    for (float& v : values) v *= factor;
    tensor = f32_tensor(tensor.shape, values);
  };
  scale("conv0.shift_conv.conv1x1.weight", kFactor);
  scale("conv0.shift_conv.conv1x1.bias", kFactor);
  scale("conv1.shift_conv.conv1x1.weight", 1 / kFactor);
  const Bytes bytes = serialise(file);
  folder.write("wide.safetensors", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  int run_number = 0;
  const auto errors = [&](const std::string& model, const std::string& precision,
                          const std::string& check) {
    const Outcome o = run({"upscale", "-i", "a.ppm", "-o", std::to_string(++run_number) + ".ppm",
                           "-m", model, "-d", "reference", "-p", precision, check});
    EXPECT_EQ(o.status, 0) << o.err;
    return o.err;
  };
  const std::string text = errors("wide.safetensors", "fp8", "--check");
  EXPECT_TRUE(
      text.starts_with("elan-sr: warning: a.ppm: precision: expected a mean error of at "
                       "most 1.5 levels on a sample of the picture, found "))
      << text;
  EXPECT_EQ(line_count(text), 1) << text;
  EXPECT_EQ(errors("wide.safetensors", "fp8", "--no-check"), "");
  EXPECT_EQ(errors("wide.safetensors", "bf16", "--check"), "");
  EXPECT_EQ(errors("tiny.safetensors", "fp8", "--check"), "");
}

}  // namespace
}  // namespace elan::test
