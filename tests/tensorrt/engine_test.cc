// What needs neither TensorRT nor a GPU of the way to an engine: its name in the cache, its file,
// the search for TensorRT.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <set>

#include "elan/error.h"
#include "support/golden.h"
#include "tensorrt/engine_key.h"
#include "tensorrt/layer_precision.h"
#include "tensorrt/library.h"
#include "tensorrt/plan_file.h"

namespace elan::tensorrt {
namespace {

namespace fs = std::filesystem;

const Runtime kRuntime{"10", "10.16.0", "NVIDIA H200, sm_90"};
constexpr const char* kWeights = "0123456789abcdef";

std::string error_of(ErrorKind kind, const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return error.what();
  }
  return "no error";
}

PrecisionPlan plan(const char* json) {
  return PrecisionPlan::parse(json, "plan", Precision::fp16);
}

std::shared_ptr<const Calibration> calibration(std::size_t pictures, bool copied = true) {
  auto data = std::make_shared<Calibration>();
  data->pictures.assign(pictures, std::vector<float>(std::size_t{3} * 64 * 64, 7.F));
  data->copied = copied;
  return data;
}

BuildOptions one_size(int width, int height) {
  BuildOptions options;
  options.profile = {{width, height}, {width, height}, {width, height}, 1};
  return options;
}

TEST(EngineKey, CoversEverythingThatDecidesWhatAnEngineIs) {
  const BuildOptions plain;
  std::set<std::string> keys;
  const auto add = [&](const BuildOptions& options, const Runtime& runtime, const char* weights) {
    EXPECT_TRUE(keys.insert(key_of(describe(weights, options, runtime))).second)
        << describe(weights, options, runtime);
  };
  add(plain, kRuntime, kWeights);
  add(plain, kRuntime, "0123456789abcdee");
  for (const Runtime& other :
       {Runtime{"11", "10.16.0", kRuntime.gpu}, Runtime{"10", "10.15.0", kRuntime.gpu},
        Runtime{"10", "10.16.0", "NVIDIA A10, sm_86"}}) {
    add(plain, other, kWeights);
  }
  const std::function<void(BuildOptions&)> changes[] = {
      [](BuildOptions& o) { o.precision = Precision::fp32; },
      [](BuildOptions& o) { o.precision = Precision::tf32; },
      [](BuildOptions& o) { o.precision = Precision::int8; },
      [](BuildOptions& o) { o.precision = plan(R"({"tail": "fp32"})"); },
      [](BuildOptions& o) { o.precision = plan(R"({"tail": "tf32"})"); },
      [](BuildOptions& o) { o.calibration = calibration(1); },
      [](BuildOptions& o) { o.calibration = calibration(2); },
      [](BuildOptions& o) { o.calibration = calibration(1, false); },
      [](BuildOptions& o) { o.plugins = true; },
      [](BuildOptions& o) { o.loose = true; },
      [](BuildOptions& o) { o.effort = 2; },
      [](BuildOptions& o) { o.profile.batch = 2; },
      [](BuildOptions& o) { o.profile.least.width = 16; },
      [](BuildOptions& o) { o.profile.best.height = 207; },
      [](BuildOptions& o) { o.profile.most.width = 2048; },
      [](BuildOptions& o) { o = one_size(304, 208); },
      [](BuildOptions& o) { o = one_size(208, 304); }};
  for (const auto& change : changes) {
    BuildOptions changed;
    change(changed);
    add(changed, kRuntime, kWeights);
  }
  EXPECT_EQ(keys.size(), 22U);
}

TEST(EngineKey, StaysTheSameFromRunToRun) {
  const std::string description = describe(kWeights, {}, kRuntime);
  EXPECT_EQ(description,
            "recipe: 3\nweights: 0123456789abcdef\nprecision: fp16\nscales: the model's\n"
            "effort: 3\nloose: no\nsizes: 1x1/304x208/1024x1024\nbatch: 1\nplugins: "
            "none\ntensorrt: 10 10.16.0\n"
            "gpu: NVIDIA H200, sm_90\n");
  EXPECT_EQ(key_of(description), key_of(describe(kWeights, {}, kRuntime)));
  EXPECT_EQ(key_of("").size(), 16U);
  EXPECT_EQ(key_of(""), "ef46db3751d8e999");  // XXH64 of nothing
}

TEST(EngineOptions, MeaninglessOnesAreRefused) {
  const struct {
    std::function<void(BuildOptions&)> change;
    const char* says;
  } cases[] = {
      {[](BuildOptions& o) { o.precision = plan(R"({"default": "fp64"})"); }, "found fp64"},
      {[](BuildOptions& o) { o.precision = Precision::fp8, o.plugins = true; }, "found fp8"},
      {[](BuildOptions& o) { o.precision = plan(R"({"tail": "fp32"})"), o.plugins = true; },
       "found a plan of several"},
      {[](BuildOptions& o) { o.precision = plan(R"({"tail": "fp32"})"), o.loose = true; },
       "--loose: expected precision fp16 or int8"},
      {[](BuildOptions& o) {
         o.precision = Precision::int8;
         o.calibration = calibration(1);
         o.plugins = true;
       },
       "--calibrate: expected no plugins"},
      {[](BuildOptions& o) { o.calibration = calibration(1); },
       "expected precision int8, found fp16"},
      {[](BuildOptions& o) {
         o.precision = Precision::int8;
         o.calibration = std::make_shared<Calibration>();
       },
       "expected pictures, found none"},
      {[](BuildOptions& o) {
         o.precision = Precision::int8;
         o.calibration = calibration(1);
         o.profile.best.width = 303;
       },
       "expected pictures of 63x64 pixels, found 12288 values"},
      {[](BuildOptions& o) { o.precision = Precision::bf16; }, "found bf16"},
      {[](BuildOptions& o) { o.profile.least = {0, 1}; }, "found 0x1/304x208/1024x1024"},
      {[](BuildOptions& o) { o.profile.least = {400, 1}; }, "found 400x1/"},
      {[](BuildOptions& o) { o.profile.best = {304, 1025}; }, "/304x1025/"},
      {[](BuildOptions& o) { o.profile.most = {20000, 1024}; }, "/20000x1024"},
      {[](BuildOptions& o) { o.effort = 6; }, "effort: expected 0..5, found 6"},
      {[](BuildOptions& o) { o.profile.batch = 0; }, "batch: expected 1..256, found 0"},
      {[](BuildOptions& o) { o.loose = o.plugins = true; }, "found fp16 with plugins"},
  };
  for (const auto& c : cases) {
    BuildOptions options;
    c.change(options);
    const std::string text = error_of(ErrorKind::usage, [&] { check(options); });
    EXPECT_NE(text.find(c.says), std::string::npos) << text;
  }
  EXPECT_NO_THROW(check(BuildOptions{}));
  EXPECT_NO_THROW(check(one_size(1, 1)));
}

TEST(EngineOptions, AreCheckedAgainstTheModel) {
  const Model light = Model::load(test::model_path("elan_light_x4"));
  const Model narrow = Model::load(test::model_path("elan_light_int8_x4"));
  BuildOptions options;
  options.precision = Precision::int8;
  EXPECT_NO_THROW(check(options, narrow));
  EXPECT_NE(error_of(ErrorKind::usage, [&] { check(options, light); }).find("--calibrate for int8"),
            std::string::npos);
  options.calibration = calibration(1);
  EXPECT_NO_THROW(check(options, light));
  BuildOptions mixed;
  mixed.precision = plan(R"({"body.1.lfe.*": "fp8"})");
  EXPECT_NO_THROW(check(mixed, narrow));
  EXPECT_NE(error_of(ErrorKind::usage, [&] { check(mixed, light); }).find("for fp8, found neither"),
            std::string::npos);
  mixed.precision = plan(R"({"body.1.lfe.*": "bf16"})");
  EXPECT_NE(error_of(ErrorKind::usage, [&] { check(mixed, light); }).find("body.1.lfe.0.conv0"),
            std::string::npos);
  mixed.precision = plan(R"({"body.77.*": "fp32"})");
  EXPECT_NE(error_of(ErrorKind::model, [&] { check(mixed, light); }).find("body.77.*"),
            std::string::npos);
}

// The names are those of the nodes of an exported graph (docs/onnx.md).
TEST(LayerPrecision, FollowsThePlan) {
  const PrecisionPlan tuned = plan(
      R"({"default": "fp16", "body.1.lfe.0.conv0": "fp32", "body.2.*.project_inp.q": "fp32",
          "body.4.*": "int8"})");
  const struct {
    const char* layer;
    std::optional<Precision> expected;
  } cases[] = {
      {"head", Precision::fp32},
      {"tail.conv", Precision::fp32},
      {"output", Precision::fp32},
      {"body", Precision::fp32},
      {"body.0.gmsa.0", Precision::fp32},  // the residual stream's addition
      {"body.0.lfe.0.conv0", Precision::fp16},
      {"body.0.lfe.0.conv0.shift", Precision::fp16},
      {"body.1.lfe.0.conv0", Precision::fp32},
      {"body.1.lfe.0.conv0.shift", Precision::fp32},
      {"body.1.lfe.0.conv1", Precision::fp16},
      {"body.11.lfe.0.conv0", Precision::fp16},
      {"body.0.gmsa.0.project_inp", Precision::fp16},
      {"body.2.gmsa.0.project_inp.q", Precision::fp32},
      {"body.2.gmsa.0.project_inp.v", Precision::fp16},
      {"body.0.gmsa.0.qk.window8", Precision::fp32},
      {"body.0.gmsa.0.softmax.window8", Precision::fp32},
      {"body.0.gmsa.0.av.window16", Precision::fp16},
      {"body.0.gmsa.0.project_out", Precision::fp16},
      {"body.4.gmsa.0.project_out", std::nullopt},
      {"body.4.lfe.1.conv1", std::nullopt},
      {"body.4.lfe.1.conv1x", Precision::fp32},
  };
  for (const auto& c : cases) EXPECT_EQ(layer_precision(c.layer, tuned), c.expected) << c.layer;
}

