// What is refused before any work, and what every command says about itself.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "folder.h"
#include "process.h"

namespace elan::test {
namespace {

struct BadUsage {
  const char* name;
  std::vector<std::string> arguments;  // after upscale -i a.ppm -o out.ppm
  int status;
  const char* says;
};

// The name is GoogleTest's.
void PrintTo(const BadUsage& bad, std::ostream* out) {  // NOLINT(readability-identifier-naming)
  *out << bad.name;
}

class Usage : public testing::TestWithParam<BadUsage> {};

TEST_P(Usage, IsRefusedInOneLine) {
  const Folder folder;
  folder.write("a.ppm", ppm());
  folder.write("not_a_model.safetensors", "hello");
  std::vector<std::string> arguments{"upscale", "-i", "a.ppm", "-o", "out.ppm"};
  arguments.insert(arguments.end(), GetParam().arguments.begin(), GetParam().arguments.end());
  const Outcome o = run_command(arguments, {.folder = folder.str()});
  EXPECT_EQ(o.status, GetParam().status) << o.err;
  EXPECT_EQ(o.out, "");
  EXPECT_TRUE(o.err.starts_with("elan-sr: ")) << o.err;
  EXPECT_EQ(line_count(o.err), 1) << o.err;
  EXPECT_NE(o.err.find(GetParam().says), std::string::npos) << o.err;
  EXPECT_EQ(folder.files(), (std::set<std::string>{"a.ppm", "not_a_model.safetensors"}));
}

const std::string kLight4 = ELANSR_MODELS "/elan_light_x4.safetensors";

INSTANTIATE_TEST_SUITE_P(
    Table, Usage,
    testing::Values(
        BadUsage{"UnknownOption", {"--nope"}, 2, "--nope: no such option"},
        BadUsage{"UnknownShortOption", {"-Z"}, 2, "-Z: no such option"},
        BadUsage{"TileTooSmall", {"-t", "7"}, 2, "multiple of 16 from 64 on, found 7"},
        BadUsage{"TileOffGrid", {"-t", "72"}, 2, "multiple of 16 from 64 on, found 72"},
        BadUsage{"TileNegative", {"-t", "-16"}, 2, "--tile: expected a whole number"},
        BadUsage{"NoJobs", {"-j", "0"}, 2, "--jobs: expected a whole number from 1"},
        BadUsage{"JobsNoNumber", {"-j", "two"}, 2, "found two"},
        BadUsage{"ThreadsNegative", {"--threads", "-1"}, 2, "--threads"},
        BadUsage{"ScaleNobodyHas", {"-s", "5"}, 2, "expected one of 2, 3, 4"},
        BadUsage{"ScaleHuge", {"-s", "99999999999999999999"}, 2, "--scale"},
        BadUsage{"ScaleTwice", {"-s", "2", "-s", "3"}, 2, "--scale: expected once"},
        BadUsage{"ScaleNotOfTheName", {"-m", "elan_light_x4", "-s", "2"}, 2, "expected 4"},
        BadUsage{"ScaleNotOfTheFile", {"-m", kLight4, "-s", "2"}, 2, "expected 4"},
        BadUsage{"ScaleTheFamilyLacks", {"-m", "full", "-s", "2"}, 2, "expected one of 4"},
        BadUsage{"UnknownDevice", {"-d", "gpu"}, 2, "found gpu"},
        BadUsage{"DeviceList", {"-d", "cuda:0,x"}, 2, "found cuda:0,x"},
        BadUsage{"DeviceTwice", {"-d", "cuda:1,0,1"}, 2, "each GPU once, found 1 twice"},
        BadUsage{"GpuTwice", {"-g", "2,2"}, 2, "each GPU once, found 2 twice"},
        BadUsage{"NoSuchGpu", {"-d", "cuda:999"}, 4, "cuda:999: expected a"},
        BadUsage{"DeviceListOfCpu", {"-d", "cpu:0"}, 2, "found cpu:0"},
        BadUsage{"GpuAndDevice", {"-g", "0", "-d", "cpu"}, 2, "--gpu and --device"},
        BadUsage{"GpuNoNumber", {"-g", "first"}, 2, "--gpu: expected numbers"},
        BadUsage{"GpuAndCpu", {"-g", "0,-1"}, 2, "--gpu: expected numbers"},
        BadUsage{"UnknownPrecision", {"-p", "fp99"}, 2, "found fp99"},
        BadUsage{"PrecisionAndPlan", {"-p", "fp32", "--plan", "a.ppm"}, 2, "--plan contradict"},
        BadUsage{"PlanThatIsNone", {"--plan", "a.ppm"}, 3, "a.ppm: expected JSON"},
        BadUsage{"MissingPlan", {"--plan", "nix.json"}, 3, "nix.json: expected a plan, found: No"},
        BadUsage{"MemoryUnit", {"--max-memory", "3X"}, 2, "--max-memory: expected bytes"},
        BadUsage{"MemoryZero", {"--max-memory", "0"}, 2, "--max-memory: expected bytes"},
        BadUsage{"MemoryOverflow", {"--max-memory", "99999999999999T"}, 2, "--max-memory"},
        BadUsage{"UnknownFormat", {"-f", "bmp"}, 2, "--format: expected png"},
        BadUsage{"FormatAgainstExtension", {"-f", "png"}, 2, "contradicts the extension"},
        BadUsage{"QualityTooHigh", {"-q", "101"}, 2, "--quality: expected a whole number from 1"},
        BadUsage{"QualityWithoutValue", {"-q"}, 2, "--quality: expected a value"},
        BadUsage{"QualityAndLossless", {"-q", "9", "--lossless"}, 2, "contradict each other"},
        BadUsage{"SkipAndOverwrite", {"--skip-existing", "--overwrite"}, 2, "contradict"},
        BadUsage{"UnknownProgress", {"--progress=dots"}, 2, "found dots"},
        BadUsage{"WidthZero", {"--width", "0"}, 2, "--width"},
        BadUsage{"UnknownModel",
                 {"-m", "nix"},
                 3,
                 "shipped: elan (-s 4), elan_int8 (-s 4), elan_light (-s 2, 3, 4)"},
        BadUsage{"MissingModelFile", {"-m", "./nix.safetensors"}, 3, "nix.safetensors"},
        BadUsage{"NoModelAtAll", {"-m", "not_a_model.safetensors"}, 3, "not_a_model.safetensors"},
        BadUsage{"PictureAsModel", {"-m", "./a.ppm"}, 3, "a.ppm"},
        BadUsage{"MemoryTooSmall", {"--max-memory", "10M"}, 4, "--max-memory"}),
    [](const auto& test) { return test.param.name; });

TEST(Usage, OutputsThatMeanNothingAreRefused) {
  const Folder folder;
  folder.write("a.ppm", ppm());
  folder.write("b.ppm", ppm());
  const struct {
    std::vector<std::string> arguments;
    const char* says;
  } cases[] = {
      {{"upscale", "-i", "a.ppm"}, "--output is required"},
      {{"upscale", "-o", "x.ppm"}, "--input is required"},
      {{"upscale", "-i", "a.ppm", "-o", "x"}, "extension of a picture format"},
      {{"upscale", "-i", "a.ppm", "-o", "x.txt"}, "extension of a picture format"},
      {{"upscale", "-i", "a.ppm", "-o", "-"}, "--format is needed"},
      {{"upscale", "-i", "a.ppm", "b.ppm", "-o", "-", "-f", "ppm"}, "takes one picture"},
      {{"upscale", "-i", ".", "-o", "-", "-f", "ppm"}, "takes one picture"},
      {{"upscale", "-i", "a.ppm", ".", "-o", "b.ppm"}, "expected a folder"},
      {{"upscale", "-i", "a.ppm", "b.ppm", "-o", "x.png"}, "a folder of that name ends in /"},
      {{"upscale", "-i", ".", "-o", "x.png"}, "a folder of that name ends in /"},
      {{"upscale", "-i", "-", "-o", "x/"}, "standard input (-) has no name"},
      {{"upscale", "-i", "-", "-", "-o", "x/"}, "only once"},
      {{"upscale", "-i", "", "-o", "x.ppm"}, "empty"},
  };
  for (const auto& c : cases) {
    const Outcome o = run_command(c.arguments, {.folder = folder.str()});
    EXPECT_EQ(o.status, 2) << o.err;
    EXPECT_EQ(line_count(o.err), 1) << o.err;
    EXPECT_NE(o.err.find(c.says), std::string::npos) << o.err;
  }
  EXPECT_EQ(folder.files(), (std::set<std::string>{"a.ppm", "b.ppm"}));
}

TEST(Usage, AGpuThatIsNotThereIsOneLineInEveryCommand) {
  const Folder folder;
  for (const char* name : {"a_LR.ppm", "a_HR.ppm"}) folder.write(name, ppm());
  const std::vector<std::string> commands[] = {
      {"upscale", "-i", ".", "-o", "out/"},
      {"upscale", "-i", "a_LR.ppm", "-o", "out.ppm", "--width", "20"},
      {"upscale", "-i", "a_LR.ppm", "-o", "out.ppm", "--tta"},
      {"bench", "--size", "16x16"},
      {"bench", "--size", "16x16", "--profile", "--json"},
      {"eval", "--data", "."},
  };
  for (std::vector<std::string> command : commands) {
    command.insert(command.end(), {"-d", "cuda:998,999"});
    const Outcome o = run_command(command, {.folder = folder.str()});
    EXPECT_EQ(o.status, 4) << o.err;
    EXPECT_EQ(o.out, "");
    EXPECT_EQ(line_count(o.err), 1) << o.err;
    EXPECT_NE(o.err.find("expected a"), std::string::npos) << o.err;
    EXPECT_NE(o.err.find("cuda:998"), std::string::npos) << o.err;
  }
}

TEST(Usage, NoCommandShowsHelpAndFails) {
  const Outcome o = run_command({});
  EXPECT_EQ(o.status, 2);
  EXPECT_NE(o.err.find("elan-sr upscale -i small.png -o large.png"), std::string::npos) << o.err;
}

TEST(Usage, UnknownCommandNamesThoseThereAre) {
  const Outcome o = run_command({"enlarge"});
  EXPECT_EQ(o.status, 2);
  EXPECT_NE(o.err.find("enlarge: no such command; expected one of upscale, "), std::string::npos)
      << o.err;
}

TEST(Usage, EveryCommandHasHelp) {
  const Outcome all = run_command({"--help"});
  EXPECT_EQ(all.status, 0);
  EXPECT_EQ(all.err, "");
  std::istringstream lines(all.out);
  std::string line;
  int commands = 0;
  while (std::getline(lines, line) && !line.starts_with("Commands")) {
  }
  while (std::getline(lines, line) && line.starts_with("  ")) {
    const std::string name = line.substr(2, line.find(' ', 2) - 2);
    for (const auto& words :
         std::vector<std::vector<std::string>>{{name, "--help"}, {name, "-h"}, {"help", name}}) {
      const Outcome o = run_command(words);
      EXPECT_EQ(o.status, 0) << name;
      EXPECT_NE(o.out.find("--help"), std::string::npos) << name;
      EXPECT_EQ(o.err, "") << name;
    }
    ++commands;
  }
  EXPECT_GE(commands, 4);  // export is there where ONNX is
}

TEST(Usage, VersionSaysWhatWasBuilt) {
  const Outcome o = run_command({"--version"});
  EXPECT_EQ(o.status, 0);
  for (const char* word : {"elan-sr 0.", "commit", "compiler:", "backends:", "cpu reference",
                           "instruction sets:", "formats:", "PNG"}) {
    EXPECT_NE(o.out.find(word), std::string::npos) << word;
  }
}

TEST(Usage, StandardOutputThatIsGoneIsAnError) {
  Running running({"info"});
  running.close_output();
  const Outcome o = running.finish();
  EXPECT_EQ(o.status, 1);
  EXPECT_EQ(o.err, "");  // nobody is there to read it
}

// Of output that is written at the end, and of more than is kept back so long.
TEST(Usage, FullStandardOutputIsAnErrorWithItsReason) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"--version"}, {"info", "--json"}, {"bench", "--help"}, {"upscale", "--help"}}) {
    const Outcome o = run_command(words, {.output = "/dev/full"});
    EXPECT_EQ(o.status, 1) << words.front();
    EXPECT_EQ(o.err, "elan-sr: standard output: cannot be written: No space left on device\n");
  }
}

