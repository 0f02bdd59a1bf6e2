// elan-sr export, as people run it; what it writes is tested in tests/onnx.
#include <gtest/gtest.h>

#include "folder.h"
#include "process.h"

namespace elan::test {
namespace {

TEST(Export, WritesTheModelThatWasNamed) {
  const Folder folder;
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"export", "light", "a.onnx"},
           {"export", "-m", "elan_light_x2", "-o", "b.onnx", "--size", "30x17", "-p", "fp16"},
           {"export", "light", "-s", "3", "c.onnx", "--plugins", "--padding", "outside"}}) {
    const Outcome o = run_command(arguments, {.folder = folder.str()});
    EXPECT_EQ(o.status, 0) << o.err;
    EXPECT_EQ(o.out + o.err, "");
  }
  EXPECT_EQ(folder.files(), (std::set<std::string>{"a.onnx", "b.onnx", "c.onnx"}));
}

TEST(Export, RefusesInOneLine) {
  const Folder folder;
  const struct {
    std::vector<std::string> arguments;
    int status;
    const char* says;
  } cases[] = {
      {{"export"}, 2, "expected a model and an output"},
      {{"export", "light"}, 2, "expected a model and an output"},
      {{"export", "light", "a.onnx", "b.onnx"}, 2, "found b.onnx"},
      {{"export", "light", "a.onnx", "--size", "30"}, 2, "--size: expected WIDTHxHEIGHT"},
      {{"export", "light", "a.onnx", "--size", "0x3"}, 2, "found 0x3"},
      {{"export", "light", "a.onnx", "--size", "3x4x5"}, 2, "found 3x4x5"},
      {{"export", "light", "a.onnx", "--padding", "none"}, 2, "inside or outside, found none"},
      {{"export", "light", "a.onnx", "--padding", "outside", "--size", "30x17"}, 2, "of 16"},
      {{"export", "light", "a.onnx", "-p", "bf16"}, 2, "found bf16"},
      {{"export", "light", "a.onnx", "-p", "int8"}, 2, "expected a model in 8 bits"},
      {{"export", "light", "a.onnx", "--plan", "p.json", "-p", "fp16"}, 2, "contradict"},
      {{"export", "light", "a.onnx", "--plan", "p.json"}, 3, "p.json"},
      {{"export", "light", "a.onnx", "-p", "half"}, 2, "half"},
      {{"export", "nix", "a.onnx"}, 3, "nix"},
      {{"export", "light", "missing/a.onnx"}, 1, "missing/a.onnx: cannot be written"},
  };
  for (const auto& c : cases) {
    const Outcome o = run_command(c.arguments, {.folder = folder.str()});
    EXPECT_EQ(o.status, c.status) << o.err;
    EXPECT_EQ(line_count(o.err), 1) << o.err;
    EXPECT_NE(o.err.find(c.says), std::string::npos) << o.err;
  }
  EXPECT_EQ(folder.files(), std::set<std::string>{});
}

}  // namespace
}  // namespace elan::test