TEST(EngineProfile, HoldsWhatItWasBuiltFor) {
  const Profile fixed = one_size(30, 17).profile;
  EXPECT_TRUE(fixed.fixed());
  EXPECT_TRUE(fixed.holds(30, 17, 1));
  EXPECT_FALSE(fixed.holds(17, 30, 1));
  EXPECT_FALSE(fixed.holds(30, 17, 2));
  const Profile range{{16, 16}, {64, 32}, {128, 64}, 4};
  EXPECT_FALSE(range.fixed());
  EXPECT_TRUE(range.holds(16, 64, 4));
  EXPECT_FALSE(range.holds(15, 64, 1));
  EXPECT_FALSE(range.holds(128, 65, 1));
  EXPECT_FALSE(range.holds(64, 32, 0));
}

TEST(EngineCalibrating, NeedsSmallPicturesPaddedLikeTheBestSize) {
  const struct {
    PictureSize best, expected;
  } cases[] = {{{304, 208}, {64, 64}}, {{206, 292}, {62, 52}}, {{1920, 1080}, {64, 56}},
               {{65, 64}, {49, 64}},   {{30, 17}, {30, 17}},   {{1, 1}, {1, 1}}};
  for (const auto& c : cases) {
    Profile profile{{1, 1}, c.best, {2048, 2048}, 1};
    EXPECT_EQ(calibration_size(profile), c.expected) << c.best.width << "x" << c.best.height;
    profile = {c.best, c.best, c.best, 1};
    EXPECT_EQ(calibration_size(profile), c.expected) << c.best.width << "x" << c.best.height;
  }
}

