// Packing for the 8-bit kernels of the Hopper path.
#include <algorithm>
#include <functional>
#include <numbers>

#include "cuda/matrix.h"
#include "cuda/packer.h"

namespace elan::cuda {
namespace {

// The rows or columns of a matrix that belong to places of a product; -1: none.
using Place = std::function<int(int)>;

// Core matrices of 8 columns x 16 k: `units` of 16 k x `tiles` of 8 columns.
void pack_slab(std::span<std::byte> slab, Operand operand, int units, int tiles,
               const PackMatrix& m, const Place& in, const Place& out) {
  for (int k = 0; k < 16 * units; ++k) {
    for (int n = 0; n < 8 * tiles; ++n) {
      const int row = out(n), column = in(k);
      const float v = row < 0 || column < 0 ? 0.F : m.at(row, column);
      slab[static_cast<std::size_t>(k / 16 * tiles + n / 8) * 128 + n % 8 * 16 + k % 16] =
          operand == Operand::fp8 ? static_cast<std::byte>(to_e4m3(v))
                                  : static_cast<std::byte>(static_cast<std::int8_t>(v));
    }
  }
}

// Scales and biases of tiles; what has no row has `other` as its bias.
void add_columns(
    std::vector<float>& to, int tiles, const PackMatrix& m, const Place& out,
    const std::function<float(int)>& other = [](int) { return 0.F; }) {
  for (int n = 0; n < 8 * tiles; n += 2) {
    for (const int c : {n, n + 1}) to.push_back(out(c) < 0 ? 0.F : m.scale[out(c)]);
    for (const int c : {n, n + 1}) to.push_back(out(c) < 0 ? other(c) : m.bias[out(c)]);
  }
}

Place of_stream(const Context& c) {
  return [&c](int column) {
    return column < 8 * c.layout.units ? c.order[column_channel(c.layout, column)] : -1;
  };
}
// The same, and of the groups of an attention, where accumulators become operands.
Place operand_of(Place column) {
  return [column = std::move(column)](int k) { return column(int8_column(k)); };
}

}  // namespace

bool int8_planes_fit(const ShiftConv& conv0, std::span<const int> order) {
  constexpr int kChannels = 4 * kInt8TapChunks;
  for (int i = 0; i < kInt8Taps * kChannels; ++i) {
    const int first = order[i / kChannels * kChannels];
    if (order[i] < 0 || conv0.taps[order[i]] != conv0.taps[first]) return false;
  }
  return true;
}

bool byte_layout_fits(const Elab& elab, Operand operand, std::span<const int> order) {
  const int width = 8 * kHopperLayout.hidden_tiles;
  const auto may = [&](const std::optional<QuantizedMatrix>& int8) {
    return operand == Operand::fp8 || int8;
  };
  return std::all_of(elab.lfe.begin(), elab.lfe.end(),
                     [&](const Lfe& lfe) {
                       return may(lfe.conv0.int8) && may(lfe.conv1.int8) &&
                              int8_planes_fit(lfe.conv0, order) &&
                              hidden_order(lfe.conv1.taps, width).taps.size() <= kInt8HiddenGroups;
                     }) &&
         std::all_of(elab.gmsa.begin(), elab.gmsa.end(), [&](const Gmsa& gmsa) {
           return (may(gmsa.int8_q) || !gmsa.computes_attention) && may(gmsa.int8_v) &&
                  may(gmsa.int8_out);
         });
}

PackedLfe pack_lfe_int8(Packer& packer, const Context& c, const Lfe& lfe, const Gmsa& gmsa) {
  const int width = 8 * c.layout.hidden_tiles;
  HiddenOrder hidden = hidden_order(lfe.conv1.taps, width);
  PackedLfe p = packed_taps(c, lfe, gmsa, hidden);
  hidden.channels.resize(static_cast<std::size_t>(kInt8HiddenGroups) * width, -1);
  p.int8_attention = c.operand == Operand::int8 && gmsa.int8_attention;
  const LfeMatrices m = lfe_matrices(lfe, gmsa, c.operand, p.int8_attention);
  p.input = m.conv0.input;
  p.projected = m.v.input;

  const Place stream = of_stream(c);
  // Two units of each plane, of the last one those that are not all padding.
  const Place in_planes = [&](int k) {
    for (int chunk = 0; chunk < kInt8Taps * kInt8TapChunks; ++chunk) {
      const int at = int8_chunk_plane(chunk) * kInt8PlaneBytes + int8_chunk_byte(chunk);
      if (at == k / 4 * 4) return c.order[4 * chunk + k % 4];
    }
    return -1;
  };
  const auto of_group = [&](int group) -> Place {
    return [&, group](int n) { return n < width ? hidden.channels[group * width + n] : -1; };
  };
  // Four units of each group, then pairs of the tiles that are left over.
  const Place of_hidden = [&](int k) {
    const int unit = k / 16, column = int8_column(k % 16);
    const int odd = unit - 4 * kInt8HiddenGroups, group = odd < 0 ? unit / 4 : 2 * odd + column / 8;
    if (group >= kInt8HiddenGroups) return -1;
    return of_group(group)(odd < 0 ? unit % 4 * 16 + column : 64 + column % 8);
  };
  const Place row = [&](int i) { return group_row(c, i); };

  const int slabs = 2 * kInt8OutSlabs + kWindowGroups * (p.has_q ? 2 : 1);
  p.weights = packer.take(static_cast<std::size_t>(kInt8HiddenGroups) * kInt8Conv0Bytes +
                          static_cast<std::size_t>(slabs) * kInt8SlabBytes);
  std::size_t at = p.weights;
  std::vector<float> columns;
  for (int group = 0; group < kInt8HiddenGroups; ++group, at += kInt8Conv0Bytes) {
    pack_slab(packer.bytes(at, kInt8Conv0Bytes), c.operand, kInt8Units, kInt8HiddenTiles, m.conv0,
              in_planes, of_group(group));
    add_columns(columns, kInt8HiddenTiles, m.conv0, of_group(group));
  }
  constexpr int kColumns = 8 * kInt8Tiles;
  for (int s = 0; s < kInt8OutSlabs; ++s) {
    for (int half = 0; half < 2; ++half, at += kInt8SlabBytes) {
      pack_slab(
          packer.bytes(at, kInt8SlabBytes), c.operand, kInt8Units, kInt8Tiles, m.conv1,
          [&](int k) { return of_hidden(half * 16 * kInt8Units + k); },
          [&](int n) { return stream(s * kColumns + n); });
    }
  }
  add_columns(columns, kInt8OutSlabs * kInt8Tiles, m.conv1, stream);
  for (const PackMatrix* matrix : {&m.q, &m.v}) {
    if (matrix == &m.q && !p.has_q) continue;
    for (int s = 0; s < kWindowGroups; ++s, at += kInt8SlabBytes) {
      pack_slab(packer.bytes(at, kInt8SlabBytes), c.operand, kInt8Units, kInt8Tiles, *matrix,
                operand_of(stream), [&](int n) { return row(s * kColumns + n); });
    }
    // See kernels/gmsa.cuh and attention_int8.cuh for what v's padding holds.
    add_columns(columns, kWindowGroups * kInt8Tiles, *matrix, row, [&](int n) {
      return matrix == &m.v && n % kColumns == c.layout.channels / kWindowGroups ? 1.F : 0.F;
    });
  }
  p.columns = packer.floats(static_cast<int>(columns.size()), [&](int i) { return columns[i]; });
  return p;
}

PackedOut pack_out_int8(Packer& packer, const Context& c, const Gmsa& gmsa) {
  const PackMatrix m = out_matrix(gmsa, c.operand);
  const Place stream = of_stream(c);
  PackedOut p;
  p.input = m.input;
  p.int8_attention = c.operand == Operand::int8 && gmsa.int8_attention;
  if (p.int8_attention) {
    p.value = gmsa.int8_attention->v_scale;
    std::transform(
        gmsa.int8_attention->q_scale.begin(), gmsa.int8_attention->q_scale.end(), p.power.begin(),
        [](double scale) { return static_cast<float>(scale * scale * std::numbers::log2e); });
  }
  p.weights = packer.take(static_cast<std::size_t>(kInt8OutSlabs) * kInt8SlabBytes);
  for (int s = 0; s < kInt8OutSlabs; ++s) {
    pack_slab(
        packer.bytes(p.weights + static_cast<std::size_t>(s) * kInt8SlabBytes, kInt8SlabBytes),
        c.operand, kInt8Units, kInt8Tiles, m, operand_of([&](int i) { return group_row(c, i); }),
        [&](int n) { return stream(s * 8 * kInt8Tiles + n); });
  }
  std::vector<float> columns;
  add_columns(columns, kInt8OutSlabs * kInt8Tiles, m, stream);
  p.columns = packer.floats(static_cast<int>(columns.size()), [&](int i) { return columns[i]; });
  return p;
}

}  // namespace elan::cuda
