// One picture on its way through the network: memory, and the work of each step on a tile.
#pragma once

#include <array>
#include <chrono>
#include <utility>
#include <vector>

#include "backend.h"
#include "cpu/packing.h"
#include "cpu/schedule.h"

namespace elan::cpu {

// What time is spent on; `moves` is gathering and cutting of tiles.
enum class Part : std::uint8_t {
  head,
  conv0,
  conv1,
  project_inp,
  attention,
  project_out,
  tail,
  moves
};
inline constexpr int kParts = 8;
using PartSeconds = std::array<double, kParts>;

// Memory of one picture in flight: reused by the next one, so it only grows.
class Workspace {
 public:
  // `threads` threads may call Pipeline::run_tile() at once.
  void prepare(const PackedNetwork& network, int rows, int columns, int threads);

  // Bytes that prepare() would hold.
  static std::size_t bytes(const PackedNetwork& network, int rows, int columns, int threads);

  [[nodiscard]] const Schedule& schedule() const { return schedule_; }

 private:
  friend class Pipeline;

  // Areas of a thread's scratch memory, in floats from its beginning. Areas that are never alive
  // at once share memory, so that a tile's work stays in the second-level cache.
  struct Scratch {
    std::size_t halo = 0;  // [steps][kHaloPlane]; later q and v
    std::size_t q = 0, v = 0;
    std::size_t hidden = 0;  // [hidden_rows / pack][256]; later the attention's output
    std::size_t packed = 0;  // x as operand, where FP32 values are none
    std::size_t attention = 0;
    std::size_t picture = 0;  // [3][kHaloPlane] of the head; later shuffled rows
    std::size_t size = 0;
    explicit Scratch(const PackedNetwork& network);
  };

  struct Sizes {  // of the buffers below, in elements
    std::size_t x, q, v, scratch;
    Sizes(const PackedNetwork& network, int rows, int columns, int threads);
  };

  Buffer<float> x_[2];     // [tiles][channels][256]: what a pair reads and what it writes
  Buffer<Word> q_;         // [tiles][3][group_steps][256]
  Buffer<Word> v_;         // [tiles][channels][256 / pack]
  Buffer<float> scratch_;  // [threads][Scratch::size]
  std::vector<std::int32_t> columns_of_, rows_of_;  // source of every padded column and row
  Schedule schedule_;
  std::vector<PartSeconds> seconds_;  // [threads]
};

class Pipeline {
 public:
  // All arguments must outlive the pipeline; the workspace is used by it alone. `values` are the
  // FP32 kernels, `operands` those of the network's operand type.
  Pipeline(const PackedNetwork& network, const Kernels& values, const Kernels& operands,
           Workspace& workspace, const ConstImageView& in, const ImageView& out, bool profile);

  void run_tile(const Task& task, int column, int thread);

  // Where tail tasks write from now on; returns what it was. Not while a task runs.
  ImageView set_output(const ImageView& out) { return std::exchange(out_, out); }

  // x after `pairs` pairs, planar [channels][height][width] of the padded picture.
  void copy_x(std::size_t pairs, float* planar) const;

  // Adds what the threads measured, if the pipeline profiles, to the entries of the same name.
  void add_times(std::vector<OperationTime>& profile) const;

 private:
  class Stopwatch;

  [[nodiscard]] int tile_at(int row, int column) const;  // cyclic
  [[nodiscard]] float* x(std::size_t pairs, int tile) const;
  [[nodiscard]] Word* q(int tile) const;
  [[nodiscard]] Word* v(int tile) const;
  [[nodiscard]] Word* rolled_output(int pair, int tile) const;

  void head(int row, int column, float* scratch, bool add, Stopwatch& watch);
  // Gives x + LFE(x) and its operand.
  const Word* lfe(int pair, int row, int column, float* scratch, Stopwatch& watch);
  void fused(int pair, int row, int column, float* scratch, Stopwatch& watch);
  void lfe_project(int pair, int row, int column, float* scratch, Stopwatch& watch);
  void attention(int pair, int row, int column, float* scratch, Stopwatch& watch);
  void project_out(int pair, int row, int column, float* scratch, Stopwatch& watch);
  void tail(int row, int column, float* scratch, Stopwatch& watch);
  void neighbours(std::size_t pairs, int row, int column, HaloTask& task) const;

  const PackedNetwork& network_;
  const Kernels& values_;
  const Kernels& operands_;
  Workspace& workspace_;
  const Workspace::Scratch layout_;
  ConstImageView in_;
  ImageView out_;
  bool profile_;
  int rows_, columns_;  // of tiles
};

}  // namespace elan::cpu
