// elan-sr quantize, and what the check of a sample says about the files that it makes.
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "folder.h"
#include "process.h"
#include "support/weights_files.h"

namespace elan::test {
namespace {

using nlohmann::json;

class QuantizeCommand : public testing::Test {
 protected:
  Folder folder;

  void SetUp() override {
    write_model("tiny.safetensors", make_elan(small_architecture()));
    folder.write("pictures/a.ppm", ppm(40, 32));
    folder.write("pictures/b.ppm", ppm(32, 48));
  }
  void write_model(const std::string& name, const WeightsFile& file) const {
    const Bytes bytes = serialise(file);
    folder.write(name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  Outcome run(std::vector<std::string> arguments) const {
    return run_command(arguments, {.folder = folder.str()});
  }
  Outcome quantize(const std::vector<std::string>& options) const {
    std::vector<std::string> words{"quantize", "--crops", "4", "--size", "16", "--search", "1"};
    words.insert(words.end(), options.begin(), options.end());
    return run(words);
  }
  // The line on standard error of enlarging a picture with the check; empty: no complaint.
  std::string check(const std::string& model) const {
    const Outcome o = run({"upscale", "-i", "pictures/a.ppm", "-o", "out.ppm", "--check",
                           "--overwrite", "-m", model, "-d", "cpu"});
    EXPECT_EQ(o.status, 0) << o.err;
    return o.err;
  }
};

TEST_F(QuantizeCommand, MakesAFileAndSaysWhatItDid) {
  const Outcome o = quantize({"--data", "pictures", "--keep", "2", "--report", "report.json",
                              "tiny.safetensors", "q.safetensors"});
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_TRUE(o.out.starts_with("q.safetensors: ")) << o.out;
  const json report = json::parse(folder.read("report.json"));
  EXPECT_EQ(report["crops"], 4);
  EXPECT_EQ(report["kept"].size(), 2U);
  EXPECT_EQ(report["operands"].size(), 14U);
  EXPECT_GT(report["psnr_against_fp32"], 35);

  const json info = json::parse(run({"info", "--json", "q.safetensors"}).out);
  const json metadata = info["metadata"];
  EXPECT_EQ(metadata["quantization_of"],
            json::parse(run({"info", "--json", "tiny.safetensors"}).out)["fingerprint"]);
  EXPECT_EQ(info["fingerprint"], report["fingerprint"]);
  EXPECT_EQ(metadata["quantization_data"], "4 crops of 16x16");
  const json rows = json::parse(run({"eval", "--data", "pictures", "--json", "--rows",
                                     "reference/tiny.safetensors", "reference/q.safetensors"})
                                    .out)["rows"];
  EXPECT_TRUE(rows[0]["quantization"].is_null());
  EXPECT_EQ(rows[1]["quantization"], metadata["quantization"]);
  EXPECT_NEAR(std::stod(metadata["worst_mean_abs_error"].get<std::string>()),
              report["worst_mean_abs_error"].get<double>(), 1e-3);

  // The same arguments give the same file.
  ASSERT_EQ(quantize({"--data", "pictures", "--keep", "2", "tiny.safetensors", "again.safetensors"})
                .status,
            0);
  EXPECT_EQ(folder.read("again.safetensors"), folder.read("q.safetensors"));
}

TEST_F(QuantizeCommand, WarnsOfAModelThatStraysFar) {
  const Outcome usual = quantize({"--data", "pictures", "tiny.safetensors", "usual.safetensors"});
  EXPECT_EQ(usual.err, "") << usual.out;
  // Every error a hundred times as large.
  WeightsFile file = make_elan(small_architecture());
  for (auto& [key, tensor] : file.tensors) {
    if (!key.starts_with("tail.")) continue;
    std::vector<float> values = floats_of(tensor);
    for (float& value : values) value *= 100;
    std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  }
  write_model("loud.safetensors", file);
  const Outcome o = quantize({"--data", "pictures", "loud.safetensors", "q.safetensors"});
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_NE(o.err.find("warning: q.safetensors: enlarges these pictures far worse"),
            std::string::npos)
      << o.out;
}

TEST_F(QuantizeCommand, RefusesWhatMeansNothing) {
  const auto refused = [&](const std::vector<std::string>& options, int status,
                           const std::string& says) {
    const Outcome o = quantize(options);
    EXPECT_EQ(o.status, status) << o.err;
    EXPECT_NE(o.err.find(says), std::string::npos) << o.err;
    EXPECT_FALSE(folder.files().contains("q.safetensors"));
  };
  refused({"tiny.safetensors", "q.safetensors"}, 2, "--data");
  refused({"--data", "pictures", "tiny.safetensors"}, 2, "expected a model and an output");
  refused({"--data", "nowhere", "tiny.safetensors", "q.safetensors"}, 1, "nowhere");
  refused({"--data", "nowhere", "tiny.safetensors", "nix/q.safetensors"}, 1,
          "nix/q.safetensors: cannot be written: No such file");
  refused({"--data", "pictures", "--report", "nix/r.json", "tiny.safetensors", "q.safetensors"}, 1,
          "nix/r.json: cannot be written: No such file");
  refused({"--data", "pictures", "--keep", "16", "tiny.safetensors", "q.safetensors"}, 2,
          "keep: expected fewer than the network's 16");
  folder.write("small/a.ppm", ppm(20, 15));
  refused({"--data", "small", "tiny.safetensors", "q.safetensors"}, 1,
          "expected at least 16 pixels a side, found 20x15");
  folder.write("bad/a.png", "no picture");
  refused({"--data", "bad", "tiny.safetensors", "q.safetensors"}, 1,
          "--data: expected usable pictures, found none among 1 files");
  folder.write("empty/readme.txt", "");
  refused({"--data", "empty", "tiny.safetensors", "q.safetensors"}, 1,
          "--data: expected pictures, found none");
  ASSERT_EQ(
      quantize({"--data", "pictures", "--data", "small", "tiny.safetensors", "int8.safetensors"})
          .status,
      0);
  refused({"--data", "pictures", "int8.safetensors", "q.safetensors"}, 3,
          "expected a model in floating point, found 8 bits");
}

TEST_F(QuantizeCommand, TheCheckNoticesScalesThatDoNotFit) {
  ASSERT_EQ(quantize({"--data", "pictures", "tiny.safetensors", "q.safetensors"}).status, 0);
  EXPECT_EQ(check("q.safetensors"), "");

  WeightsFile file = content_of(Safetensors::read(folder / "q.safetensors"));
  int changed = 0;
  for (auto& [key, tensor] : file.tensors) {
    if (!key.ends_with(".input_scale")) continue;
    std::vector<float> scale = floats_of(tensor);
    scale[0] *= 16;
    std::memcpy(tensor.bytes.data(), scale.data(), sizeof(float));
    ++changed;
  }
  EXPECT_GT(changed, 4);
  write_model("broken.safetensors", file);
  EXPECT_TRUE(
      check("broken.safetensors")
          .starts_with("elan-sr: warning: pictures/a.ppm: precision: expected a mean error"))
      << check("broken.safetensors");
}

}  // namespace
}  // namespace elan::test
