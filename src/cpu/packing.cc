#include "cpu/packing.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>
#include <numeric>
#include <string>

#include "elan/error.h"
#include "model/stages.h"

namespace elan::cpu {
namespace {

constexpr int kNone = -1;  // a row or column of zeros

std::uint32_t bf16_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

// Outputs to a register block: as many as there are registers for, preferably without a rest. What
// is or becomes 8-bit goes word by word.
int block_size(int outs, Operand in, Operand out) {
  if (in == Operand::int8 || out == Operand::int8) return 4;
  if (outs % 6 == 0) return 6;
  if (outs % 5 == 0 && in != Operand::bf16 && out != Operand::bf16) return 5;
  if (outs % 4 == 0) return 4;
  return 6;
}

// A matrix in floating point, or in 8 bits; results are multiplied by `factor` and divided by
// `divisor`.
struct Source {
  const float* weight = nullptr;  // [rows][in]
  const float* bias = nullptr;    // [rows]
  int in = 0;
  const QuantizedMatrix* int8 = nullptr;
  double factor = 1, divisor = 1;
  std::vector<float> row_divisors = {};  // [rows], beside `divisor`; empty: 1
};

class MatrixPacker {
 public:
  MatrixPacker(const Source& source, Operand operand, const Kernels& kernels)
      : source_(source), operand_(operand), zero_byte_(kernels.zero_byte) {}

  // `rows` and `columns` say which of the source go where; columns.size() = offsets.size() * pack.
  // `out`: the operand that results become, if any.
  [[nodiscard]] PackedMatrix pack(const std::vector<int>& rows, const std::vector<int>& columns,
                                  const std::vector<int>& offsets, Operand out) const {
    PackedMatrix m;
    m.operand = operand_;
    m.outs = static_cast<int>(rows.size());
    m.steps = static_cast<int>(offsets.size());
    m.block = block_size(m.outs, operand_, out);
    m.word_memory.reserve(rows.size() * offsets.size());
    m.words = m.word_memory.data();
    m.offset_memory.reserve(offsets.size());
    m.offsets = m.offset_memory.data();
    std::copy(offsets.begin(), offsets.end(), m.offset_memory.data());
    const int pack = pack_of(operand_);
    Word* word = m.word_memory.data();
    for (int first = 0; first < m.outs; first += m.block) {
      const int last = std::min(m.outs, first + m.block);
      for (int step = 0; step < m.steps; ++step) {
        for (int r = first; r < last; ++r) *word++ = word_of(rows[r], &columns[step * pack]);
      }
    }
    m.bias_memory.reserve(rows.size());
    m.bias = m.bias_memory.data();
    for (int r = 0; r < m.outs; ++r) m.bias_memory[r] = bias(rows[r]);
    if (operand_ == Operand::int8) add_scales(m, rows, columns);
    return m;
  }

 private:
  [[nodiscard]] float value(int row, int column) const {
    if (row == kNone || column == kNone) return 0;
    const float value = source_.weight[static_cast<std::size_t>(row) * source_.in + column] *
                        static_cast<float>(source_.factor);
    return source_.row_divisors.empty() ? value : value / source_.row_divisors[row];
  }
  [[nodiscard]] double divisor(int row) const {
    return source_.divisor * (source_.row_divisors.empty() ? 1 : source_.row_divisors[row]);
  }
  [[nodiscard]] std::int8_t byte(int row, int column) const {
    if (row == kNone || column == kNone) return 0;
    return source_.int8->weight[static_cast<std::size_t>(row) * source_.in + column];
  }

  [[nodiscard]] Word word_of(int row, const int* columns) const {
    switch (operand_) {
      case Operand::fp32:
        return value(row, columns[0]);
      case Operand::bf16_emulated:
        return std::bit_cast<float>(bf16_bits(value(row, columns[0])) << 16);
      case Operand::bf16:
        return std::bit_cast<float>(bf16_bits(value(row, columns[0])) |
                                    bf16_bits(value(row, columns[1])) << 16);
      case Operand::int8:
        break;
    }
    std::uint32_t bits = 0;
    for (int i = 0; i < 4; ++i) {
      bits |= std::uint32_t{static_cast<std::uint8_t>(byte(row, columns[i]))} << (8 * i);
    }
    return std::bit_cast<float>(bits);
  }

