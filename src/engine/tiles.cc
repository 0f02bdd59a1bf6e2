#include "engine/tiles.h"

#include <algorithm>
#include <string>

#include "core/memory.h"

namespace elan {
namespace {

// Outputs are at most 16 bits a sample unless the caller works in float, where it holds the whole
// output itself.
constexpr std::size_t kOutputBytes = 3 * 2;

int round_up(int value, int multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
int divide_up(int value, int divisor) {
  return (value + divisor - 1) / divisor;
}

// Cuts into tiles of at most `tile` a side, evened out so that the last ones are not slivers.
TilePlan cut(const TileRequest& r, int tile, bool even) {
  TilePlan plan;
  plan.columns = divide_up(r.width, tile);
  plan.rows = divide_up(r.height, tile);
  plan.tile_width = even ? round_up(divide_up(r.width, plan.columns), kTileGrid) : tile;
  plan.tile_height = even ? round_up(divide_up(r.height, plan.rows), kTileGrid) : tile;
  if (plan.columns == 1) plan.tile_width = r.width;
  if (plan.rows == 1) plan.tile_height = r.height;
  plan.overlap = plan.whole() ? 0 : kTileOverlap;

  const int computed_width = std::min(r.width, plan.tile_width + 2 * plan.overlap);
  const int computed_height = std::min(r.height, plan.tile_height + 2 * plan.overlap);
  const std::size_t area = static_cast<std::size_t>(r.scale) * r.scale * kOutputBytes;
  const std::size_t band = static_cast<std::size_t>(r.width) * plan.tile_height * area;
  const std::size_t tile_output =
      plan.whole() ? 0 : static_cast<std::size_t>(computed_width) * computed_height * area;
  plan.memory = r.backend_bytes(computed_width, computed_height) + band + tile_output;
  if (r.device_bytes) plan.device_memory = r.device_bytes(computed_width, computed_height);
  return plan;
}

bool fits(const TileRequest& r, const TilePlan& plan) {
  return plan.memory <= r.budget && plan.device_memory <= r.device_budget;
}

[[noreturn]] void too_small(const TileRequest& r, const TilePlan& plan) {
  const bool device = plan.memory <= r.budget;
  constexpr std::size_t kMiB = 1 << 20;
  // It is the limit of the device's memory as well.
  const std::size_t enough =
      (std::max(r.taken + plan.memory, plan.device_memory) + kMiB - 1) / kMiB;
  throw Error(ErrorKind::memory,
              "memory: a " + std::to_string(r.width) + "x" + std::to_string(r.height) +
                  " picture in tiles of " + std::to_string(plan.tile_width) + "x" +
                  std::to_string(plan.tile_height) + " needs " +
                  format_bytes(device ? plan.device_memory : plan.memory) +
                  (device ? " of the device's memory" : "") + ", the limit leaves " +
                  format_bytes(device ? r.device_budget : r.budget) + "; " +
                  (r.tile != 0 ? "a smaller --tile or " : "") +
                  (device ? "a larger --max-memory helps"
                          : "--max-memory " + std::to_string(enough) + "M helps"));
}

}  // namespace

Span tile_span(int size, int begin, int tile, int overlap) {
  const int end = std::min(size, begin + tile);
  return {begin, end, std::max(0, begin - overlap), std::min(size, end + overlap)};
}

TilePlan plan_tiles(const TileRequest& r) {
  if (r.tile != 0) {
    const TilePlan plan = cut(r, r.tile, false);
    if (!fits(r, plan)) too_small(r, plan);
    return plan;
  }
  const int longest = round_up(std::max(r.width, r.height), kTileGrid);
  TilePlan plan = cut(r, longest, true);
  if (fits(r, plan)) return plan;
  // The memory of a plan is not exactly monotone in the tile (evening out), so search down a
  // ladder of about 1/8 a step: few evaluations, and the result depends on nothing else.
  for (int tile = longest; tile > kSmallestTile;) {
    tile = std::max(kSmallestTile, (tile - std::max(kTileGrid, tile / 8)) / kTileGrid * kTileGrid);
    plan = cut(r, tile, true);
    if (fits(r, plan)) return plan;
  }
  too_small(r, plan);
}

TilePlan smaller_plan(const TileRequest& r, const TilePlan& plan) {
  const int longest = std::max(plan.tile_width, plan.tile_height);
  if (longest <= kSmallestTile) {
    throw Error(ErrorKind::memory,
                "memory: ran out even with tiles of " + std::to_string(longest) + " pixels");
  }
  return cut(r, std::max(kSmallestTile, longest / 2 / kTileGrid * kTileGrid), true);
}

}  // namespace elan
