#include "cuda/pack.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "cuda/layout_narrow.h"
#include "cuda/layout_wide.h"
#include "cuda/matrix.h"
#include "cuda/pack_wide.h"
#include "cuda/packer.h"
#include "elan/error.h"

namespace elan::cuda {
namespace {

// Weights as they are, for an LFE on Hopper.
void unscale(PackMatrix& m) {
  for (float& w : m.weight) w *= m.scale.front();
  std::fill(m.scale.begin(), m.scale.end(), 1.F);
}

// A number as the sum of two operands of 16 bits: term 0 or 1.
float term_of(Operand operand, float v, int term) {
  const float first = operand == Operand::bf16
                          ? std::bit_cast<float>(std::uint32_t{to_bf16(v)} << 16)
                          : from_half(to_half(v));
  return term == 0 ? first : v - first;
}

// A bias as term 0 or 1 of what a product's operands have kBiasOne for.
float bias_term(Operand operand, float bias, int term) {
  return term_of(operand, bias / kBiasOne, term);
}

void pack_conv_slabs(Packer& packer, const Context& c, const LfeMatrices& m,
                     const HiddenOrder& hidden, PackedLfe& p) {
  const ChannelLayout& l = c.layout;
  const int width = 8 * l.hidden_tiles, bytes = conv_slab_bytes(l, weight_words(c.operand));
  std::size_t at = p.weights;
  for (int g = 0; g < p.groups; ++g) {
    const int* channels = hidden.channels.data() + static_cast<std::ptrdiff_t>(g) * width;
    const MatrixFn conv0 = [&](int k, int column) {
      const int in = c.order[k], out = channels[column];
      return in < 0 || out < 0 ? 0.F : m.conv0.at(out, in);
    };
    const MatrixFn conv1 = [&](int k, int column) {
      const int in = channels[k];
      const int out = column < 8 * l.units ? c.order[column_channel(l, column)] : -1;
      return in < 0 || out < 0 ? 0.F : m.conv1.at(out, in);
    };
    if (c.wide()) {
      const int conv0_bytes = wide_slab_bytes(l.units, l.hidden_tiles);
      const int tiles = wide_conv1_tiles(c.operand);
      const int conv1_bytes = wide_slab_bytes(l.hidden_tiles, tiles);
      pack_wide_slab(packer.bytes(at, conv0_bytes), c.operand, KOrder::memory, l.units, 0,
                     l.hidden_tiles, conv0);
      at += conv0_bytes;
      for (int i = 0; i < wide_conv1_pieces(c.operand); ++i, at += conv1_bytes) {
        pack_wide_slab(packer.bytes(at, conv1_bytes), c.operand, KOrder::registers, l.hidden_tiles,
                       i * tiles, tiles, conv1);
      }
      continue;
    }
    if (c.hopper) {  // biases are behind the weights: conv1's in the first group
      pack_core_slab(packer.bytes(at, kHopperConv0Bytes), c.operand, l.units + 1, 0, l.hidden_tiles,
                     [&](int k, int column) {
                       const int term = k - 8 * l.units, out = channels[column];
                       if (term < 0) return conv0(k, column);
                       return out < 0 || term > 1 ? 0.F
                                                  : bias_term(c.operand, m.conv0.bias[out], term);
                     });
      at += kHopperConv0Bytes;
      pack_core_slab(packer.bytes(at, kHopperConv1Bytes), c.operand, l.hidden_tiles + 1, 0, l.units,
                     [&](int k, int column) {
                       const int term = k - width, out = c.order[column_channel(l, column)];
                       if (term < 0) return conv1(k, column);
                       return out < 0 || term > 1 || g > 0
                                  ? 0.F
                                  : bias_term(c.operand, m.conv1.bias[out], term);
                     });
      at += kHopperConv1Bytes;
      continue;
    }
    for (int i = 0; i < l.conv0_parts; ++i, at += bytes) {
      pack_slab(packer.bytes(at, bytes), c.operand, part_begin(l.units, l.conv0_parts, i),
                part_size(l.units, l.conv0_parts, i), 0, l.hidden_tiles, conv0);
    }
    for (int i = 0; i < l.conv1_parts; ++i, at += bytes) {
      pack_slab(packer.bytes(at, bytes), c.operand, 0, l.hidden_tiles,
                part_begin(l.units, l.conv1_parts, i), part_size(l.units, l.conv1_parts, i), conv1);
    }
  }
}

// The same for the narrow LFE on Hopper.
void pack_narrow_conv_slabs(Packer& packer, const Context& c, const LfeMatrices& m,
                            const HiddenOrder& hidden, PackedLfe& p) {
  const ChannelLayout& l = c.layout;
  for (int g = 0; g < p.groups; ++g) {
    pack_core_slab(packer.bytes(p.weights + static_cast<std::size_t>(g) * kNarrowConv0Bytes,
                                kNarrowConv0Bytes),
                   c.operand, kNarrowReads, 0, l.hidden_tiles, [&](int k, int column) {
                     const int out = hidden.channels[g * 8 * l.hidden_tiles + column];
                     const int term = k - 8 * kNarrowBiasRead - kNarrowBiasK;
                     if (out >= 0 && (term == 0 || term == 1)) {
                       return bias_term(c.operand, m.conv0.bias[out], term);
                     }
                     NarrowRead read;
                     if (!narrow_read(p.chunk_y, p.chunk_x, k / 8, read)) return 0.F;
                     if (k % 8 < 4 ? !read.low : !read.high) return 0.F;
                     const int in = c.order[read.chunk / 2 * 8 + k % 8];
                     return in < 0 || out < 0 ? 0.F : m.conv0.at(out, in);
                   });
  }
  const int conv0_bytes = p.groups * kNarrowConv0Bytes;
  pack_core_slab(packer.bytes(p.weights + conv0_bytes, narrow_conv_bytes(p.groups) - conv0_bytes),
                 c.operand, p.groups * l.hidden_tiles + 1, 0, l.units, [&](int k, int column) {
                   const int out = c.order[column_channel(l, column)];
                   const int term = k - 8 * l.hidden_tiles;  // behind the first group
                   if (term >= 0 && term < 8) {
                     return out < 0 || term > 1 ? 0.F
                                                : bias_term(c.operand, m.conv1.bias[out], term);
                   }
                   const int in = hidden.channels[term < 0 ? k : k - 8];
                   return in < 0 || out < 0 ? 0.F : m.conv1.at(out, in);
                 });
}

PackedLfe pack_lfe(Packer& packer, const Context& c, const Lfe& lfe, const Gmsa& gmsa) {
  if (uses_8_bit_kernels({c.operand, c.hopper})) return pack_lfe_int8(packer, c, lfe, gmsa);
  const ChannelLayout& l = c.layout;
  const int words = weight_words(c.operand), stride = 8 * l.units, width = 8 * l.hidden_tiles;
  const HiddenOrder hidden = hidden_order(lfe.conv1.taps, width);
  PackedLfe p = packed_taps(c, lfe, gmsa, hidden);

  const int project_tiles = c.narrow_hopper() ? kNarrowProjectTiles
                            : c.hopper        ? l.group_units
                                              : l.project_tiles;
  const int slabs = kWindowGroups * l.group_units / project_tiles;
  const int project_bytes = c.wide()            ? wide_project_bytes()
                            : c.narrow_hopper() ? kNarrowProjectBytes
                            : c.hopper          ? kHopperProjectBytes
                                                : project_slab_bytes(l, words);
  const int conv_bytes =
      c.narrow_hopper()
          ? narrow_conv_bytes(p.groups)
          : p.groups * (c.wide()   ? wide_group_bytes(c.operand)
                        : c.hopper ? kHopperConv0Bytes + kHopperConv1Bytes
                                   : (l.conv0_parts + l.conv1_parts) * conv_slab_bytes(l, words));
  p.weights = packer.take(static_cast<std::size_t>(conv_bytes) + 2 * slabs * project_bytes);
  LfeMatrices m = lfe_matrices(lfe, gmsa, c.operand);
  if (c.half_hopper() || c.narrow_hopper()) {
    for (PackMatrix* matrix : {&m.conv0, &m.conv1, &m.q, &m.v}) {
      if (!matrix->weight.empty()) unscale(*matrix);
    }
  }
  if (c.narrow_hopper()) {
    pack_narrow_conv_slabs(packer, c, m, hidden, p);
  } else {
    pack_conv_slabs(packer, c, m, hidden, p);
  }

  const int third = l.channels / kWindowGroups;
  std::size_t at = p.weights + conv_bytes;
  std::vector<float> scale, bias;
  for (int part = p.has_q ? 0 : 1; part < 2; ++part) {  // q, v
    const PackMatrix& matrix = part == 0 ? m.q : m.v;
    const auto row = [&](int i) { return group_row(c, i); };
    const std::size_t first = bias.size();  // of this part
    for (int i = 0; i < kWindowGroups * l.group_units * 8; ++i) {
      // See kernels/gmsa.cuh for what the padding of v holds, and of keys, which comes from here
      // where these stay on the multiprocessor (kernels/pair_hopper_narrow.cu).
      const int padding = i % (8 * l.group_units) - third;
      const bool key = part == 0 && c.narrow_hopper();
      const float constant = padding == 0 ? (part == 1 ? 1.F
                                             : key     ? kReferenceUnit
                                                       : 0.F)
                                          : (key && padding == 1 ? 1.F : 0.F);
      scale.push_back(row(i) < 0 ? 0.F : matrix.scale[row(i)]);
      bias.push_back(row(i) < 0 ? constant : matrix.bias[row(i)]);
    }
    const MatrixFn value = [&](int k, int column) {
      const int channel = column_channel(l, k), in = c.order[channel], out = row(column);
      if (c.narrow_hopper() && (channel == kNarrowPadding || channel == kNarrowPadding + 1)) {
        return bias_term(c.operand, bias[first + static_cast<std::size_t>(column)],
                         channel - kNarrowPadding);
      }
      return in < 0 || out < 0 ? 0.F : matrix.at(out, in);
    };
    const MatrixFn with_bias = [&](int k, int column) {
      const int term = k - stride;
      if (term < 0) return value(k, column);
      return term > 1 ? 0.F
                      : bias_term(c.operand, bias[first + static_cast<std::size_t>(column)], term);
    };
    for (int s = 0; s < slabs; ++s, at += project_bytes) {
      const auto slab = packer.bytes(at, project_bytes);
      if (c.wide()) {
        pack_wide_slab(slab, c.operand, KOrder::registers, l.units, s * project_tiles,
                       project_tiles, value);
      } else if (c.half_hopper()) {
        pack_core_slab(slab, c.operand, l.units + 1, s * project_tiles, project_tiles, with_bias);
      } else if (c.hopper) {
        pack_core_slab(slab, c.operand, l.units, s * project_tiles, project_tiles, value);
      } else {
        pack_slab(slab, c.operand, 0, l.units, s * project_tiles, project_tiles, value);
      }
    }
  }
  const auto project = [](const std::vector<float>& values) {
    return [&](int i) { return values[i]; };
  };
  const auto of_hidden = [&](const std::vector<float>& values) {
    return [&](int i) { return hidden.channels[i] < 0 ? 0.F : values[hidden.channels[i]]; };
  };
  const auto of_stream = stream_values(c);
  const int projected = static_cast<int>(bias.size()), hiddens = p.groups * width;
  p.bias_project = packer.floats(projected, project(bias));
  p.bias0 = packer.floats(hiddens, of_hidden(m.conv0.bias));
  p.bias1 = packer.floats(stride, of_stream(m.conv1.bias));
  p.unscale0 = m.conv0.scale.front();
  p.unscale1 = m.conv1.scale.front();
  p.unscale_project = m.v.scale.front();
  if (has_8_bits(c.operand)) {
    p.scale_project = packer.floats(projected, project(scale));
    p.scale0 = packer.floats(hiddens, of_hidden(m.conv0.scale));
    p.scale1 = packer.floats(stride, of_stream(m.conv1.scale));
    p.input = m.conv0.input;
    p.hidden = m.conv1.input;
    p.projected = m.v.input;
  }
  return p;
}

PackedOut pack_out(Packer& packer, const Context& c, const PackMatrix& project_out) {
  const ChannelLayout& l = c.layout;
  const int units = kWindowGroups * l.group_units, stride = 8 * l.units;
  const bool wide = c.hopper && l.channels == 180;
  const int slabs = wide ? kHopperOutSlabs : l.out_slabs;
  const int tiles = wide ? kHopperOutTiles : l.out_tiles;
  const int bytes = c.wide()            ? kWideOutBytes
                    : wide              ? kHopperOutBytes
                    : c.narrow_hopper() ? kNarrowOutBytes
                                        : out_slab_bytes(l, weight_words(c.operand));
  // The narrow attention in 16 bits and Hopper's add to the stream as it is, and have the bias as
  // two rows of weights, for what attention makes 1 (kernels/gmsa.cuh).
  const bool plain =
      c.half_hopper() || (is_compact(l, operand_bytes(c.operand)) && !has_8_bits(c.operand));
  const int width = 8 * l.group_units, third = l.channels / kWindowGroups;
  const MatrixFn value = [&](int k, int column) {
    const int in = group_row(c, k);
    const int out = column < stride ? c.order[column_channel(l, column)] : -1;
    if (plain && out >= 0) {
      if (k % width == third && k / width < 2) {
        return term_of(c.operand, project_out.bias[out], k / width);
      }
      return in < 0 ? 0.F : project_out.at(out, in) * project_out.scale.front();
    }
    return in < 0 || out < 0 ? 0.F : project_out.at(out, in);
  };
  PackedOut p;
  p.unscale = project_out.scale.front();
  p.weights = packer.take(static_cast<std::size_t>(slabs) * bytes);
  for (int s = 0; s < slabs; ++s) {
    const auto slab = packer.bytes(p.weights + static_cast<std::size_t>(s) * bytes, bytes);
    if (c.wide()) {
      pack_wide_slab(slab, c.operand, KOrder::registers, units, s * tiles, tiles, value);
    } else if (c.hopper) {
      pack_core_slab(slab, c.operand, units, s * tiles, tiles, value);
    } else {
      pack_slab(slab, c.operand, 0, units, s * tiles, tiles, value);
    }
  }
  if (c.narrow_hopper()) {
    static_assert(kNarrowOutBytes % 256 == 0);  // so that this slab is right behind, see PackedOut
    const int portable = out_slab_bytes(l, weight_words(c.operand));
    pack_slab(packer.bytes(packer.take(static_cast<std::size_t>(portable)), portable), c.operand, 0,
              units, 0, tiles, value);
  }
  p.bias = packer.floats(stride, stream_values(c)(project_out.bias));
  if (has_8_bits(c.operand)) {
    p.scale = packer.floats(stride, stream_values(c)(project_out.scale));
    p.input = project_out.input;
  }
  return p;
}

PackedOut pack_out(Packer& packer, const Context& c, const Gmsa& gmsa) {
  if (uses_8_bit_kernels({c.operand, c.hopper})) return pack_out_int8(packer, c, gmsa);
  return pack_out(packer, c, out_matrix(gmsa, c.operand));
}

void pack_head(Packer& packer, PackedNetwork& p, const ChannelLayout& l, const Conv3x3& head) {
  const int stride = 8 * l.units, columns = 8 * kHeadTiles * head_slabs(l);
  p.head_weights = packer.floats(27 * stride, [&](int i) {
    const int out = p.order[i % stride], tap = i / stride / 3, colour = i / stride % 3;
    return out < 0 ? 0.F : head.weight[(out * 3 + colour) * 9 + tap];
  });
  p.head_bias =
      packer.floats(stride, [&](int i) { return p.order[i] < 0 ? 0.F : head.bias[p.order[i]]; });
  const auto channel = [&](int column) {
    return column < stride ? p.order[column_channel(l, column)] : -1;
  };
  const float factor = weight_scale(head.weight);
  p.head_unscale = 1 / factor;
  p.head_slabs = packer.take(static_cast<std::size_t>(head_slabs(l)) * kHeadSlabBytes);
  for (int s = 0; s < head_slabs(l); ++s) {
    pack_slab(
        packer.bytes(p.head_slabs + static_cast<std::size_t>(s) * kHeadSlabBytes, kHeadSlabBytes),
        Operand::fp32, 0, kHeadUnits, s * kHeadTiles, kHeadTiles, [&](int k, int column) {
          const int out = channel(column);
          return k >= 27 || out < 0 ? 0.F : factor * head.weight[(out * 3 + k % 3) * 9 + k / 3];
        });
  }
  p.head_column_bias =
      packer.floats(columns, [&](int i) { return channel(i) < 0 ? 0.F : head.bias[channel(i)]; });
}

}  // namespace

PackedLfe packed_taps(const Context& c, const Lfe& lfe, const Gmsa& gmsa,
                      const HiddenOrder& hidden) {
  // The displacement of tap 3 * ky + kx.
  const auto tap_y = [](int tap) { return static_cast<signed char>(tap / 3 - 1); };
  const auto tap_x = [](int tap) { return static_cast<signed char>(tap % 3 - 1); };
  PackedLfe p;
  p.has_q = gmsa.computes_attention;
  p.groups = std::min(static_cast<int>(hidden.taps.size()), kMaxHiddenGroups);  // checked before
  for (int g = 0; g < p.groups; ++g) {
    p.hidden_y[g] = tap_y(hidden.taps[g]);
    p.hidden_x[g] = tap_x(hidden.taps[g]);
  }
  for (std::size_t i = 0; i < c.order.size(); i += 4) {
    const int chunk = static_cast<int>(i / 4), channel = c.order[i];
    // What pads the stream goes with what is before it.
    p.chunk_y[chunk] = channel < 0 ? p.chunk_y[chunk - 1] : tap_y(lfe.conv0.taps[channel]);
    p.chunk_x[chunk] = channel < 0 ? p.chunk_x[chunk - 1] : tap_x(lfe.conv0.taps[channel]);
  }
  return p;
}

Operand operand_of(Precision precision) {
  switch (precision) {
    case Precision::fp16:
      return Operand::fp16;
    case Precision::bf16:
      return Operand::bf16;
    case Precision::tf32:
      return Operand::tf32;
    case Precision::fp32:
      return Operand::fp32;
    case Precision::int8:
      return Operand::int8;
    case Precision::fp8:
      return Operand::fp8;
    case Precision::fp64:
      break;
  }
  throw Error(ErrorKind::usage,
              "device cuda: expected precision fp32, tf32, bf16, fp16, fp8 or int8, found " +
                  std::string(to_string(precision)));
}

HiddenOrder hidden_order(std::span<const std::uint8_t> taps, int group) {
  HiddenOrder h;
  for (int tap = 0; tap < 9; ++tap) {
    int filled = 0;
    for (int i = 0; i < static_cast<int>(taps.size()); ++i) {
      if (taps[i] != tap) continue;
      if (filled % group == 0) h.taps.push_back(tap);
      h.channels.push_back(i);
      ++filled;
    }
    h.channels.resize(h.taps.size() * static_cast<std::size_t>(group), -1);
  }
  return h;
}

float weight_scale(std::span<const float> weights) {
  float largest = 0;
  for (const float w : weights) largest = std::max(largest, std::abs(w));
  if (!(largest > 0) || !std::isfinite(largest)) return 1;
  int exponent = 0;
  const float mantissa = std::frexp(largest, &exponent);  // in [0.5, 1)
  return std::ldexp(1.F, (mantissa > 0.5F ? 8 : 9) - exponent);
}

void pack_slab(std::span<std::byte> slab, Operand operand, int unit, int units, int tile, int tiles,
               const MatrixFn& value) {
  int word = 0;
  const auto put = [&](int lane, int w, std::uint32_t bits) {
    std::memcpy(slab.data() + w / 4 * 512 + lane * 16 + w % 4 * 4, &bits, sizeof bits);
  };
  const auto put_unit = [&](int u, int n) {
    for (int lane = 0; lane < 32; ++lane) {
      const int k = 8 * (unit + u) + 2 * (lane % 4), column = 8 * (tile + n) + lane / 4;
      const float a = value(k, column), b = value(k + 1, column);
      const auto halves = [](std::uint32_t lo, std::uint32_t hi) { return lo | hi << 16; };
      switch (operand) {
        case Operand::fp16:
        case Operand::int8:
        case Operand::fp8:
          put(lane, word, halves(to_half(a), to_half(b)));
          break;
        case Operand::bf16:
          put(lane, word, halves(to_bf16(a), to_bf16(b)));
          break;
        case Operand::tf32:
          put(lane, word, to_tf32_bits(a));
          put(lane, word + 1, to_tf32_bits(b));
          break;
        case Operand::fp32: {
          const std::uint16_t ha = to_half(a), hb = to_half(b);
          put(lane, word, halves(ha, hb));
          put(lane, word + 1, halves(to_half(a - from_half(ha)), to_half(b - from_half(hb))));
          break;
        }
      }
    }
    word += weight_words(operand);
  };
  for (int u = 0; u < units; u += 2) {
    for (int n = 0; n < tiles; ++n) {
      put_unit(u, n);
      if (u + 1 < units) put_unit(u + 1, n);
    }
  }
}

void pack_core_slab(std::span<std::byte> slab, Operand operand, int units, int tile, int tiles,
                    const MatrixFn& value) {
  for (int u = 0; u < units; ++u) {
    for (int n = 0; n < 8 * tiles; ++n) {
      for (int k = 0; k < 8; ++k) {
        const float v = value(8 * u + k, 8 * tile + n);
        const std::uint16_t bits = operand == Operand::bf16 ? to_bf16(v) : to_half(v);
        std::memcpy(slab.data() + (u * tiles + n / 8) * 128 + n % 8 * 16 + k * 2, &bits,
                    sizeof bits);
      }
    }
  }
}

PackedNetwork pack_network(const Network& net, const NetworkShape& shape) {
  check_network(net);
  PackedNetwork p;
  p.order = stream_order(net);
  p.hidden_groups = most_hidden_groups(net);
  Packer packer(p);
  const ChannelLayout layout = layout_of(net.arch.channels);
  pack_head(packer, p, layout, net.head);
  for (std::size_t i = 0; i < net.body.size(); ++i) {
    const Elab& elab = net.body[i];
    const Context context{layout, shape.body[i].operand, p.order, shape.body[i].hopper};
    auto& pairs = p.body.emplace_back();
    for (std::size_t j = 0; j < elab.lfe.size(); ++j) {
      pairs.push_back({pack_lfe(packer, context, elab.lfe[j], elab.gmsa[j]),
                       pack_out(packer, context, elab.gmsa[j])});
      pairs.back().out.power = pairs.front().out.power;  // the first pair's q serves them all
    }
  }
  p.tail = pack_tail(packer, {layout, shape.tail, p.order, false}, net.tail, net.arch.scale,
                     shape.skip_in_tail());
  if (shape.skip_in_tail()) p.skip = pack_skip(packer, net.head, net.tail, p.tail.unscale);
  return p;
}

PackedModule<PackedLfe> pack_lfe_alone(const Lfe& lfe, const Gmsa& gmsa,
                                       const std::vector<int>& order, const ModuleLayout& layout) {
  PackedNetwork p;
  Packer packer(p);
  const Context context{layout_of(layout.channels), layout.operand, order, layout.hopper};
  const PackedLfe at = pack_lfe(packer, context, lfe, gmsa);
  return {std::move(p.data), at};
}

PackedModule<PackedOut> pack_out_alone(const Gmsa& gmsa, const std::vector<int>& order,
                                       const ModuleLayout& layout) {
  PackedNetwork p;
  Packer packer(p);
  const Context context{layout_of(layout.channels), layout.operand, order, layout.hopper};
  const PackedOut at = pack_out(packer, context, gmsa);
  return {std::move(p.data), at};
}

}  // namespace elan::cuda
