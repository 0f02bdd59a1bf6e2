#include "engine/tiles.h"

#include <gtest/gtest.h>

#include <string>

#include "elan/error.h"

namespace elan {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

TileRequest request(int width, int height, std::size_t budget, int tile = 0) {
  TileRequest r;
  r.width = width;
  r.height = height;
  r.scale = 4;
  r.tile = tile;
  r.budget = budget;
  r.backend_bytes = [](int w, int h) { return static_cast<std::size_t>(w) * h * 1000; };
  return r;
}

void expect_covered_once(const TileRequest& r, const TilePlan& plan) {
  int next = 0;
  int rows = 0;
  while (next < r.height) {
    const Span span = tile_span(r.height, next, plan.tile_height, plan.overlap);
    EXPECT_EQ(span.begin, next);
    EXPECT_GT(span.end, span.begin);
    EXPECT_EQ(span.from % kTileGrid, 0);
    EXPECT_TRUE(span.to % kTileGrid == 0 || span.to == r.height);
    EXPECT_LE(span.from, span.begin);
    EXPECT_GE(span.to, span.end);
    next = span.end;
    ++rows;
  }
  EXPECT_EQ(rows, plan.rows);
}

TEST(Tiles, APictureThatFitsStaysWhole) {
  const TilePlan plan = plan_tiles(request(1000, 700, 2000 * kMiB));
  EXPECT_TRUE(plan.whole());
  EXPECT_EQ(plan.overlap, 0);
  EXPECT_EQ(plan.tile_width, 1000);
  EXPECT_EQ(plan.tile_height, 700);
}

TEST(Tiles, StayWithinTheBudgetOnTheGrid) {
  for (const std::size_t budget : {100 * kMiB, 200 * kMiB, 300 * kMiB, 600 * kMiB}) {
    for (const int width : {65, 300, 1001, 1777}) {
      for (const int height : {17, 512, 999, 3000}) {
        const TileRequest r = request(width, height, budget);
        const TilePlan plan = plan_tiles(r);
        EXPECT_LE(plan.memory, budget);
        if (plan.columns > 1) {
          EXPECT_EQ(plan.tile_width % kTileGrid, 0);
        }
        if (plan.rows > 1) {
          EXPECT_EQ(plan.tile_height % kTileGrid, 0);
        }
        EXPECT_EQ(plan.overlap, plan.whole() ? 0 : kTileOverlap);
        expect_covered_once(r, plan);
      }
    }
  }
}

TEST(Tiles, SayWhichLimitIsEnough) {
  TileRequest r = request(3000, 2000, 5 * kMiB);
  r.taken = 70 * kMiB;
  std::size_t enough = 0;
  try {
    plan_tiles(r);
    FAIL() << "accepted";
  } catch (const Error& error) {
    const std::string text = error.what(), key = "--max-memory ";
    const auto at = text.find(key);
    ASSERT_NE(at, std::string::npos) << text;
    enough = std::stoul(text.substr(at + key.size()));
  }
  r.budget = enough * kMiB - r.taken;
  EXPECT_EQ(plan_tiles(r).columns, 47);
  r.budget -= kMiB;
  EXPECT_THROW(plan_tiles(r), Error);
}

TEST(Tiles, StayWithinBothBudgets) {
  for (const std::size_t budget : {100 * kMiB, 900 * kMiB}) {
    for (const std::size_t device : {20 * kMiB, 500 * kMiB}) {
      TileRequest r = request(900, 700, budget);
      r.device_budget = device;
      r.device_bytes = [](int w, int h) { return static_cast<std::size_t>(w) * h * 600; };
      const TilePlan plan = plan_tiles(r);
      EXPECT_LE(plan.memory, budget);
      EXPECT_LE(plan.device_memory, device);
      EXPECT_EQ(plan.whole(), budget == 900 * kMiB && device == 500 * kMiB);
      EXPECT_LE(smaller_plan(r, plan).device_memory, plan.device_memory);
    }
  }
}

TEST(Tiles, AnAskedForTileIsTaken) {
  const TilePlan plan = plan_tiles(request(1000, 300, 2000 * kMiB, 256));
  EXPECT_EQ(plan.tile_width, 256);
  EXPECT_EQ(plan.tile_height, 256);
  EXPECT_EQ(plan.columns, 4);
  EXPECT_EQ(plan.rows, 2);
  EXPECT_TRUE(plan_tiles(request(200, 100, 2000 * kMiB, 256)).whole());
}

TEST(Tiles, ABudgetBelowTheSmallestTileIsRefused) {
  try {
    plan_tiles(request(1000, 1000, kMiB));
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::memory);
    EXPECT_NE(std::string(error.what()).find("1000x1000"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("1 MiB"), std::string::npos);
  }
}

TEST(Tiles, ShrinkUntilTheSmallest) {
  const TileRequest r = request(1000, 700, 4000 * kMiB);
  TilePlan plan = plan_tiles(r);
  int steps = 0;
  for (;; ++steps) {
    ASSERT_LT(steps, 20);
    try {
      const TilePlan next = smaller_plan(r, plan);
      EXPECT_LT(next.memory, plan.memory);
      expect_covered_once(r, next);
      plan = next;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::memory);
      break;
    }
  }
  EXPECT_LE(plan.tile_width, kSmallestTile);
  EXPECT_GE(steps, 3);
}

}  // namespace
}  // namespace elan
