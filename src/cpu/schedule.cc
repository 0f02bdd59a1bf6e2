#include "cpu/schedule.h"

#include <algorithm>

namespace elan::cpu {
namespace {

class Builder {
 public:
  explicit Builder(int rows, int columns) {
    schedule_.rows = rows;
    schedule_.columns = columns;
  }

  Schedule build(const PackedNetwork& network) {
    std::vector<int> x = each_row(Step::head, 0, [](Task&, int) {});  // tasks that completed x
    for (std::size_t p = 0; p < network.pairs.size(); ++p) {
      const int pair = static_cast<int>(p);
      x = network.pairs[p].shifted ? shifted_pair(pair, x)
                                   : each_row(Step::fused, pair, [&](Task& task, int row) {
                                       reads_neighbours(task, x, row);
                                     });
    }
    x = each_row(Step::add_head, 0, [&](Task& task, int row) { after(task, x[row]); });
    each_row(Step::tail, 0, [&](Task& task, int row) {
      for (int r = row - 1; r <= row + 1; ++r) {
        if (r >= 0 && r < schedule_.rows) after(task, x[r]);
      }
    });
    return std::move(schedule_);
  }

  // Band b has the tiles [b * tiles / bands, (b + 1) * tiles / bands), counted row by row.
  static void share_out(Schedule& schedule, int bands) {
    const int tiles = schedule.rows * schedule.columns;
    schedule.bands.resize(bands);
    for (int b = 0; b < bands; ++b) {
      const int begin = static_cast<int>(std::int64_t{b} * tiles / bands);
      const int end = static_cast<int>((std::int64_t{b} + 1) * tiles / bands);
      for (std::size_t i = 0; i < schedule.tasks.size(); ++i) {
        const int row_begin = schedule.tasks[i].row * schedule.columns;
        const int first = std::max(begin - row_begin, 0);
        const int last = std::min(end - row_begin, schedule.columns);
        if (first < last) schedule.bands[b].push_back({static_cast<int>(i), first, last});
      }
    }
  }

 private:
  static void after(Task& task, int other) {
    for (std::int32_t& slot : task.after) {
      if (slot == other) return;
      if (slot == Task::kNone) {
        slot = other;
        return;
      }
    }
  }

  int add(const Task& task) {
    schedule_.tasks.push_back(task);
    return static_cast<int>(schedule_.tasks.size()) - 1;
  }

  template <typename Dependencies>
  std::vector<int> each_row(Step step, int pair, Dependencies&& dependencies) {
    std::vector<int> tasks;
    for (int row = 0; row < schedule_.rows; ++row) {
      Task task{step, pair, row};
      dependencies(task, row);
      tasks.push_back(add(task));
    }
    end_of_stage();
    return tasks;
  }

  void end_of_stage() { schedule_.ends.push_back(static_cast<int>(schedule_.tasks.size())); }

  // A task that reads x of its row and of the rows above and below, and writes the other buffer of
  // x (or of its 8-bit operand), which held the attention's output before: the row below the last
  // one (row 0) must have read that. `x`: the tasks of the pair before.
  void reads_neighbours(Task& task, const std::vector<int>& x, int row) const {
    for (int r = row - 1; r <= row + 1; ++r) {
      if (r >= 0 && r < schedule_.rows) after(task, x[r]);
    }
    if (row == schedule_.rows - 1) after(task, x[0]);
  }

  // Rolled tiles of row r need q and v of rows r and r + 1 (cyclic); their output goes where the
  // pair's input was, so the LFE must have read that: rows r - 1 to r + 1. A row of project_out
  // needs the rolled rows r - 1 and r. Each step follows the one before as closely as it can, so
  // that what it reads is still in cache.
  std::vector<int> shifted_pair(int pair, const std::vector<int>& x) {
    const int rows = schedule_.rows;
    std::vector<int> lfe(rows), attention(rows), out(rows);
    const auto add_attention = [&](int row) {
      Task task{Step::attention, pair, row};
      after(task, lfe[(row + 1) % rows]);
      after(task, lfe[row]);
      if (row > 0) after(task, lfe[row - 1]);
      attention[row] = add(task);
    };
    const auto add_out = [&](int row) {
      Task task{Step::project_out, pair, row};
      after(task, attention[row]);
      after(task, attention[(row + rows - 1) % rows]);
      out[row] = add(task);
    };
    for (int row = 0; row < rows; ++row) {
      Task task{Step::lfe_project, pair, row};
      reads_neighbours(task, x, row);
      lfe[row] = add(task);
      if (row > 0) add_attention(row - 1);
      if (row > 1) add_out(row - 1);
    }
    add_attention(rows - 1);
    if (rows > 1) add_out(rows - 1);
    add_out(0);
    end_of_stage();
    return out;
  }

  Schedule schedule_;
};

}  // namespace

Schedule make_schedule(const PackedNetwork& network, int rows, int columns, int bands) {
  Schedule schedule = Builder(rows, columns).build(network);
  Builder::share_out(schedule, bands);
  return schedule;
}

}  // namespace elan::cpu