// So scales that were found for one of these serve all of them.
TEST(EngineCalibrating, DependsOnNeitherSizeNorEffortNorLooseness) {
  const auto key = [](BuildOptions options) {
    options.precision = Precision::int8;
    options.calibration = calibration(1);
    const BuildOptions small = calibrating(options);
    EXPECT_NO_THROW(check(small));
    EXPECT_EQ(small.effort, 0);
    EXPECT_EQ(small.profile.in_graph(), options.profile.in_graph());
    return key_of(describe(kWeights, small, kRuntime));
  };
  const BuildOptions one = one_size(304, 208);
  BuildOptions other = one_size(640, 480);
  other.effort = 5;
  other.loose = true;
  EXPECT_EQ(key(one), key(other));
  // A graph for a range of sizes has more layers.
  BuildOptions range, narrower;
  narrower.profile = {{16, 16}, {320, 192}, {512, 512}, 4};
  EXPECT_EQ(key(range), key(narrower));
  EXPECT_NE(key(one), key(range));
  BuildOptions batches = one;
  batches.profile.batch = 2;
  EXPECT_EQ(key(batches), key(range));
}

class PlanFiles : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }

  static PlanFile sample() {
    PlanFile file{describe(kWeights, one_size(304, 208), kRuntime), {}};
    for (int i = 0; i < 1000; ++i) file.plan.push_back(static_cast<std::byte>(i * 7));
    return file;
  }
  [[nodiscard]] fs::path write() const {
    write_plan(path_, sample());
    return path_;
  }
  // The file with byte `at` changed; -1: the last.
  [[nodiscard]] std::string damaged(long at) const {
    const fs::path path = write();
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const auto place = at < 0 ? static_cast<long>(fs::file_size(path)) + at : at;
    file.seekg(place);
    const char old = static_cast<char>(file.get());
    file.seekp(place);
    file.put(static_cast<char>(old ^ 1));
    file.close();
    return error_of(ErrorKind::model, [&] { (void)read_plan(path); });
  }

  const fs::path folder_ =
      fs::path(testing::TempDir()) /
      ("plans_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
  const fs::path path_ = folder_ / "deep" / "a.plan";
};

