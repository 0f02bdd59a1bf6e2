// Tiles against the whole picture, on the network itself: small differences, none of them seams.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "elan/engine.h"
#include "picture/picture.h"

namespace elan {
namespace {

constexpr int kScale = 4;

std::vector<std::uint8_t> upscale(const ConstImageView& in, const EngineOptions& options) {
  Engine engine(Model::load(ELANSR_MODELS "/elan_light_x4.safetensors"), options);
  std::vector<std::uint8_t> out(static_cast<std::size_t>(in.width) * in.height * kScale * kScale *
                                3);
  engine.upscale(in, view_of(out.data(), in.width * kScale, in.height * kScale));
  return out;
}

struct Mean {
  double sum = 0;
  long count = 0;
  void add(double value) {
    sum += value;
    ++count;
  }
  [[nodiscard]] double value() const { return sum / static_cast<double>(std::max(1L, count)); }
};

// Input pixels from `position` to the nearest inner border of stretches of `tile`.
int to_border(int position, int size, int tile) {
  int nearest = size;
  for (int border = tile; border < size; border += tile) {
    nearest = std::min(nearest, std::max(position - border, border - 1 - position));
  }
  return nearest;
}

TEST(Seams, TilesDifferLittleAndNotAtTheirBorders) {
  picture::initialise(1);
  const picture::Picture picture = picture::load({ELANSR_EXAMPLES "/sample.png"}, {});
  const ConstImageView in = picture.rgb();
  const std::vector<std::uint8_t> whole = upscale(in, {.device = "cpu"});

  // Tiles because memory is short, not because they were asked for.
  EngineOptions small{.device = "cpu"};
  small.max_memory = std::size_t{110} << 20;
  const TilePlan plan = Engine(Model::load(ELANSR_MODELS "/elan_light_x4.safetensors"), small)
                            .plan(in.width, in.height);
  ASSERT_GT(plan.columns * plan.rows, 1);
  ASSERT_LE(plan.memory, small.max_memory);
  const std::vector<std::uint8_t> tiled = upscale(in, small);

  Mean all, near, elsewhere;
  long off_by_more_than_one = 0;
  const int width = in.width * kScale;
  for (int y = 0; y < in.height * kScale; ++y) {
    for (int x = 0; x < width; ++x) {
      const bool border = to_border(x / kScale, in.width, plan.tile_width) < 8 ||
                          to_border(y / kScale, in.height, plan.tile_height) < 8;
      int largest = 0;
      for (int c = 0; c < 3; ++c) {
        const std::size_t i = (static_cast<std::size_t>(y) * width + x) * 3 + c;
        const int difference = std::abs(whole[i] - tiled[i]);
        largest = std::max(largest, difference);
        all.add(difference);
        (border ? near : elsewhere).add(difference);
      }
      off_by_more_than_one += largest > 1 ? 1 : 0;
    }
  }
  EXPECT_GT(all.value(), 0) << "the picture was not cut";
  EXPECT_LE(all.value(), 0.06);
  EXPECT_LE(off_by_more_than_one, all.count / 3 / 100);
  EXPECT_LE(near.value(), elsewhere.value());
}

}  // namespace
}  // namespace elan