  [[nodiscard]] float bias(int row) const {
    if (row == kNone) return 0;
    return static_cast<float>(double{source_.bias[row]} * source_.factor / divisor(row));
  }

  void add_scales(PackedMatrix& m, const std::vector<int>& rows,
                  const std::vector<int>& columns) const {
    m.scale_memory.reserve(rows.size());
    m.scale = m.scale_memory.data();
    m.start_memory.reserve(rows.size());
    m.start = m.start_memory.data();
    for (int r = 0; r < m.outs; ++r) {
      const int row = rows[r];
      const QuantizedMatrix& q = *source_.int8;
      m.scale_memory[r] = row == kNone
                              ? 0.0f
                              : static_cast<float>(double{q.input_scale} * q.weight_scale[row] *
                                                   source_.factor / divisor(row));
      int sum = 0;
      for (const int column : columns) sum += byte(row, column);
      m.start_memory[r] = -sum * zero_byte_;
    }
  }

  Source source_;
  Operand operand_;
  int zero_byte_;
};

std::vector<int> iota(int count, int first = 0) {
  std::vector<int> v(count);
  std::iota(v.begin(), v.end(), first);
  return v;
}

std::vector<int> multiples(int count, int step) {
  std::vector<int> v(count);
  for (int i = 0; i < count; ++i) v[i] = i * step;
  return v;
}

void pad_to(std::vector<int>& v, int multiple) {
  while (v.size() % multiple != 0) v.push_back(kNone);
}

// The channels of each tap in turn, each tap's filled up to whole words.
struct SortedChannels {
  struct Tap {
    int dy, dx;
    std::size_t first, last;  // of `channels`
  };
  std::vector<int> channels;
  std::vector<Tap> taps;
};

SortedChannels sort_by_tap(const std::vector<std::uint8_t>& taps, int pack) {
  SortedChannels sorted;
  for (int tap = 0; tap < 9; ++tap) {
    const std::size_t first = sorted.channels.size();
    for (std::size_t c = 0; c < taps.size(); ++c) {
      if (taps[c] == tap) sorted.channels.push_back(static_cast<int>(c));
    }
    if (sorted.channels.size() == first) continue;
    pad_to(sorted.channels, pack);
    sorted.taps.push_back({tap / 3 - 1, tap % 3 - 1, first, sorted.channels.size()});
  }
  return sorted;
}

// Which channels conv0 multiplies in each step, and where it finds them.
struct HaloSteps {
  std::vector<int> columns, offsets;

  // Gathered in the order of their taps.
  explicit HaloSteps(const SortedChannels& sorted, int pack) : columns(sorted.channels) {
    for (const SortedChannels::Tap& tap : sorted.taps) {
      for (std::size_t c = tap.first; c < tap.last; c += pack) {
        add_offset(static_cast<int>(c) / pack, tap.dy, tap.dx);
      }
    }
  }

  // Words of four channels in order: a step for every tap that occurs in a word.
  explicit HaloSteps(const std::vector<std::uint8_t>& taps) {
    const int channels = static_cast<int>(taps.size());
    for (int first = 0; first < channels; first += 4) {
      for (int tap = 0; tap < 9; ++tap) {
        const auto has_tap = [&](int c) { return c < channels && taps[c] == tap; };
        if (!has_tap(first) && !has_tap(first + 1) && !has_tap(first + 2) && !has_tap(first + 3)) {
          continue;
        }
        for (int c = first; c < first + 4; ++c) columns.push_back(has_tap(c) ? c : kNone);
        add_offset(first / 4, tap / 3 - 1, tap % 3 - 1);
      }
    }
  }

 private:
  void add_offset(int word, int dy, int dx) {
    offsets.push_back(word * kHaloPlane + dy * kHaloStride + dx);
  }
};

const QuantizedMatrix* pointer(const std::optional<QuantizedMatrix>& matrix) {
  return matrix ? &*matrix : nullptr;
}

// What the operations of a network run as.
class Operands {
 public:
  Operands(const Network& network, const PrecisionPlan& plan, const Kernels& kernels)
      : network_(network), plan_(plan), kernels_(kernels) {}