TEST_F(PlanFiles, GiveBackWhatWasWritten) {
  const PlanFile again = read_plan(write());
  EXPECT_EQ(again.description, sample().description);
  EXPECT_EQ(again.plan, sample().plan);
  EXPECT_EQ(again.value("sizes"), "304x208");
  EXPECT_EQ(again.value("gpu"), kRuntime.gpu);
  EXPECT_EQ(again.value("size"), "");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "deep"), {}), 1);
}

TEST_F(PlanFiles, WithDamageAreRecognised) {
  EXPECT_NE(damaged(0).find("expected an engine that elan-sr build wrote"), std::string::npos);
  EXPECT_NE(damaged(8).find("damaged"), std::string::npos);   // a length
  EXPECT_NE(damaged(23).find("damaged"), std::string::npos);  // a huge length
  EXPECT_NE(damaged(24).find("damaged"), std::string::npos);  // the hash
  EXPECT_NE(damaged(40).find("damaged"), std::string::npos);  // the description
  EXPECT_NE(damaged(-1).find("damaged"), std::string::npos);  // the plan
  fs::resize_file(write(), 500);
  EXPECT_NE(error_of(ErrorKind::model, [&] { (void)read_plan(path_); }).find("found 500: damaged"),
            std::string::npos);
  fs::resize_file(path_, 10);
  EXPECT_NE(error_of(ErrorKind::model, [&] { (void)read_plan(path_); }).find("another file"),
            std::string::npos);
  EXPECT_NE(error_of(ErrorKind::input, [&] { (void)read_plan(folder_ / "none"); }).find("read"),
            std::string::npos);
}

TEST_F(PlanFiles, OfAnotherMachineVersionOrModelAreRefused) {
  const PlanFile file = read_plan(write());
  EXPECT_NO_THROW(check_plan(path_, file, kWeights, kRuntime));
  const auto refusal = [&](const char* weights, const Runtime& runtime) {
    return error_of(ErrorKind::model, [&] { check_plan(path_, file, weights, runtime); });
  };
  const std::string other_gpu = refusal(kWeights, {"10", "10.16.0", "NVIDIA A10, sm_86"});
  EXPECT_EQ(other_gpu, path_.string() +
                           ": built for another gpu: expected NVIDIA A10, sm_86, found NVIDIA "
                           "H200, sm_90; build it again");
  EXPECT_NE(refusal(kWeights, {"11", "11.1.0", kRuntime.gpu})
                .find("another tensorrt: expected 11 11.1.0, found 10 10.16.0"),
            std::string::npos);
  EXPECT_NE(refusal("other", kRuntime).find("another weights: expected other"), std::string::npos);
  PlanFile old = file;
  old.description.replace(0, std::string("recipe: 3").size(), "recipe: 2");
  EXPECT_NE(error_of(ErrorKind::model, [&] { check_plan(path_, old, kWeights, kRuntime); })
                .find("another recipe"),
            std::string::npos);
  PlanFile plugins = file;
  const std::string none = "plugins: none";
  plugins.description.replace(plugins.description.find(none), none.size(), "plugins: 0");
  EXPECT_NE(error_of(ErrorKind::model, [&] { check_plan(path_, plugins, kWeights, kRuntime); })
                .find("another plugins"),
            std::string::npos);
}

