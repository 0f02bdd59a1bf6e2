#include "cpu/packing.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>
#include <numeric>

namespace elan::cpu {
namespace {

constexpr int kNone = -1;  // a row or column of zeros

std::uint32_t bf16_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

int pack_of(Operand operand) {
  return operand == Operand::bf16 ? 2 : 1;
}

Word word(const float* values, Operand operand) {
  switch (operand) {
    case Operand::fp32:
      return values[0];
    case Operand::bf16_emulated:
      return std::bit_cast<float>(bf16_bits(values[0]) << 16);
    case Operand::bf16:
      break;
  }
  return std::bit_cast<float>(bf16_bits(values[0]) | bf16_bits(values[1]) << 16);
}

// Outputs to a register block: as many as there are registers for, preferably without a rest.
int block_size(int outs, int pack) {
  if (outs % 6 == 0) return 6;
  if (outs % 5 == 0 && pack == 1) return 5;
  if (outs % 4 == 0) return 4;
  return 6;
}

struct Source {
  const float* weight = nullptr;  // [rows][in]
  const float* bias = nullptr;    // [rows]
  int in = 0;
  float scale = 1;
};

// `rows` and `columns` say which of the source go where; columns.size() = offsets.size() * pack.
PackedMatrix pack_matrix(const Source& source, const std::vector<int>& rows,
                         const std::vector<int>& columns, const std::vector<int>& offsets,
                         Operand operand) {
  const int pack = pack_of(operand);
  PackedMatrix m;
  m.outs = static_cast<int>(rows.size());
  m.steps = static_cast<int>(offsets.size());
  m.block = block_size(m.outs, pack);
  m.word_memory.reserve(rows.size() * offsets.size());
  m.words = m.word_memory.data();
  m.bias_memory.reserve(rows.size());
  m.bias = m.bias_memory.data();
  m.offset_memory.reserve(offsets.size());
  m.offsets = m.offset_memory.data();
  std::copy(offsets.begin(), offsets.end(), m.offset_memory.data());
  Word* out = m.word_memory.data();
  for (int first = 0; first < m.outs; first += m.block) {
    const int last = std::min(m.outs, first + m.block);
    for (int step = 0; step < m.steps; ++step) {
      for (int r = first; r < last; ++r) {
        float values[2] = {};
        for (int i = 0; i < pack; ++i) {
          const int column = columns[step * pack + i];
          if (rows[r] != kNone && column != kNone) {
            values[i] = source.weight[static_cast<std::size_t>(rows[r]) * source.in + column] *
                        source.scale;
          }
        }
        *out++ = word(values, operand);
      }
    }
  }
  for (int r = 0; r < m.outs; ++r) {
    m.bias_memory[r] = rows[r] == kNone ? 0.0f : source.bias[rows[r]] * source.scale;
  }
  return m;
}

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

PackedLfe pack_lfe(const Lfe& lfe, Operand operand) {
  const int pack = pack_of(operand);
  const SortedChannels in = sort_by_tap(lfe.conv0.taps, pack);
  const SortedChannels hidden = sort_by_tap(lfe.conv1.taps, pack);

  PackedLfe packed;
  packed.halo_steps = static_cast<int>(in.channels.size()) / pack;
  packed.channels.reserve(in.channels.size());
  std::copy(in.channels.begin(), in.channels.end(), packed.channels.data());
  std::vector<int> offsets;
  for (const SortedChannels::Tap& tap : in.taps) {
    for (std::size_t c = tap.first; c < tap.last; c += pack) {
      offsets.push_back(static_cast<int>(c) / pack * kHaloPlane + tap.dy * kHaloStride + tap.dx);
    }
  }
  const Source conv0{lfe.conv0.weight.data(), lfe.conv0.bias.data(), lfe.conv0.in};
  for (const SortedChannels::Tap& tap : hidden.taps) {
    const std::vector<int> rows(hidden.channels.begin() + tap.first,
                                hidden.channels.begin() + tap.last);
    packed.hidden.push_back({pack_matrix(conv0, rows, in.channels, offsets, operand), tap.dy,
                             tap.dx, static_cast<int>(tap.first)});
  }
  packed.hidden_rows = static_cast<int>(hidden.channels.size());
  packed.conv1 = pack_matrix({lfe.conv1.weight.data(), lfe.conv1.bias.data(), lfe.conv1.in},
                             iota(lfe.conv1.out), hidden.channels,
                             multiples(packed.hidden_rows / pack, kTilePixels), operand);
  return packed;
}

void pack_gmsa(const Gmsa& gmsa, Operand operand, PackedPair& pair) {
  const int pack = pack_of(operand);
  const Linear inp = gmsa.folded_project_inp();
  const int group = gmsa.project_out.in / 3;
  std::vector<int> columns = iota(inp.in);
  pad_to(columns, pack);
  const std::vector<int> offsets = multiples(static_cast<int>(columns.size()) / pack, kTilePixels);

  std::vector<int> q_rows, v_rows, out_columns;
  for (int g = 0; g < 3; ++g) {
    const int first = gmsa.computes_attention ? 2 * g * group : g * group;
    if (gmsa.computes_attention) {
      for (const int row : iota(group, first)) q_rows.push_back(row);
      pad_to(q_rows, pack);
    }
    for (const int row : iota(group, gmsa.computes_attention ? first + group : first)) {
      v_rows.push_back(row);
    }
    for (const int channel : iota(group, g * group)) out_columns.push_back(channel);
    pad_to(out_columns, pack);
  }
  pair.computes_attention = gmsa.computes_attention;
  Source source{inp.weight.data(), inp.bias.data(), inp.in};
  pair.v = pack_matrix(source, v_rows, columns, offsets, operand);
  if (gmsa.computes_attention) {
    source.scale = static_cast<float>(std::sqrt(std::numbers::log2e));
    pair.q = pack_matrix(source, q_rows, columns, offsets, operand);
  }
  pair.project_out = pack_matrix(
      {gmsa.project_out.weight.data(), gmsa.project_out.bias.data(), gmsa.project_out.in},
      iota(gmsa.project_out.out), out_columns,
      multiples(static_cast<int>(out_columns.size()) / pack, kTilePixels), operand);
}

PackedMatrix pack_conv3x3(const Conv3x3& conv) {
  std::vector<int> offsets;
  for (int c = 0; c < conv.in; ++c) {
    for (int k = 0; k < 9; ++k) {
      offsets.push_back(c * kHaloPlane + (k / 3 - 1) * kHaloStride + k % 3 - 1);
    }
  }
  return pack_matrix({conv.weight.data(), conv.bias.data(), conv.in * 9}, iota(conv.out),
                     iota(conv.in * 9), offsets, Operand::fp32);
}

}  // namespace

PackedNetwork pack_network(const Network& network, Operand operand) {
  PackedNetwork packed;
  packed.arch = network.arch;
  packed.pack = pack_of(operand);
  packed.group = network.arch.channels / 3;
  packed.group_steps = (packed.group + packed.pack - 1) / packed.pack;
  packed.mean = network.mean;
  packed.channel_order.reserve(network.arch.channels);
  std::iota(packed.channel_order.data(), packed.channel_order.data() + network.arch.channels, 0);
  packed.head = pack_conv3x3(network.head);
  packed.tail = pack_conv3x3(network.tail);
  for (const Elab& elab : network.body) {
    for (std::size_t j = 0; j < elab.lfe.size(); ++j) {
      PackedPair pair;
      pair.shifted = elab.shifted;
      pair.lfe = pack_lfe(elab.lfe[j], operand);
      pack_gmsa(elab.gmsa[j], operand, pair);
      packed.halo_steps = std::max(packed.halo_steps, pair.lfe.halo_steps);
      packed.hidden_rows = std::max(packed.hidden_rows, pair.lfe.hidden_rows);
      packed.keeps_q |= !pair.computes_attention;
      packed.pairs.push_back(std::move(pair));
    }
  }
  return packed;
}

}  // namespace elan::cpu
