// Pictures through engines that are easy to predict: what reaches the terminal.
#include "pipeline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "backend.h"
#include "folder.h"
#include "model/network.h"

namespace elan::cli {
namespace {

// Paints everything grey.
class GreyBackend : public Backend {
 public:
  explicit GreyBackend(std::atomic<int>& runs) : runs_(runs) {}
  [[nodiscard]] std::string description() const override { return "grey"; }
  [[nodiscard]] Precision precision() const override { return Precision::fp16; }
  [[nodiscard]] std::vector<std::string> stages() const override { return {}; }
  [[nodiscard]] std::size_t memory_needed(int /*w*/, int /*h*/, int /*batch*/) const override {
    return 1;
  }
  void run(std::span<const ConstImageView> /*in*/, std::span<const ImageView> out,
           const RunContext& context) override {
    ++runs_;
    for (int y = 0; y < out[0].height; ++y) {
      std::memset(out[0].data + static_cast<std::size_t>(y) * out[0].row_bytes, 128,
                  static_cast<std::size_t>(out[0].width) * 3 * size_of(out[0].type));
    }
    if (context.warning) context.warning("left the range of fp16: computed again in tf32");
  }

 private:
  std::atomic<int>& runs_;
};

std::string upscale_folder(bool tta, ProgressMode mode, int& status, std::atomic<int>& runs) {
  picture::initialise(1);
  const test::Folder folder;
  folder.write("a.ppm", test::ppm());
  folder.write("b.ppm", test::ppm());
  FileRequest request;
  request.inputs = {folder.str()};
  request.output = folder.str() + "/out/";
  const FilePlan plan = plan_files(request);
  create_output_folders(plan);

  auto network = std::make_shared<Network>();
  network->arch.scale = 2;
  EngineOptions options;
  options.tile = tta ? 0 : 64;
  std::vector<std::unique_ptr<Backend>> backends;
  backends.push_back(std::make_unique<GreyBackend>(runs));
  backends.push_back(std::make_unique<GreyBackend>(runs));
  Engine engine(Model(network), options, std::move(backends));
  PipelineOptions pipeline;
  pipeline.max_memory = engine.max_memory();
  pipeline.upscale.tta = tta;
  pipeline.engine_for = [&](int, int) -> Engine& { return engine; };
  testing::internal::CaptureStderr();
  Reporter reporter(mode, false);
  run_pipeline(plan.jobs, pipeline, reporter);
  status = reporter.worst_status();
  return testing::internal::GetCapturedStderr();
}

long count(const std::string& text, const std::string& part) {
  long n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(Pipeline, WhatAnEngineWarnsAboutReachesTheTerminal) {
  for (const bool tta : {false, true}) {
    int status = -1;
    std::atomic<int> runs{0};
    const std::string text = upscale_folder(tta, ProgressMode::none, status, runs);
    EXPECT_EQ(status, 0) << text;
    EXPECT_GE(runs, tta ? 16 : 2);
    EXPECT_EQ(count(text, "computed again in tf32"), 2) << text;
    EXPECT_EQ(count(text, "a.ppm: "), 1) << text;
    EXPECT_EQ(count(text, "b.ppm: "), 1) << text;
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << text;
  }
}

TEST(Pipeline, AndProgramsThatReadItsProgress) {
  int status = -1;
  std::atomic<int> runs{0};
  const std::string text = upscale_folder(false, ProgressMode::json, status, runs);
  EXPECT_EQ(count(text, R"("event":"warning")"), 2) << text;
  EXPECT_EQ(count(text, "computed again in tf32"), 2) << text;
}

}  // namespace
}  // namespace elan::cli