TEST(Usage, ClosedStandardOutputIsAnErrorWithItsReason) {
  const Outcome o = run_command({"help"}, {.output_closed = true});
  EXPECT_EQ(o.status, 1);
  EXPECT_EQ(o.err, "elan-sr: standard output: cannot be written: Bad file descriptor\n");
}

TEST(Info, ListsAndDescribesModels) {
  const Outcome list = run_command({"info", "--json"});
  ASSERT_EQ(list.status, 0) << list.err;
  std::size_t shipped = 0;
  for (const auto& entry : std::filesystem::directory_iterator(ELANSR_MODELS)) {
    shipped += entry.path().extension() == ".safetensors" ? 1 : 0;
  }
  EXPECT_EQ(nlohmann::json::parse(list.out)["models"].size(), shipped);

  const Outcome text = run_command({"info", "light"});
  EXPECT_EQ(text.status, 0) << text.err;
  EXPECT_NE(text.out.find("elan-light, 4 times larger"), std::string::npos) << text.out;

  const Outcome json = run_command({"info", kLight4, "--json"});
  ASSERT_EQ(json.status, 0) << json.err;
  const auto object = nlohmann::json::parse(json.out);
  EXPECT_EQ(object["scale"], 4);
  EXPECT_EQ(object["channels"], 60);
  EXPECT_EQ(object["metadata"]["format"], "pt");
}

TEST(Info, RefusesWhatIsNoModel) {
  const Folder folder;
  const std::string pointer = folder.write(
      "pointer.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n");
  for (const std::string& name :
       {pointer, folder.write("empty.safetensors", ""), folder / "missing.safetensors"}) {
    const Outcome o = run_command({"info", name});
    EXPECT_EQ(o.status, 3) << name;
    EXPECT_EQ(line_count(o.err), 1) << o.err;
    EXPECT_NE(o.err.find(name), std::string::npos) << o.err;
    EXPECT_EQ(o.out, "");
  }
  EXPECT_EQ(run_command({"info", "light", "full"}).status, 2);
}

TEST(Models, AreFoundInTheBuildTreeAndNamedWhenMissing) {
  const Outcome built = run_command({"info", "light"}, {.environment = {"ELANSR_MODELS"}});
  EXPECT_EQ(built.status, 0) << built.err;
  const Folder empty;
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"info"}, {"info", "light"}}) {
    const Outcome none = run_command(words, {.environment = {"ELANSR_MODELS=" + empty.str()}});
    EXPECT_EQ(none.status, 3);
    EXPECT_NE(none.err.find(empty.str()), std::string::npos) << none.err;
  }
}

}  // namespace
}  // namespace elan::test