TEST_F(PlanFiles, TellTheirSizes) {
  const Profile fixed = profile_of(path_, sample());
  EXPECT_TRUE(fixed.fixed());
  EXPECT_EQ(fixed.best.width, 304);
  BuildOptions ranged;
  ranged.profile = {{16, 17}, {64, 32}, {128, 65}, 4};
  const Profile range = profile_of(path_, {describe(kWeights, ranged, kRuntime), {}});
  EXPECT_EQ(to_string(range), "16x17/64x32/128x65");
  EXPECT_EQ(range.batch, 4);
  EXPECT_NE(error_of(ErrorKind::model, [&] { (void)profile_of(path_, {"", {}}); }).find("sizes"),
            std::string::npos);
}

TEST_F(PlanFiles, TellTheirPrecision) {
  EXPECT_EQ(precision_of(path_, sample()), Precision::fp16);
  BuildOptions options;
  options.precision = plan(R"({"default": "int8", "body.*.av": "fp16"})");
  EXPECT_EQ(precision_of(path_, {describe(kWeights, options, kRuntime), {}}), Precision::int8);
  for (const char* text : {"", "precision: half\n", "precision: {\"default\": 1}\n"}) {
    EXPECT_NE(error_of(ErrorKind::model, [&] { (void)precision_of(path_, {text, {}}); })
                  .find("expected a precision"),
              std::string::npos)
        << text;
  }
}

TEST_F(PlanFiles, ThatCannotBeWrittenAreErrors) {
  std::ofstream(folder_ / "file") << "x";
  const std::string text =
      error_of(ErrorKind::input, [&] { write_plan(folder_ / "file" / "a.plan", sample()); });
  EXPECT_NE(text.find("cannot be written"), std::string::npos);
}

// Libraries that pretend to be TensorRT are in ELANSR_FAKES: one folder each.
class Search : public testing::Test {
 protected:
  static std::string search(const std::string& folders, const std::vector<std::string>& names) {
    setenv("ELANSR_TENSORRT", folders.c_str(), 1);
    const std::string text = error_of(ErrorKind::device, [&] {
      const Library library = open_library(names);
      throw Error(ErrorKind::device, "opened " + std::string(library.flavour->name) + " " +
                                         library.version + " at " + library.path.string());
    });
    unsetenv("ELANSR_TENSORRT");
    return text;
  }
  static std::string fake(const char* name) { return std::string(ELANSR_FAKES) + "/" + name; }
};

TEST_F(Search, SaysWhatToInstallAndWhereItLooked) {
  const std::string text = search("/nowhere:/else", {"10", "8"});
  EXPECT_EQ(text,
            "tensorrt: expected TensorRT 10 or TensorRT 8.6, found none: install it, or name its "
            "folder in ELANSR_TENSORRT; looked for libnvinfer.so.10, libnvinfer.so.8 in /nowhere, "
            "/nowhere/lib, /else, /else/lib, the system's library folders");
  EXPECT_NE(search("", {}).find("built without TensorRT's headers"), std::string::npos);
}

TEST_F(Search, TakesTheLibraryOfItsMajorVersion) {
  const std::string text = search(fake("good"), {"10"});
  EXPECT_EQ(text, "opened 10 10.16.1 at " + fake("good") + "/libnvinfer.so.10");
}

TEST_F(Search, RefusesAnotherMajorVersionAndALibraryWithoutTheFunctions) {
  EXPECT_EQ(search(fake("major"), {"11"}),
            fake("major") + "/libnvinfer.so.11: expected TensorRT 11, found 10.16.1");
  EXPECT_EQ(
      search(fake("empty"), {"8"}),
      fake("empty") + "/libnvinfer.so.8: expected the function getInferLibVersion, found none");
}

}  // namespace
}  // namespace elan::tensorrt
