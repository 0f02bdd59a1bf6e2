// How a picture is cut into tiles: pure functions of sizes and budget.
#pragma once

#include <cstddef>
#include <functional>

#include "elan/engine.h"

namespace elan {

// Windows line up between a tile and the whole picture only on this grid (the least common
// multiple of the window sizes).
inline constexpr int kTileGrid = 16;
// Measured on three pictures: with 16, differences near tile borders stand out; with 32 they do
// not.
inline constexpr int kTileOverlap = 32;
inline constexpr int kSmallestTile = 64;

// A stretch of one axis: [begin, end) is kept of what is computed on [from, to).
struct Span {
  int begin = 0, end = 0;
  int from = 0, to = 0;
};

// The stretch of an axis of `size` pixels that starts at `begin` (a multiple of kTileGrid) and is
// at most `tile` long.
Span tile_span(int size, int begin, int tile, int overlap);

struct TileRequest {
  int width = 0, height = 0;  // of the picture
  int scale = 1;
  int tile = 0;            // asked-for side; 0: whole if it fits, else the largest that does
  std::size_t budget = 0;  // bytes
  std::size_t taken = 0;   // bytes of the limit that are not in the budget; for messages
  // Bytes the backend needs for a picture of this size.
  std::function<std::size_t(int width, int height)> backend_bytes;
  // The same for a memory of the device's own; none: it has none.
  std::size_t device_budget = 0;
  std::function<std::size_t(int width, int height)> device_bytes = {};
};

// Throws Error (memory) when even the smallest tile (or the asked-for one) exceeds a budget.
TilePlan plan_tiles(const TileRequest& request);

// The next smaller plan after the one that ran out of memory; throws Error (memory) after the
// smallest.
TilePlan smaller_plan(const TileRequest& request, const TilePlan& plan);

}  // namespace elan
