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

  // Words of one tile in the buffers below: the most that any pair needs.
  struct TileWords {
    std::size_t x, q, v;
    std::size_t input;  // of x in 8 bits, which a shifted pair replaces by its attention's output
    explicit TileWords(const PackedNetwork& network);
  };

  // Areas of a thread's scratch memory, in floats from its beginning. Areas that are never alive
  // at once share memory, so that a tile's work stays in the second-level cache.
  struct Scratch {
    std::size_t halo = 0;  // [steps][kHaloPlane]; later q and v
    std::size_t q = 0, v = 0;
    std::size_t hidden = 0;                // [steps][256]; later the attention's output
    std::size_t q_input = 0, v_input = 0;  // x as operand of project_inp, where not FP32
    std::size_t attention = 0;
    std::size_t picture = 0;  // [3][kHaloPlane] of the head; later shuffled rows
    std::size_t size = 0;
    explicit Scratch(const PackedNetwork& network);
  };

  struct Sizes {  // of the buffers below, in elements
    std::size_t x[2], input, q, v, scratch;
    Sizes(const PackedNetwork& network, int rows, int columns, int threads);
  };

  // [tiles][channels][256]: what a pair reads and what it writes, unless that is the same place
  Buffer<float> x_[2];
  Buffer<Word> input_[2];  // [tiles][steps][256]: x in 8 bits, where conv0 reads those
  Buffer<Word> q_;         // [tiles][3][steps][256]
  Buffer<Word> v_;         // [tiles][channels][256 / pack]
  Buffer<float> scratch_;  // [threads][Scratch::size]
  std::vector<std::int32_t> columns_of_, rows_of_;  // source of every padded column and row
  Schedule schedule_;
  std::vector<PartSeconds> seconds_;  // [threads]
};

class Pipeline {
 public:
  // All arguments must outlive the pipeline; the workspace is used by it alone.
  Pipeline(const PackedNetwork& network, const Kernels& kernels, Workspace& workspace,
           const ConstImageView& in, const ImageView& out, bool profile);

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
  [[nodiscard]] Word* input(std::size_t pairs, int tile) const;
  [[nodiscard]] Word* q(int tile) const;
  [[nodiscard]] Word* v(int tile) const;
  [[nodiscard]] Word* rolled_output(int pair, int tile) const;

  void head(int row, int column, float* scratch, bool add, Stopwatch& watch);
  void lfe(int pair, int row, int column, float* scratch, Stopwatch& watch);
  // q and v of x + LFE(x).
  void project(int pair, int tile, float* scratch, Word* queries, Word* values, Stopwatch& watch);
  void fused(int pair, int row, int column, float* scratch, Stopwatch& watch);
  void lfe_project(int pair, int row, int column, float* scratch, Stopwatch& watch);
  void attention(int pair, int row, int column, float* scratch, Stopwatch& watch);
  void project_out(int pair, int row, int column, float* scratch, Stopwatch& watch);
  void tail(int row, int column, float* scratch, Stopwatch& watch);
  // Adds project_out(attended) to x.
  void finish_pair(int pair, int tile, const Word* attended, Stopwatch& watch);
  // What x or its operand after `pairs` pairs is at a tile and around it.
  void neighbours(std::size_t pairs, int row, int column, HaloTask& task) const;
  // Asks a product that gives x after `pairs` pairs for the operand that is to be stored with it.
  void store_input(std::size_t pairs, int tile, ProductTask& product) const;

  const PackedNetwork& network_;
  const Kernels& kernels_;
  Workspace& workspace_;
  const Workspace::Scratch layout_;
  const Workspace::TileWords words_;
  ConstImageView in_;
  ImageView out_;
  bool profile_;
  int rows_, columns_;  // of tiles
};

}  // namespace elan::cpu
