#include "cpu/pipeline.h"

#include <algorithm>
#include <cstring>

#include "model/reference.h"

namespace elan::cpu {
namespace {

using Clock = std::chrono::steady_clock;

std::size_t round_up(std::size_t n) {
  return (n + 15) / 16 * 16;
}

std::size_t x_words(const PackedNetwork& n) {
  return static_cast<std::size_t>(n.arch.channels) * kTilePixels;
}
// Of q, or of an attention's output.
std::size_t group_words(const PackedNetwork& n, Operand operand) {
  return static_cast<std::size_t>(steps_of(n.group, operand)) * kTilePixels;
}
std::size_t v_words(const PackedNetwork& n, Operand operand) {
  return x_words(n) / pack_of(operand);
}

// The most that any pair needs.
template <typename Words>
std::size_t most_words(const PackedNetwork& n, Words&& words) {
  std::size_t most = 0;
  for (const PackedPair& pair : n.pairs) most = std::max<std::size_t>(most, words(pair));
  return most;
}

template <typename T>
void read_row(const std::byte* row, const std::int32_t* columns, int count, float scale,
              const float* mean, float* out) {
  const T* samples = reinterpret_cast<const T*>(row);
  for (int channel = 0; channel < 3; ++channel, out += kHaloPlane) {
    for (int i = 0; i < count; ++i) {
      out[i] = static_cast<float>(samples[3 * columns[i] + channel]) * scale - mean[channel];
    }
  }
}

}  // namespace

// Adds the time since the last call to a part; does nothing if the run is not profiled.
class Pipeline::Stopwatch {
 public:
  Stopwatch(bool on, PartSeconds& seconds) : on_(on), seconds_(seconds) {
    if (on_) last_ = Clock::now();
  }
  void lap(Part part) {
    if (!on_) return;
    const Clock::time_point now = Clock::now();
    seconds_[static_cast<std::size_t>(part)] += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

 private:
  bool on_;
  PartSeconds& seconds_;
  Clock::time_point last_;
};

Workspace::TileWords::TileWords(const PackedNetwork& n)
    : x(x_words(n)),
      q(most_words(n, [&](const PackedPair& p) { return 3 * group_words(n, p.attention); })),
      v(most_words(n, [&](const PackedPair& p) { return v_words(n, p.attention); })) {
  const std::size_t steps = static_cast<std::size_t>(steps_of(n.arch.channels, Operand::int8));
  input = std::max(steps * kTilePixels, most_words(n, [&](const PackedPair& p) {
                     const bool replaced = p.in_place() && p.shifted;
                     return replaced ? 3 * group_words(n, p.attended.operand) : 0;
                   }));
}

Workspace::Scratch::Scratch(const PackedNetwork& n) {
  const auto place = [&](std::size_t& at, std::size_t words) {
    at = size;
    size += round_up(words);
  };
  const std::size_t channels = static_cast<std::size_t>(n.arch.channels);
  const std::size_t steps =
      most_words(n, [](const PackedPair& p) { return std::size_t(p.lfe.halo_steps); });
  const TileWords tile(n);
  place(halo, std::max(std::max(steps, channels) * kHaloPlane,  // the tail's halo is FP32
                       tile.q + tile.v));
  q = halo;
  v = halo + tile.q;
  place(hidden, std::max(static_cast<std::size_t>(n.tail.outs) * kTilePixels,
                         most_words(n, [&](const PackedPair& p) {
                           return std::max(std::size_t(p.lfe.hidden_steps) * kTilePixels,
                                           3 * group_words(n, p.attended.operand));
                         })));
  const auto place_input = [&](std::size_t& at, Format PackedPair::* input) {
    place(at, most_words(n, [&](const PackedPair& p) -> std::size_t {
            const Operand operand = (p.*input).operand;
            if (operand == Operand::fp32) return 0;
            return std::size_t(steps_of(n.arch.channels, operand)) * kTilePixels;
          }));
  };
  place_input(q_input, &PackedPair::q_input);
  place_input(v_input, &PackedPair::v_input);
  place(attention, attention_scratch(n.group));
  place(picture, std::max<std::size_t>(3 * kHaloPlane, shuffle_scratch(n.arch.scale)));
}

Workspace::Sizes::Sizes(const PackedNetwork& n, int rows, int columns, int threads) {
  const std::size_t tiles = static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
  const bool shifted = std::any_of(n.pairs.begin(), n.pairs.end(),
                                   [](const PackedPair& pair) { return pair.shifted; });
  const TileWords tile(n);
  x[0] = tiles * tile.x;
  const bool in_place = std::all_of(n.pairs.begin(), n.pairs.end(),
                                    [](const PackedPair& pair) { return pair.in_place(); });
  x[1] = in_place ? 0 : x[0];
  input = n.keeps_input ? tiles * tile.input : 0;
  q = shifted || n.keeps_q ? tiles * tile.q : 0;
  v = shifted ? tiles * tile.v : 0;
  scratch = static_cast<std::size_t>(threads) * Scratch(n).size;
}

std::size_t Workspace::bytes(const PackedNetwork& network, int rows, int columns, int threads) {
  const Sizes s(network, rows, columns, threads);
  const std::size_t tasks = (network.pairs.size() * 3 + 3) * static_cast<std::size_t>(rows);
  return (s.x[0] + s.x[1] + 2 * s.input + s.q + s.v + s.scratch) * sizeof(float) +
         tasks * (sizeof(Task) + 3 * sizeof(Segment) + 8) +
         static_cast<std::size_t>(rows + columns) * kTile * sizeof(std::int32_t);
}

void Workspace::prepare(const PackedNetwork& network, int rows, int columns, int threads) {
  const Sizes s(network, rows, columns, threads);
  for (int i = 0; i < 2; ++i) x_[i].reserve(s.x[i]);
  for (Buffer<Word>& input : input_) input.reserve(s.input);
  q_.reserve(s.q);
  v_.reserve(s.v);
  scratch_.reserve(s.scratch);
  if (schedule_.rows != rows || schedule_.columns != columns) {
    schedule_ = make_schedule(network, rows, columns, threads);
  }
  seconds_.assign(static_cast<std::size_t>(threads), PartSeconds{});
}

Pipeline::Pipeline(const PackedNetwork& network, const Kernels& kernels, Workspace& workspace,
                   const ConstImageView& in, const ImageView& out, bool profile)
    : network_(network),
      kernels_(kernels),
      workspace_(workspace),
      layout_(network),
      words_(network),
      in_(in),
      out_(out),
      profile_(profile),
      rows_(workspace.schedule_.rows),
      columns_(workspace.schedule_.columns) {
  workspace.columns_of_.resize(static_cast<std::size_t>(columns_) * kTile);
  workspace.rows_of_.resize(static_cast<std::size_t>(rows_) * kTile);
  for (int i = 0; i < columns_ * kTile; ++i) workspace.columns_of_[i] = reflect(i, in.width);
  for (int i = 0; i < rows_ * kTile; ++i) workspace.rows_of_[i] = reflect(i, in.height);
}

int Pipeline::tile_at(int row, int column) const {
  return (row + rows_) % rows_ * columns_ + (column + columns_) % columns_;
}

float* Pipeline::x(std::size_t pairs, int tile) const {
  return workspace_.x_[network_.x_buffer[pairs]].data() + static_cast<std::size_t>(tile) * words_.x;
}

Word* Pipeline::input(std::size_t pairs, int tile) const {
  return workspace_.input_[pairs % 2].data() + static_cast<std::size_t>(tile) * words_.input;
}

Word* Pipeline::q(int tile) const {
  return workspace_.q_.data() + static_cast<std::size_t>(tile) * words_.q;
}

Word* Pipeline::v(int tile) const {
  return workspace_.v_.data() + static_cast<std::size_t>(tile) * words_.v;
}

// The attention's output of a shifted pair replaces the pair's input.
Word* Pipeline::rolled_output(int pair, int tile) const {
  const std::size_t pairs = static_cast<std::size_t>(pair);
  return network_.pairs[pairs].in_place() ? input(pairs, tile) : x(pairs, tile);
}

void Pipeline::run_tile(const Task& task, int column, int thread) {
  float* scratch = workspace_.scratch_.data() + static_cast<std::size_t>(thread) * layout_.size;
  Stopwatch watch(profile_, workspace_.seconds_[static_cast<std::size_t>(thread)]);
  switch (task.step) {
    case Step::head:
      return head(task.row, column, scratch, false, watch);
    case Step::fused:
      return fused(task.pair, task.row, column, scratch, watch);
    case Step::lfe_project:
      return lfe_project(task.pair, task.row, column, scratch, watch);
    case Step::attention:
      return attention(task.pair, task.row, column, scratch, watch);
    case Step::project_out:
      return project_out(task.pair, task.row, column, scratch, watch);
    case Step::add_head:
      return head(task.row, column, scratch, true, watch);
    case Step::tail:
      return tail(task.row, column, scratch, watch);
  }
}

void Pipeline::head(int row, int column, float* scratch, bool add, Stopwatch& watch) {
  float* picture = scratch + layout_.picture;
  std::fill_n(picture, 3 * kHaloPlane, 0.0f);
  const int first = std::max(0, column * kTile - 1);
  const int last = std::min(columns_ * kTile, (column + 1) * kTile + 1);
  const std::int32_t* columns = workspace_.columns_of_.data() + first;
  for (int y = -1; y <= kTile; ++y) {
    const int from = row * kTile + y;
    if (from < 0 || from >= rows_ * kTile) continue;
    const std::byte* line =
        in_.data + static_cast<std::size_t>(workspace_.rows_of_[from]) * in_.row_bytes;
    float* out = picture + kHaloOrigin + y * kHaloStride + first - column * kTile;
    const float* mean = network_.mean.data();
    switch (in_.type) {
      case SampleType::u8:
        read_row<std::uint8_t>(line, columns, last - first, 1.0f, mean, out);
        break;
      case SampleType::u16:
        read_row<std::uint16_t>(line, columns, last - first, 1.0f / 257, mean, out);
        break;
      case SampleType::f32:
        read_row<float>(line, columns, last - first, 1.0f, mean, out);
        break;
    }
  }
  ProductTask product;
  product.weights = &network_.head;
  product.in = picture + kHaloOrigin;
  product.in_stride = kHaloStride;
  product.store = add ? Store::residual : Store::values;
  const int tile = tile_at(row, column);
  product.values = x(add ? network_.pairs.size() : 0, tile);
  product.residual = product.values;
  if (!add) store_input(0, tile, product);
  kernels_.product(product);
  watch.lap(Part::head);
}

void Pipeline::store_input(std::size_t pairs, int tile, ProductTask& product) const {
  const Format* format = network_.stored_input(pairs);
  if (format == nullptr) return;
  product.operand = input(pairs, tile);
  product.format = *format;
}

void Pipeline::neighbours(std::size_t pairs, int row, int column, HaloTask& task) const {
  for (int i = 0; i < 9; ++i) {
    const int r = row + i / 3 - 1, c = column + i % 3 - 1;
    const bool inside = r >= 0 && r < rows_ && c >= 0 && c < columns_;
    const int tile = r * columns_ + c;
    task.x[i] = !inside                         ? nullptr
                : task.operand == Operand::int8 ? input(pairs, tile)
                                                : x(pairs, tile);
  }
}

void Pipeline::lfe(int pair, int row, int column, float* scratch, Stopwatch& watch) {
  const PackedPair& weights = network_.pairs[pair];
  const PackedLfe& lfe = weights.lfe;
  const std::size_t pairs = static_cast<std::size_t>(pair);
  const int tile = tile_at(row, column);

  HaloTask halo;
  halo.operand = lfe.input.operand;
  neighbours(pairs, row, column, halo);
  halo.channels = lfe.channels.data();
  halo.steps = lfe.halo_steps;
  halo.out = scratch + layout_.halo;
  kernels_.halo(halo);
  watch.lap(Part::moves);

  const std::size_t hidden = std::size_t(lfe.hidden_steps) * pack_of(lfe.hidden.operand);
  for (const HiddenGroup& group : lfe.groups) {
    ProductTask product;
    const int pack = pack_of(lfe.hidden.operand);
    Word* out = scratch + layout_.hidden + group.first_row / pack * kTilePixels;
    product.weights = &group.conv0;
    product.in = halo.out + kHaloOrigin + group.dy * kHaloStride + group.dx;
    product.in_stride = kHaloStride;
    product.store = Store::operand_relu;
    product.operand = out;
    product.format = lfe.hidden;
    if (weights.in_place()) {  // nothing has read the tile that conv1 changes
      const auto words_before = [&](int hidden_row) { return words_.x * hidden_row / hidden; };
      const std::size_t from = words_before(group.first_row);
      product.ahead = x(pairs, tile) + from;
      product.ahead_words = words_before(group.first_row + group.conv0.outs) - from;
    }
    kernels_.product(product);
    // conv1 sees zeros outside the picture.
    const int planes = group.conv0.outs / pack;
    const bool no_row = row + group.dy < 0 || (row + 1) * kTile + group.dy > rows_ * kTile;
    const bool no_column =
        column + group.dx < 0 || (column + 1) * kTile + group.dx > columns_ * kTile;
    const bool edge_row = group.dy != 0 && no_row;
    const bool edge_column = group.dx != 0 && no_column;
    for (int plane = 0; (edge_row || edge_column) && plane < planes; ++plane) {
      Word* p = out + plane * kTilePixels;
      if (edge_row) std::fill_n(p + (group.dy < 0 ? 0 : kTilePixels - kTile), kTile, lfe.zero);
      for (int y = 0; edge_column && y < kTile; ++y) {
        p[y * kTile + (group.dx < 0 ? 0 : kTile - 1)] = lfe.zero;
      }
    }
  }
  watch.lap(Part::conv0);

  ProductTask product;
  product.weights = &lfe.conv1;
  product.in = scratch + layout_.hidden;
  product.in_stride = kTile;
  product.store = Store::residual;
  product.residual = x(pairs, tile);
  product.values = x(pairs + 1, tile);
  const bool packs = weights.v_input.operand != Operand::fp32;
  product.operand = packs ? scratch + layout_.v_input : nullptr;
  product.format = weights.v_input;
  kernels_.product(product);
  watch.lap(Part::conv1);
}

void Pipeline::project(int pair, int tile, float* scratch, Word* queries, Word* values,
                       Stopwatch& watch) {
  const PackedPair& weights = network_.pairs[pair];
  const float* x = this->x(static_cast<std::size_t>(pair) + 1, tile);
  const Word* v_input = weights.v_input.operand == Operand::fp32 ? x : scratch + layout_.v_input;
  ProductTask product;
  product.format = {weights.attention, 1};
  if (weights.computes_attention) {
    product.in = v_input;
    if (weights.q_input.operand == Operand::fp32) {
      product.in = x;
    } else if (weights.q_input != weights.v_input) {
      Word* packed = scratch + layout_.q_input;
      kernels_.pack({x, network_.arch.channels, packed, weights.q_input});
      product.in = packed;
    }
    product.weights = &weights.q;
    product.store = Store::operand;
    product.operand = queries;
    kernels_.product(product);
  }
  product.in = v_input;
  product.weights = &weights.v;
  product.store = Store::keys;
  product.operand = values;
  kernels_.product(product);
  watch.lap(Part::project_inp);
}

void Pipeline::finish_pair(int pair, int tile, const Word* attended, Stopwatch& watch) {
  const std::size_t pairs = static_cast<std::size_t>(pair) + 1;
  ProductTask product;
  product.weights = &network_.pairs[pair].project_out;
  product.in = attended;
  product.store = Store::residual;
  product.values = x(pairs, tile);
  product.residual = product.values;
  store_input(pairs, tile, product);
  kernels_.product(product);
  watch.lap(Part::project_out);
}

void Pipeline::fused(int pair, int row, int column, float* scratch, Stopwatch& watch) {
  const PackedPair& weights = network_.pairs[pair];
  const int tile = tile_at(row, column);
  lfe(pair, row, column, scratch, watch);
  Word* queries = network_.keeps_q ? q(tile) : scratch + layout_.q;
  Word* values = scratch + layout_.v;
  project(pair, tile, scratch, queries, values, watch);

  Word* out = scratch + layout_.hidden;
  AttentionTask task;
  task.operand = weights.attention;
  task.format = weights.attended;
  task.channels = network_.group;
  task.scratch = scratch + layout_.attention;
  for (int g = 0; g < 3; ++g) {
    task.q = queries + g * group_words(network_, task.operand);
    task.v = values + g * v_words(network_, task.operand) / 3;
    task.out = out + g * group_words(network_, task.format.operand);
    task.window = network_.arch.windows[g];
    task.octaves = weights.octaves[g];
    task.v_scale = weights.v_scale[g];
    kernels_.attention(task);
  }
  watch.lap(Part::attention);
  finish_pair(pair, tile, out, watch);
}

void Pipeline::lfe_project(int pair, int row, int column, float* scratch, Stopwatch& watch) {
  const int tile = tile_at(row, column);
  lfe(pair, row, column, scratch, watch);
  project(pair, tile, scratch, q(tile), v(tile), watch);
}

void Pipeline::attention(int pair, int row, int column, float* scratch, Stopwatch& watch) {
  const PackedPair& weights = network_.pairs[pair];
  const int from[4] = {tile_at(row, column), tile_at(row, column + 1), tile_at(row + 1, column),
                       tile_at(row + 1, column + 1)};
  AttentionTask task;
  task.operand = weights.attention;
  task.format = weights.attended;
  task.channels = network_.group;
  task.scratch = scratch + layout_.attention;
  task.q = scratch + layout_.q;
  task.v = scratch + layout_.v;
  for (int g = 0; g < 3; ++g) {
    RollTask roll;
    roll.roll = network_.arch.windows[g] / 2;
    roll.planes = steps_of(network_.group, task.operand);
    roll.out = scratch + layout_.q;
    for (int i = 0; i < 4; ++i) roll.from[i] = q(from[i]) + g * group_words(network_, task.operand);
    kernels_.roll(roll);
    roll.planes = network_.group;
    roll.pixels_per_word = pack_of(task.operand);
    roll.out = scratch + layout_.v;
    for (int i = 0; i < 4; ++i) roll.from[i] = v(from[i]) + g * v_words(network_, task.operand) / 3;
    kernels_.roll(roll);
    watch.lap(Part::moves);

    task.out = rolled_output(pair, from[0]) + g * group_words(network_, task.format.operand);
    task.window = network_.arch.windows[g];
    task.octaves = weights.octaves[g];
    task.v_scale = weights.v_scale[g];
    kernels_.attention(task);
    watch.lap(Part::attention);
  }
}

void Pipeline::project_out(int pair, int row, int column, float* scratch, Stopwatch& watch) {
  const int from[4] = {tile_at(row - 1, column - 1), tile_at(row - 1, column),
                       tile_at(row, column - 1), tile_at(row, column)};
  const Operand operand = network_.pairs[pair].attended.operand;
  Word* in = scratch + layout_.hidden;
  for (int g = 0; g < 3; ++g) {
    RollTask roll;
    roll.roll = kTile - network_.arch.windows[g] / 2;
    roll.planes = steps_of(network_.group, operand);
    roll.out = in + g * group_words(network_, operand);
    for (int i = 0; i < 4; ++i) {
      roll.from[i] = rolled_output(pair, from[i]) + g * group_words(network_, operand);
    }
    kernels_.roll(roll);
  }
  watch.lap(Part::moves);
  finish_pair(pair, from[3], in, watch);
}

void Pipeline::tail(int row, int column, float* scratch, Stopwatch& watch) {
  // Tiles of pure padding give no output.
  const int scale = network_.arch.scale;
  const int left = column * kTile * scale, top = row * kTile * scale;
  const int width = std::min(kTile * scale, out_.width - left);
  const int height = std::min(kTile * scale, out_.height - top);
  if (width <= 0 || height <= 0) return;

  HaloTask halo;
  neighbours(network_.pairs.size(), row, column, halo);
  halo.channels = network_.channel_order.data();
  halo.steps = network_.arch.channels;
  halo.out = scratch + layout_.halo;
  kernels_.halo(halo);

  ProductTask product;
  product.weights = &network_.tail;
  product.in = halo.out + kHaloOrigin;
  product.in_stride = kHaloStride;
  product.store = Store::values;
  product.values = scratch + layout_.hidden;
  kernels_.product(product);

  ShuffleTask shuffle;
  shuffle.y = product.values;
  shuffle.scale = scale;
  shuffle.mean = network_.mean.data();
  shuffle.out = out_.crop(left, top, width, height);
  shuffle.scratch = scratch + layout_.picture;
  kernels_.shuffle(shuffle);
  watch.lap(Part::tail);
}

void Pipeline::copy_x(std::size_t pairs, float* planar) const {
  for (int c = 0; c < network_.arch.channels; ++c) {
    for (int y = 0; y < rows_ * kTile; ++y) {
      for (int column = 0; column < columns_; ++column, planar += kTile) {
        std::memcpy(planar,
                    x(pairs, y / kTile * columns_ + column) + c * kTilePixels + y % kTile * kTile,
                    kTile * sizeof(float));
      }
    }
  }
}

void Pipeline::add_times(std::vector<OperationTime>& profile) const {
  static constexpr const char* kNames[kParts] = {"head",      "conv0",       "conv1", "project_inp",
                                                 "attention", "project_out", "tail",  "moves"};
  double flop[kParts] = {};
  const auto add = [&](Part part, double multiply_adds) {
    flop[static_cast<std::size_t>(part)] += 2.0 * kTilePixels * rows_ * columns_ * multiply_adds;
  };
  const double c = network_.arch.channels;
  add(Part::head, 27 * c);
  add(Part::tail, 9 * c * network_.tail.outs);
  for (const PackedPair& pair : network_.pairs) {
    add(Part::conv0, c * c * network_.arch.expand);
    add(Part::conv1, c * c * network_.arch.expand);
    add(Part::project_inp, c * c * (pair.computes_attention ? 2 : 1));
    add(Part::project_out, c * c);
    for (const int window : network_.arch.windows) {
      add(Part::attention, c / 3 * window * window * (pair.computes_attention ? 2 : 1));
    }
  }
  for (int part = 0; part < kParts; ++part) {
    auto entry = std::find_if(profile.begin(), profile.end(), [&](const OperationTime& time) {
      return time.operation == kNames[part];
    });
    if (entry == profile.end()) entry = profile.insert(entry, {kNames[part], 0, 0, 0});
    entry->flop += flop[part];
    for (const PartSeconds& seconds : workspace_.seconds_) entry->seconds += seconds[part];
  }
}

}  // namespace elan::cpu