  // Of a matrix that may have 8 bits.
  [[nodiscard]] Operand of(const std::string& operation,
                           const std::optional<QuantizedMatrix>& matrix) const {
    if (plan_.at(operation) != Precision::int8) return of(operation);
    return matrix ? Operand::int8 : without_int8();
  }

  // What the parts of an attention agree on; `pairs` share one q.
  [[nodiscard]] Operand of_attention(int elab) const {
    if (int8_attention(elab)) return Operand::int8;
    Operand operand = of(gmsa_stage(elab, 0) + ".qk");
    for (int pair = 0; pair < network_.arch.pairs; ++pair) {
      if (operand != Operand::fp32) operand = of(gmsa_stage(elab, pair) + ".av");
    }
    return operand;
  }

 private:
  // Whether the plan wants 8 bits of all parts of an attention that has scales for it.
  [[nodiscard]] bool int8_attention(int elab) const {
    bool all = network_.arch.channels / 3 <= kMostInt8Channels &&
               plan_.at(gmsa_stage(elab, 0) + ".qk") == Precision::int8;
    for (int pair = 0; pair < network_.arch.pairs; ++pair) {
      all = all && network_.body[elab].gmsa[pair].int8_attention &&
            plan_.at(gmsa_stage(elab, pair) + ".av") == Precision::int8;
    }
    return all;
  }
  [[nodiscard]] Operand of(const std::string& operation) const {
    switch (plan_.at(operation)) {
      case Precision::bf16:
        return kernels_.half;
      case Precision::int8:
        return without_int8();
      default:
        return Operand::fp32;
    }
  }
  [[nodiscard]] Operand without_int8() const {
    return kernels_.half == Operand::bf16 ? Operand::bf16 : Operand::fp32;
  }

