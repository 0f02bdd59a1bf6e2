// The order in which the tiles of a picture go through the network, and what each waits for.
//
// Work is cut into tasks: one step of the network for one row of tiles. The tiles are shared out to
// threads in bands of neighbours, the same in every step, so that a thread finds in its caches what
// it wrote a step before. A thread takes the tiles of its band in order, and those of other bands
// when its own next one has to wait; there is no barrier.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cpu/packing.h"

namespace elan::cpu {

enum class Step : std::uint8_t {
  head,         // x = head(picture)
  fused,        // unshifted pair: LFE, projections and attention of a tile in one go
  lfe_project,  // shifted pair: LFE, q and v
  attention,    // in the windows of a tile of each rolled grid
  project_out,  // and residual
  add_head,     // x += head(picture)
  tail,         // x to output pixels
};

struct Task {
  static constexpr std::int32_t kNone = -1;
  Step step{};
  int pair = 0;
  int row = 0;                                                    // of tiles
  std::array<std::int32_t, 4> after{kNone, kNone, kNone, kNone};  // tasks, all before this one
};

// What a band has of a task: the tiles in columns [first, last).
struct Segment {
  std::int32_t task = 0;
  std::int32_t first = 0, last = 0;
};

struct Schedule {
  int rows = 0, columns = 0;  // of tiles
  std::vector<Task> tasks;
  std::vector<std::vector<Segment>> bands;  // segments in the order of their tasks
  // For an observer: the count of tasks that must be done for head, each pair, body and tail.
  std::vector<int> ends;
};

Schedule make_schedule(const PackedNetwork& network, int rows, int columns, int bands);

}  // namespace elan::cpu
