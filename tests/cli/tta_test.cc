// The eight orientations on backends whose results are known.
#include "tta.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "backend.h"
#include "model/network.h"

namespace elan::cli {
namespace {

constexpr int kScale = 2;

// Enlarges a picture by repeating pixels, or paints each pixel with its own column.
class FakeBackend : public Backend {
 public:
  explicit FakeBackend(bool columns) : columns_(columns) {}
  [[nodiscard]] std::string description() const override { return "fake"; }
  [[nodiscard]] Precision precision() const override { return Precision::fp32; }
  [[nodiscard]] std::vector<std::string> stages() const override { return {}; }
  [[nodiscard]] std::size_t memory_needed(int width, int height, int batch) const override {
    return static_cast<std::size_t>(width) * height * batch * 1000;
  }
  void run(std::span<const ConstImageView> in, std::span<const ImageView> out,
           const RunContext& context) override {
    ASSERT_EQ(out[0].type, SampleType::f32);
    ASSERT_EQ(in[0].type, SampleType::u8);
    for (int y = 0; y < out[0].height; ++y) {
      for (int x = 0; x < out[0].width; ++x) {
        for (int c = 0; c < 3; ++c) {
          const auto pixel = std::to_integer<int>(
              in[0].data[static_cast<std::size_t>(y / kScale) * in[0].row_bytes +
                         static_cast<std::size_t>(x / kScale) * 3 + c]);
          const auto value = static_cast<float>(columns_ ? x : pixel);
          std::memcpy(out[0].data + static_cast<std::size_t>(y) * out[0].row_bytes +
                          (static_cast<std::size_t>(x) * 3 + c) * sizeof value,
                      &value, sizeof value);
        }
      }
    }
    if (context.progress) context.progress(1);
  }

 private:
  bool columns_;
};

Engine engine_on(bool columns, std::size_t max_memory = 0) {
  auto network = std::make_shared<Network>();
  network->arch.scale = kScale;
  EngineOptions options;
  options.max_memory = max_memory;
  return {Model(network), options, std::make_unique<FakeBackend>(columns)};
}

std::vector<std::uint8_t> random_picture(int width, int height) {
  std::vector<std::uint8_t> rgb(static_cast<std::size_t>(width) * height * 3);
  std::uint32_t seed = 3;
  for (auto& v : rgb) {
    seed = seed * 1664525U + 1013904223U;
    v = static_cast<std::uint8_t>(seed >> 24);
  }
  return rgb;
}

std::vector<std::uint8_t> run(Engine& engine, const std::vector<std::uint8_t>& rgb, int width,
                              int height, int tile, double* last_share = nullptr) {
  RunOptions options;
  options.progress = [&](double share) {
    if (last_share != nullptr) {
      EXPECT_GE(share, *last_share);
      *last_share = share;
    }
  };
  const auto source =
      stream_tta(engine, view_of(rgb.data(), width, height), SampleType::u8, options, tile, 0);
  std::vector<std::uint8_t> out(rgb.size() * kScale * kScale);
  const int rows = 5;  // that many at a time, whatever the tiles
  for (int y = 0; y < height * kScale; y += rows) {
    const int n = std::min(rows, height * kScale - y);
    source->read(y, view_of(out.data() + static_cast<std::size_t>(y) * width * kScale * 3,
                            width * kScale, n));
  }
  return out;
}

TEST(Tta, TurnedPicturesComeBackInPlace) {
  const int width = 150, height = 70;
  const auto rgb = random_picture(width, height);
  std::vector<std::uint8_t> expected;
  for (int y = 0; y < height * kScale; ++y) {
    for (int x = 0; x < width * kScale; ++x) {
      const auto* p = &rgb[(static_cast<std::size_t>(y / kScale) * width + x / kScale) * 3];
      expected.insert(expected.end(), p, p + 3);
    }
  }
  Engine engine = engine_on(false);
  for (const int tile : {0, 64, 80}) {
    double share = 0;
    EXPECT_EQ(run(engine, rgb, width, height, tile, &share), expected) << tile;
    EXPECT_NEAR(share, 1, 1e-9);
  }
}

TEST(Tta, AveragesAllEightOrientations) {
  const int width = 21, height = 10;
  // x and its mirror, then y and its mirror, each twice: the same for every pixel.
  const auto mean = static_cast<std::uint8_t>((kScale * width + kScale * height - 2) / 4);
  Engine engine = engine_on(true);
  const auto out = run(engine, random_picture(width, height), width, height, 0);
  EXPECT_EQ(out, std::vector<std::uint8_t>(out.size(), mean));
}

TEST(Tta, ShrinksTilesToTheMemoryThereIs) {
  constexpr std::size_t kMiB = std::size_t{1} << 20;
  const Engine roomy = engine_on(false, 2000 * kMiB);
  EXPECT_EQ(plan_tta(roomy, 400, 300, SampleType::u8, 0, 0).tile, 0);
  const Engine tight = engine_on(false, 130 * kMiB);
  const TtaPlan plan = plan_tta(tight, 400, 300, SampleType::u8, 0, 0);
  EXPECT_GE(plan.tile, 64);
  EXPECT_EQ(plan.tile % 16, 0);
  EXPECT_LE(plan.memory, 130 * kMiB);
  const Engine hopeless = engine_on(false, 70 * kMiB);
  EXPECT_THROW(plan_tta(hopeless, 400, 300, SampleType::u8, 0, 0), Error);
  EXPECT_THROW(plan_tta(tight, 400, 300, SampleType::u8, 320, 0), Error);
}

}  // namespace
}  // namespace elan::cli