  const Network& network_;
  const PrecisionPlan& plan_;
  const Kernels& kernels_;
};

Format format(Operand operand, const QuantizedMatrix* matrix) {
  if (operand != Operand::int8) return {operand, 1};
  return {operand, static_cast<float>(1 / double{matrix->input_scale})};
}

Source source_of(const ShiftConv& conv) {
  return {conv.weight.data(), conv.bias.data(), conv.in, pointer(conv.int8)};
}

PackedLfe pack_lfe(const Lfe& lfe, Operand in, Operand hidden, const Kernels& kernels) {
  const int pack = pack_of(in), hidden_pack = pack_of(hidden);
  const SortedChannels sorted = sort_by_tap(lfe.conv0.taps, pack);
  const SortedChannels rows = sort_by_tap(lfe.conv1.taps, hidden_pack);
  const bool stored = in == Operand::int8;
  const HaloSteps steps = stored ? HaloSteps(lfe.conv0.taps) : HaloSteps(sorted, pack);

  PackedLfe packed;
  packed.input = format(in, pointer(lfe.conv0.int8));
  packed.hidden = format(hidden, pointer(lfe.conv1.int8));
  packed.zero = zero_word(kernels, hidden);
  if (stored) {
    packed.halo_steps = steps_of(lfe.conv0.in, in);
  } else {
    packed.halo_steps = static_cast<int>(sorted.channels.size()) / pack;
    packed.channels.reserve(sorted.channels.size());
    std::copy(sorted.channels.begin(), sorted.channels.end(), packed.channels.data());
  }
  Source conv0 = source_of(lfe.conv0);
  if (stored && hidden == Operand::int8) {  // the scale of conv1's input is folded into conv0's
    conv0.divisor = lfe.conv1.int8->input_scale;
    packed.hidden.inverse = 1;
  }
  const MatrixPacker packer(conv0, in, kernels);
  for (const SortedChannels::Tap& tap : rows.taps) {
    const std::vector<int> group(rows.channels.begin() + tap.first,
                                 rows.channels.begin() + tap.last);
    packed.groups.push_back({packer.pack(group, steps.columns, steps.offsets, hidden), tap.dy,
                             tap.dx, static_cast<int>(tap.first)});
  }
  packed.hidden_steps = static_cast<int>(rows.channels.size()) / hidden_pack;
  return packed;
}

void pack_conv1(const ShiftConv& conv1, const Format& stored, const Kernels& kernels,
                PackedLfe& packed) {
  const Operand operand = packed.hidden.operand;
  packed.conv1 = MatrixPacker(source_of(conv1), operand, kernels)
                     .pack(iota(conv1.out), sort_by_tap(conv1.taps, pack_of(operand)).channels,
                           multiples(packed.hidden_steps, kTilePixels), stored.operand);
}

// Rows of each of the three groups of `inp`, from `first` of a group's `stride` on.
Linear rows_of_groups(const Linear& inp, int group, int first, int stride) {
  Linear rows{inp.in, 3 * group, {}, {}};
  for (int g = 0; g < 3; ++g) {
    const auto begin = static_cast<std::ptrdiff_t>(g) * stride + first, end = begin + group;
    rows.weight.insert(rows.weight.end(), inp.weight.begin() + begin * inp.in,
                       inp.weight.begin() + end * inp.in);
    rows.bias.insert(rows.bias.end(), inp.bias.begin() + begin, inp.bias.begin() + end);
  }
  return rows;
}

// 0, 1, .. of each group in turn, filled up to whole words.
std::vector<int> padded_groups(int group, int pack) {
  std::vector<int> channels;
  for (int g = 0; g < 3; ++g) {
    for (const int channel : iota(group, g * group)) channels.push_back(channel);
    pad_to(channels, pack);
  }
  return channels;
}

PackedMatrix pack_projection(const Linear& linear, const std::optional<QuantizedMatrix>& int8,
                             Operand operand, double factor, std::vector<float> divisors,
                             const std::vector<int>& rows, Operand out, const Kernels& kernels) {
  std::vector<int> columns = iota(linear.in);
  pad_to(columns, pack_of(operand));
  Source source{linear.weight.data(), linear.bias.data(), linear.in, pointer(int8)};
  source.factor = factor;
  source.row_divisors = std::move(divisors);
  return MatrixPacker(source, operand, kernels)
      .pack(rows, columns, multiples(steps_of(linear.in, operand), kTilePixels), out);
}

void pack_gmsa(const Gmsa& gmsa, const Kernels& kernels, PackedPair& pair, const Format& next) {
  const Linear inp = gmsa.folded_project_inp();
  const int group = gmsa.project_out.in / 3;
  pair.computes_attention = gmsa.computes_attention;
  const int stride = gmsa.computes_attention ? 2 * group : group;
  const bool int8 = pair.attention == Operand::int8;
  const auto by_row = [&](std::array<float, 3> QuantizedAttention::* scale) {
    std::vector<float> scales;
    for (int row = 0; int8 && row < 3 * group; ++row) {
      scales.push_back(((*gmsa.int8_attention).*scale)[row / group]);
    }
    return scales;
  };
  pair.v = pack_projection(rows_of_groups(inp, group, stride - group, stride), gmsa.int8_v,
                           pair.v_input.operand, 1, by_row(&QuantizedAttention::v_scale),
                           iota(3 * group), pair.attention, kernels);
  if (gmsa.computes_attention) {
    pair.q =
        pack_projection(rows_of_groups(inp, group, 0, stride), gmsa.int8_q, pair.q_input.operand,
                        int8 ? 1 : std::sqrt(std::numbers::log2e * score_scale(pair.attention)),
                        by_row(&QuantizedAttention::q_scale),
                        padded_groups(group, pack_of(pair.attention)), pair.attention, kernels);
  }
  const Linear& out = gmsa.project_out;
  const Operand operand = pair.attended.operand;
  pair.project_out =
      MatrixPacker({out.weight.data(), out.bias.data(), out.in, pointer(gmsa.int8_out)}, operand,
                   kernels)
          .pack(iota(out.out), padded_groups(group, pack_of(operand)),
                multiples(3 * steps_of(group, operand), kTilePixels), next.operand);
}

PackedMatrix pack_conv3x3(const Conv3x3& conv, const Format& next, const Kernels& kernels) {
  std::vector<int> offsets;
  for (int c = 0; c < conv.in; ++c) {
    for (int k = 0; k < 9; ++k) {
      offsets.push_back(c * kHaloPlane + (k / 3 - 1) * kHaloStride + k % 3 - 1);
    }
  }
  return MatrixPacker({conv.weight.data(), conv.bias.data(), conv.in * 9}, Operand::fp32, kernels)
      .pack(iota(conv.out), iota(conv.in * 9), offsets, next.operand);
}

void check(const Network& network, const PrecisionPlan& plan) {
  check_able(plan, network.arch, "cpu", [](std::string_view operation) {
    return operation == "residual" ? std::vector{Precision::fp32}
                                   : std::vector{Precision::fp32, Precision::bf16, Precision::int8};
  });
  if (network.quantized()) return;
  for (const std::string& operation : operation_names(network.arch)) {
    if (plan.at(operation) != Precision::int8) continue;
    throw Error(ErrorKind::usage, "device cpu: " + operation +
                                      ": int8 needs a model with 8-bit weights, found none in it");
  }
}

}  // namespace

bool PackedNetwork::emulates_bf16() const {
  return std::any_of(pairs.begin(), pairs.end(), [](const PackedPair& pair) {
    const Operand operands[] = {pair.lfe.input.operand, pair.lfe.hidden.operand,
                                pair.q_input.operand,   pair.v_input.operand,
                                pair.attended.operand,  pair.attention};
    return std::find(std::begin(operands), std::end(operands), Operand::bf16_emulated) !=
           std::end(operands);
  });
}

PackedNetwork pack_network(const Network& network, const PrecisionPlan& plan,
                           const Kernels& kernels) {
  check(network, plan);
  const Operands operands(network, plan, kernels);
  PackedNetwork packed;
  packed.arch = network.arch;
  packed.group = network.arch.channels / 3;
  packed.mean = network.mean;
  packed.channel_order.reserve(network.arch.channels);
  std::iota(packed.channel_order.data(), packed.channel_order.data() + network.arch.channels, 0);
  for (int i = 0; i < network.arch.elabs; ++i) {
    const Elab& elab = network.body[i];
    for (int j = 0; j < network.arch.pairs; ++j) {
      const Lfe& lfe = elab.lfe[j];
      const Gmsa& gmsa = elab.gmsa[j];
      const std::string lfe_name = lfe_stage(i, j), gmsa_name = gmsa_stage(i, j);
      PackedPair pair;
      pair.shifted = elab.shifted;
      pair.lfe = pack_lfe(lfe, operands.of(lfe_name + ".conv0", lfe.conv0.int8),
                          operands.of(lfe_name + ".conv1", lfe.conv1.int8), kernels);
      pair.v_input =
          format(operands.of(gmsa_name + ".project_inp.v", gmsa.int8_v), pointer(gmsa.int8_v));
      if (gmsa.computes_attention) {
        pair.q_input =
            format(operands.of(gmsa_name + ".project_inp.q", gmsa.int8_q), pointer(gmsa.int8_q));
      }
      pair.attention = operands.of_attention(i);
      if (pair.attention == Operand::int8) {
        for (int g = 0; g < 3; ++g) {
          const double q_scale = elab.gmsa[0].int8_attention->q_scale[g];
          pair.octaves[g] = static_cast<float>(q_scale * q_scale * std::numbers::log2e);
          pair.v_scale[g] = gmsa.int8_attention->v_scale[g];
        }
      }
      pair.attended =
          format(operands.of(gmsa_name + ".project_out", gmsa.int8_out), pointer(gmsa.int8_out));
      pack_conv1(lfe.conv1, pair.v_input, kernels, pair.lfe);
      packed.keeps_q |= !gmsa.computes_attention;
      packed.keeps_input |= pair.in_place();
      packed.pairs.push_back(std::move(pair));
    }
  }
  const auto stored = [&](std::size_t pairs) {
    const Format* input = packed.stored_input(pairs);
    return input != nullptr ? *input : Format{};
  };
  packed.x_buffer.push_back(0);
  for (const PackedPair& pair : packed.pairs) {
    const std::uint8_t before = packed.x_buffer.back();
    packed.x_buffer.push_back(pair.in_place() ? before : 1 - before);
  }
  for (std::size_t p = 0; p < packed.pairs.size(); ++p) {
    const std::size_t pairs = static_cast<std::size_t>(network.arch.pairs);
    pack_gmsa(network.body[p / pairs].gmsa[p % pairs], kernels, packed.pairs[p], stored(p + 1));
  }
  packed.head = pack_conv3x3(network.head, stored(0), kernels);
  packed.tail = pack_conv3x3(network.tail, {}, kernels);
  return packed;
}

}  // namespace elan::cpu
