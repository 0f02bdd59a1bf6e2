// elan-sr build and the device tensorrt, as far as they go without TensorRT and a GPU.
#include <gtest/gtest.h>

#include "folder.h"
#include "process.h"

namespace elan::test {
namespace {

TEST(Build, RefusesInOneLine) {
  const Folder folder;
  const struct {
    std::vector<std::string> arguments;
    int status;
    const char* says;
  } cases[] = {
      {{"build", "light", "a.plan", "b.plan"}, 2, "found b.plan"},
      {{"build", "light", "a.engine"}, 2, "ends in .plan, found a.engine"},
      {{"build", "light", "--size", "30"}, 2, "--size: expected WIDTHxHEIGHT"},
      {{"build", "light", "--size", "30x20", "--max", "40x40"}, 2, "contradict"},
      {{"build", "light", "--min", "50x50", "--opt", "40x40"}, 2, "found 50x50/40x40/1024x1024"},
      {{"build", "light", "--max", "99999x20"}, 2, "<= 16384x16384"},
      {{"build", "light", "-p", "int8"}, 2, "for int8, found neither"},
      {{"build", "light", "-p", "bf16"}, 2, "found bf16"},
      {{"build", "light", "-p", "fp16", "--plan", "p.json"}, 2, "contradict"},
      {{"build", "light", "--plan", "p.json"}, 3, "p.json"},
      {{"build", "light", "--calibrate", "nowhere"}, 1, "nowhere"},
      {{"build", "light", "-p", "fp16", "--calibrate", "nowhere"}, 2, "--calibrate: expected"},
      {{"build", "light", "-p", "fp32", "--loose"}, 2, "--loose: expected precision fp16 or int8"},
      {{"bench", "-d", "tensorrt:some.plan", "--plan", "p.json"}, 2, "has its own"},
      {{"build", "nix"}, 3, "nix"},
      {{"bench", "-d", "tensorrt:some.plan", "-p", "fp16"}, 2, "has its own"},
      {{"bench", "-d", "tensorrt:0,1"}, 2, "one GPU"},
      {{"bench", "-d", "tensorrt:some"}, 2, "tensorrt:FILE.plan, found tensorrt:some"},
      {{"bench", "-d", "tensorrt", "-p", "int8"}, 2, "found neither"},
  };
  for (const auto& c : cases) {
    const Outcome o = run_command(c.arguments, {.folder = folder.str()});
    EXPECT_EQ(o.status, c.status) << o.err;
    EXPECT_EQ(line_count(o.err), 1) << o.err;
    EXPECT_NE(o.err.find(c.says), std::string::npos) << o.err;
  }
  EXPECT_EQ(folder.files(), std::set<std::string>{});
}

// Either the program has no TensorRT, or there is none to be found, or no GPU.
TEST(Build, WithoutTensorRtSaysSoWithTheStatusOfADevice) {
  const Folder folder;
  folder.write("photo.ppm", ppm());
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"build", "light", "a.plan"},
           {"build", "light", "a.plan", "--calibrate", "photo.ppm"},
           {"bench", "-d", "tensorrt"}}) {
    const Outcome o = run_command(
        arguments, {.folder = folder.str(), .environment = {"CUDA_VISIBLE_DEVICES=-1"}});
    EXPECT_EQ(o.status, 4) << o.err;
    EXPECT_EQ(line_count(o.err), 1) << o.err;
  }
  EXPECT_EQ(folder.files(), std::set<std::string>{"photo.ppm"});
}

}  // namespace
}  // namespace elan::test
