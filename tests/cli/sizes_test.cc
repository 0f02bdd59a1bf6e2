#include <gtest/gtest.h>

#include "arguments.h"
#include "pipeline.h"
#include "upscale_picture.h"

namespace elan::cli {
namespace {

TEST(Sizes, OneSideKeepsTheAspect) {
  EXPECT_TRUE((wanted_size({100, 50}, 4, 0, 0) == PictureSize{400, 200}));
  EXPECT_TRUE((wanted_size({100, 50}, 4, 300, 0) == PictureSize{300, 150}));
  EXPECT_TRUE((wanted_size({100, 50}, 4, 0, 99) == PictureSize{198, 99}));
  EXPECT_TRUE((wanted_size({100, 50}, 4, 120, 121) == PictureSize{120, 121}));
  EXPECT_TRUE((wanted_size({1000, 1}, 4, 10, 0) == PictureSize{10, 1}));  // never nothing
}

TEST(Sizes, TheSmallestScaleThatReachesTheSize) {
  const std::vector<int> scales{2, 3, 4};
  EXPECT_EQ(scale_for({100, 50}, {50, 25}, scales), 2);
  EXPECT_EQ(scale_for({100, 50}, {200, 100}, scales), 2);
  EXPECT_EQ(scale_for({100, 50}, {201, 100}, scales), 3);
  EXPECT_EQ(scale_for({100, 50}, {100, 151}, scales), 4);
  EXPECT_THROW(scale_for({100, 50}, {401, 100}, scales), Error);
}

TEST(Sizes, AreTwoWholeNumbersWithACrossBetween) {
  EXPECT_EQ(parse_picture_size("--s", "320x180"), (PictureSize{320, 180}));
  EXPECT_EQ(parse_picture_size("--s", "7x8", 8), (PictureSize{7, 8}));
  for (const char* bad : {"", "x", "3", "3x", "x3", "3x0", "-3x3", "3x4x5", " 3x4", "3x 4", "3.5x4",
                          "3X4", "3x9", "9x3", "3x99999999999"}) {
    EXPECT_THROW(parse_picture_size("--s", bad, 8), Error) << bad;
  }
}

TEST(Memory, Units) {
  EXPECT_EQ(parse_memory("--m", "1500"), 1500U);
  EXPECT_EQ(parse_memory("--m", "3k"), 3072U);
  EXPECT_EQ(parse_memory("--m", "512M"), std::size_t{512} << 20);
  EXPECT_EQ(parse_memory("--m", "2GiB"), std::size_t{2} << 30);
  EXPECT_EQ(parse_memory("--m", "2GB"), std::size_t{2} << 30);
  for (const char* bad : {"", "M", "2X", "2MM", "-1", "1.5G", " 1", "20000000T"}) {
    EXPECT_THROW(parse_memory("--m", bad), Error) << bad;
  }
}

TEST(MemoryGate, OneAloneMayAlwaysPassAndTwoOnlyTogetherWithinTheLimit) {
  MemoryGate gate(100);
  const std::stop_source stopped = [] {
    std::stop_source source;
    source.request_stop();
    return source;
  }();
  const std::stop_token stop = stopped.get_token();  // a wait ends at once, with an exception
  {
    const auto large = gate.enter(1000, stop);
    EXPECT_THROW(static_cast<void>(gate.enter(1, stop)), Error);
  }
  {
    const auto one = gate.enter(60, stop);
    EXPECT_THROW(static_cast<void>(gate.enter(41, stop)), Error);
    const auto two = gate.enter(40, stop);
    EXPECT_THROW(static_cast<void>(gate.enter(1, stop)), Error);
  }
  const auto again = gate.enter(100, stop);
}

}  // namespace
}  // namespace elan::cli
