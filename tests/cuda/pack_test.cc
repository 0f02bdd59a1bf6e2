#include "cuda/pack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "cuda/layout_narrow.h"
#include "cuda/layout_wide.h"
#include "cuda/pack_wide.h"
#include "elan/error.h"
#include "elan/model.h"

namespace elan::cuda {
namespace {

const Network& network(const char* name) {
  static std::map<std::string, Model> loaded;
  auto at = loaded.find(name);
  if (at == loaded.end()) {
    at = loaded.emplace(name, Model::load(std::string(ELANSR_MODELS) + "/" + name + ".safetensors"))
             .first;
  }
  return at->second.network();
}

TEST(CudaPack, OperandsAreNamedByPrecision) {
  EXPECT_EQ(operand_of(Precision::fp16), Operand::fp16);
  EXPECT_EQ(operand_of(Precision::bf16), Operand::bf16);
  EXPECT_EQ(operand_of(Precision::tf32), Operand::tf32);
  EXPECT_EQ(operand_of(Precision::fp32), Operand::fp32);
  EXPECT_EQ(operand_of(Precision::int8), Operand::int8);
  EXPECT_EQ(operand_of(Precision::fp8), Operand::fp8);
  EXPECT_THROW(operand_of(Precision::fp64), Error);
}

TEST(CudaPack, HalfRoundTrips) {
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const auto h = static_cast<std::uint16_t>(bits);
    const float v = from_half(h);
    if (std::isnan(v)) {
      EXPECT_TRUE(std::isnan(from_half(to_half(v))));
    } else {
      EXPECT_EQ(to_half(v), h) << v;
    }
  }
}

// All of E4M3 but NaN, and between two of them the nearer one.
TEST(CudaPack, E4m3RoundTrips) {
  const auto value = [](int b) {
    const int exponent = b >> 3 & 15, mantissa = b & 7;
    const float v = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                                  : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
    return (b & 128) != 0 ? -v : v;
  };
  for (int b = 0; b < 256; ++b) {
    if ((b & 127) == 127) continue;
    const auto nearest = [&](float v) { return value(to_e4m3(v)); };
    EXPECT_EQ(nearest(value(b)), value(b));
    if ((b & 127) == 126) continue;
    const float next = value(b + 1), half = (value(b) + next) / 2;
    EXPECT_EQ(nearest(std::nextafter(half, value(b))), value(b));
    EXPECT_EQ(nearest(std::nextafter(half, next)), next);
    EXPECT_EQ(nearest(half), value(b + b % 2));
  }
  EXPECT_EQ(to_e4m3(1e9F), 126);
  EXPECT_EQ(to_e4m3(-INFINITY), 254);
  EXPECT_EQ(to_e4m3(NAN), 127);
}

TEST(CudaPack, StreamsAreReadInTheirFormat) {
  constexpr int kUnits = 3, kStride = 24, kPixels = 2;
  std::vector<float> floats(kStride * kPixels);
  floats[kStride + 5] = -3;
  EXPECT_EQ(stream_number(floats.data(), StreamFormat::fp32, kUnits, kPixels, 1, 5), -3);
  std::vector<std::uint8_t> bytes(
      static_cast<std::size_t>(kPixels * stream_pixel_bytes(kUnits, StreamFormat::split)));
  std::set<int> places;
  for (int channel = 0; channel < kStride; ++channel) {
    const std::uint16_t first = to_half(-2), rest = to_half(-0x1.8p-14F);
    std::memcpy(&bytes[static_cast<std::size_t>(2 * (kStride + channel))], &first, 2);
    const int at = kPixels * kStride * 2 + rest_bytes(kUnits) + rest_byte(kUnits, channel);
    bytes[static_cast<std::size_t>(at)] = static_cast<std::uint8_t>(rest >> 8);
    EXPECT_TRUE(places.insert(at).second && at < static_cast<int>(bytes.size()));
    EXPECT_EQ(stream_number(bytes.data(), StreamFormat::fp16, kUnits, kPixels, 1, channel), -2);
    EXPECT_EQ(stream_number(bytes.data(), StreamFormat::split, kUnits, kPixels, 1, channel),
              -2 - 0x1.8p-14F);
    EXPECT_EQ(stream_number(bytes.data(), StreamFormat::split, kUnits, kPixels, 0, channel), 0);
  }
}

TEST(CudaPack, HalfRoundsToNearestEven) {
  EXPECT_EQ(from_half(to_half(2049.F)), 2048.F);
  EXPECT_EQ(from_half(to_half(2051.F)), 2052.F);
  EXPECT_EQ(from_half(to_half(65519.F)), 65504.F);
  EXPECT_TRUE(std::isinf(from_half(to_half(65520.F))));
  EXPECT_EQ(to_half(0x1p-25F), 0);
  EXPECT_EQ(to_half(0x1.8p-24F), 2);
  EXPECT_EQ(to_half(0x1.ffcp-15F), 0x0400);  // rounds up into the normal numbers
}

TEST(CudaPack, Bfloat16AndTf32Round) {
  EXPECT_EQ(to_bf16(1.F), 0x3f80);
  EXPECT_EQ(to_bf16(1.F + 0x1p-8F), 0x3f80);    // tie to even
  EXPECT_EQ(to_bf16(1.F + 0x1.8p-7F), 0x3f82);  // tie to even, upward
  EXPECT_EQ(std::bit_cast<float>(to_tf32_bits(1.F + 0x1p-11F)), 1.F + 0x1p-10F);  // away
  EXPECT_EQ(std::bit_cast<float>(to_tf32_bits(1.F + 0x1p-12F)), 1.F);
}

TEST(CudaPack, ScaleIsAPowerOfTwoThatFillsTheRange) {
  for (const float largest : {0.013F, 0.5F, 1.F, 3.7F, 256.F, 1000.F}) {
    const std::vector<float> w{-largest, largest / 3};
    const float scale = weight_scale(w);
    int exponent = 0;
    EXPECT_EQ(std::frexp(scale, &exponent), 0.5F);
    EXPECT_GT(scale * largest, 128.F);
    EXPECT_LE(scale * largest, 256.F);
  }
  EXPECT_EQ(weight_scale(std::vector<float>{0.F}), 1.F);
}

TEST(CudaPack, StreamOrderIsSortedByTap) {
  for (const char* name : {"elan_light_x4", "elan_x4"}) {
    const Network& net = network(name);
    const std::vector<int> order = stream_order(net);
    ASSERT_EQ(static_cast<int>(order.size()), 8 * layout_of(net.arch.channels).units);
    std::multiset<int> seen(order.begin(), order.end());
    for (int i = 0; i < net.arch.channels; ++i) EXPECT_EQ(seen.count(i), 1U);
    const auto& taps = net.body[0].lfe[0].conv0.taps;
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (order[i] < 0) continue;
      EXPECT_EQ(taps[order[i]], taps[order[i / 4 * 4]]);
    }
  }
}

TEST(CudaPack, StreamOrderFollowsOtherTaps) {
  Network net = network("elan_light_x4");
  auto& taps = net.body[0].lfe[0].conv0.taps;
  for (std::size_t i = 0; i < taps.size(); ++i) taps[i] = i % 2 == 0 ? 8 : 0;
  const std::vector<int> order = stream_order(net);
  for (int i = 0; i < 30; ++i) EXPECT_EQ(order[i], 2 * i);
  EXPECT_EQ(order[30], -1);
  EXPECT_EQ(order[32], 1);
}

TEST(CudaPack, HiddenGroupsHaveOneTapEach) {
  const std::vector<std::uint8_t> taps{5, 3, 5, 5, 3, 5, 5};
  const HiddenOrder h = hidden_order(taps, 4);
  EXPECT_EQ(h.taps, (std::vector<int>{3, 5, 5}));
  EXPECT_EQ(h.channels, (std::vector<int>{1, 4, -1, -1, 0, 2, 3, 5, 6, -1, -1, -1}));
}

TEST(CudaPack, ColumnsGiveALaneFourChannelsInARow) {
  for (const int channels : {60, 180}) {
    const ChannelLayout l = layout_of(channels);
    std::set<int> seen;
    for (int column = 0; column < 8 * l.units; ++column) seen.insert(column_channel(l, column));
    EXPECT_EQ(static_cast<int>(seen.size()), 8 * l.units);
    EXPECT_EQ(*seen.rbegin(), 8 * l.units - 1);
    for (int tile = 0; tile + 1 < l.units; tile += 2) {
      for (int t = 0; t < 4; ++t) {
        const int first = column_channel(l, tile * 8 + 2 * t);
        EXPECT_EQ(first % 4, 0);
        EXPECT_EQ(column_channel(l, tile * 8 + 2 * t + 1), first + 1);
        EXPECT_EQ(column_channel(l, tile * 8 + 8 + 2 * t), first + 2);
        EXPECT_EQ(column_channel(l, tile * 8 + 8 + 2 * t + 1), first + 3);
      }
    }
  }
}

// Reads the slab as the kernels do: for two units of k at a time, for every tile, both units.
TEST(CudaPack, SlabsHoldTheMatrixInOrderOfUse) {
  constexpr int kUnits = 5, kTiles = 3, kFirstUnit = 2, kFirstTile = 1;
  const auto value = [](int k, int column) {
    return static_cast<float>(k) + static_cast<float>(column) / 128.F;  // exact in 17 bits
  };
  for (const Operand operand : {Operand::fp16, Operand::bf16, Operand::tf32, Operand::fp32}) {
    const int words = weight_words(operand);
    std::vector<std::byte> slab(slab_bytes(kUnits, kTiles, words));
    pack_slab(slab, operand, kFirstUnit, kUnits, kFirstTile, kTiles, value);
    const auto word = [&](int lane, int w) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, slab.data() + w / 4 * 512 + lane * 16 + w % 4 * 4, sizeof bits);
      return bits;
    };
    const auto bf16 = [](std::uint32_t h) { return std::bit_cast<float>(h << 16); };
    const auto low = [](std::uint32_t w) {
      return from_half(static_cast<std::uint16_t>(w & 0xffffU));
    };
    const auto high = [](std::uint32_t w) {
      return from_half(static_cast<std::uint16_t>(w >> 16));
    };
    int at = 0;
    for (int u = 0; u < kUnits; u += 2) {
      for (int n = 0; n < kTiles; ++n) {
        for (int half = 0; half < (u + 1 < kUnits ? 2 : 1); ++half, at += words) {
          for (int lane = 0; lane < 32; ++lane) {
            const int k = 8 * (kFirstUnit + u + half) + 2 * (lane % 4);
            const int column = 8 * (kFirstTile + n) + lane / 4;
            const std::uint32_t w0 = word(lane, at), w1 = words == 2 ? word(lane, at + 1) : 0;
            float a = 0, b = 0;
            switch (operand) {
              case Operand::fp16:
              case Operand::int8:
              case Operand::fp8:
                a = low(w0);
                b = high(w0);
                break;
              case Operand::bf16:
                a = bf16(w0 & 0xffff);
                b = bf16(w0 >> 16);
                break;
              case Operand::tf32:
                a = std::bit_cast<float>(w0);
                b = std::bit_cast<float>(w1);
                break;
              case Operand::fp32:
                a = low(w0) + low(w1);
                b = high(w0) + high(w1);
                break;
            }
            const float tolerance = operand == Operand::fp32   ? 0.F
                                    : operand == Operand::bf16 ? 0.25F
                                                               : 0.04F;
            EXPECT_NEAR(a, value(k, column), tolerance);
            EXPECT_NEAR(b, value(k + 1, column), tolerance);
          }
        }
      }
    }
  }
}

TEST(CudaPack, CoreSlabsHoldRowsOfEightK) {
  constexpr int kUnits = 3, kTiles = 2;
  std::vector<std::byte> slab(core_slab_bytes(kUnits, kTiles));
  pack_core_slab(slab, Operand::fp16, kUnits, 1, kTiles,
                 [](int k, int column) { return static_cast<float>(32 * k + column); });
  for (int k = 0; k < 32; ++k) {
    for (int column = 0; column < 16; ++column) {
      std::uint16_t bits = 0;
      const int at = (k / 8 * kTiles + column / 8) * 128 + column % 8 * 16 + k % 8 * 2;
      std::memcpy(&bits, slab.data() + at, sizeof bits);
      EXPECT_EQ(from_half(bits), k < 24 ? static_cast<float>(32 * k + column + 8) : 0.F);
    }
  }
}

NetworkShape shape_of(const Network& net, const PairKind& kind) {
  NetworkShape shape;
  shape.channels = net.arch.channels;
  shape.scale = net.arch.scale;
  shape.body.assign(net.body.size(), kind);
  return shape;
}

// The weights of an ELAB are those that it would have if all were of its kind.
TEST(CudaPack, EveryElabIsPackedForItself) {
  const Network& net = network("elan_light_x4");
  const std::vector<PairKind> kinds{
      {Operand::fp16}, {Operand::fp32}, {Operand::bf16}, {Operand::tf32}};
  NetworkShape mixed = shape_of(net, kinds[0]);
  for (std::size_t i = 0; i < mixed.body.size(); ++i) mixed.body[i] = kinds[i % kinds.size()];
  const PackedNetwork p = pack_network(net, mixed);
  for (std::size_t k = 0; k < kinds.size(); ++k) {
    const PackedNetwork q = pack_network(net, shape_of(net, kinds[k]));
    for (std::size_t i = k; i < mixed.body.size(); i += kinds.size()) {
      for (std::size_t j = 0; j < p.body[i].size(); ++j) {
        const PackedPair &a = p.body[i][j], &b = q.body[i][j];
        const auto same = [&](std::size_t x, std::size_t to_x, std::size_t y) {
          return std::equal(p.data.begin() + static_cast<std::ptrdiff_t>(x),
                            p.data.begin() + static_cast<std::ptrdiff_t>(to_x),
                            q.data.begin() + static_cast<std::ptrdiff_t>(y));
        };
        EXPECT_TRUE(same(a.lfe.weights, a.lfe.bias_project, b.lfe.weights)) << i << ' ' << j;
        EXPECT_TRUE(same(a.out.weights, a.out.bias, b.out.weights)) << i << ' ' << j;
      }
    }
  }
}

TEST(CudaPack, WideSlabsHoldTwoPartsAUnit) {
  constexpr int kUnits = 3, kTiles = 2;
  const auto value = [](int k, int column) {
    return static_cast<float>(32 * k + column) + 0x1p-13F;  // 24 bits: two terms, or rounded off
  };
  for (const Operand operand : {Operand::tf32, Operand::fp32}) {
    for (const KOrder order : {KOrder::memory, KOrder::registers}) {
      std::vector<std::byte> slab(wide_slab_bytes(kUnits, kTiles));
      pack_wide_slab(slab, operand, order, kUnits, 1, kTiles, value);
      const auto at = [&](int unit, int part, int column, int byte, auto& to) {
        std::memcpy(
            &to,
            slab.data() + ((unit * 2 + part) * kTiles + column / 8) * 128 + column % 8 * 16 + byte,
            sizeof to);
      };
      for (int k = 0; k < 8 * kUnits; ++k) {
        for (int column = 0; column < 8 * kTiles; ++column) {
          const float wanted = value(k, column + 8);
          if (operand == Operand::fp32) {
            std::uint16_t high = 0, low = 0;
            at(k / 8, 0, column, k % 8 * 2, high);
            at(k / 8, 1, column, k % 8 * 2, low);
            EXPECT_EQ(high, to_half(wanted));
            EXPECT_EQ(low, to_half(wanted - from_half(high)));
          } else {
            // In registers a lane's two neighbours are its number in either part.
            std::uint32_t bits = 0;
            if (order == KOrder::registers) {
              at(k / 8, k % 2, column, k % 8 / 2 * 4, bits);
            } else {
              at(k / 8, k % 8 / 4, column, k % 4 * 4, bits);
            }
            EXPECT_EQ(bits, to_tf32_bits(wanted));
          }
        }
      }
    }
  }
}

TEST(CudaPack, PacksTheShippedModels) {
  for (const char* name : {"elan_light_x2", "elan_x4"}) {
    const Network& net = network(name);
    const PackedNetwork p = pack_network(net, shape_of(net, {Operand::fp16}));
    EXPECT_EQ(p.hidden_groups, 5);
    ASSERT_EQ(p.body.size(), net.body.size());
    EXPECT_TRUE(p.body[0][0].lfe.has_q);
    EXPECT_EQ(p.body[0].back().lfe.has_q, net.arch.pairs == 1);
    const PackedLfe& lfe = p.body[0][0].lfe;
    for (const std::size_t at :
         {lfe.weights, lfe.bias0, lfe.bias1, lfe.bias_project, p.tail.weights}) {
      EXPECT_EQ(at % 256, 0U);
      EXPECT_LT(at, p.data.size());
    }
  }
}

std::vector<float> floats_at(const PackedNetwork& p, std::size_t offset, std::size_t count) {
  std::vector<float> v(count);
  std::memcpy(v.data(), p.data.data() + offset, count * sizeof(float));
  return v;
}

// Logits are powers of two, and v's first padding channel counts.
TEST(CudaPack, ProjectInputStretchesQAndCountsInV) {
  for (const char* name : {"elan_light_x2", "elan_x4"}) {
    const Network& net = network(name);
    const ChannelLayout l = layout_of(net.arch.channels);
    const PackedNetwork p = pack_network(net, shape_of(net, {Operand::fp16}));
    const Linear project = net.body[0].gmsa[0].folded_project_inp();
    const int third = l.channels / 3, width = 8 * l.group_units;
    const std::vector<float> bias = floats_at(p, p.body[0][0].lfe.bias_project, 6U * width);
    for (int group = 0; group < 3; ++group) {
      for (int i = 0; i < width; ++i) {
        const float q = bias[group * width + i], v = bias[(3 + group) * width + i];
        if (i < third) {
          const int row = group * 2 * third + i;
          EXPECT_FLOAT_EQ(q, project.bias[row] * std::sqrt(std::log2(std::exp(1.F))));
          EXPECT_EQ(v, project.bias[row + third]);
        } else {
          EXPECT_EQ(q, 0.F);
          EXPECT_EQ(v, i == third ? 1.F : 0.F);
        }
      }
    }
  }
}

TEST(CudaPack, HopperProjectOutputLiesInCoreMatrices) {
  for (const char* model : {"elan_x4", "elan_light_x4"}) {
    const Network& net = network(model);
    const ChannelLayout l = layout_of(net.arch.channels);
    const bool narrow = l.channels == 60;
    const int tiles = narrow ? l.out_tiles : kHopperOutTiles, slabs = narrow ? 1 : kHopperOutSlabs;
    const int bytes = narrow ? kNarrowOutBytes : kHopperOutBytes;
    const int width = 8 * l.group_units, third = l.channels / kWindowGroups;
    const PackedNetwork p = pack_network(net, shape_of(net, {Operand::fp16, true}));
    const Linear& out = net.body[0].gmsa[0].project_out;
    const PackedOut& packed = p.body[0][0].out;
    double seen = 0;
    for (int k = 0; k < (3 * l.group_units + 1) / 2 * 16; ++k) {  // an even number of units
      for (int column = 0; column < 8 * tiles * slabs; ++column) {
        const int tile = column / 8 % tiles;
        const std::size_t at = packed.weights +
                               static_cast<std::size_t>(column / 8 / tiles) * bytes +
                               (k / 8 * tiles + tile) * 128 + column % 8 * 16 + k % 8 * 2;
        std::uint16_t bits = 0;
        std::memcpy(&bits, p.data.data() + at, sizeof bits);
        const int group = k / width;
        const int in = group < 3 && k % width < third ? group * third + k % width : -1;
        const int to = column < 8 * l.units ? p.order[column_channel(l, column)] : -1;
        if (to >= 0 && k % width == third && group < 2) {
          // Where attention makes 1: the bias in two terms.
          const float bias = out.bias[to], first = from_half(to_half(bias));
          ASSERT_EQ(bits, to_half(group == 0 ? bias : bias - first)) << k << " " << column;
          continue;
        }
        const float value = in < 0 || to < 0 ? 0.F : out.weight[to * out.in + in];
        ASSERT_EQ(bits, to_half(value)) << model << " " << k << " " << column;
        seen += std::abs(value);
      }
    }
    EXPECT_GT(seen, 0);
  }
}

// For every hidden group conv0 and conv1, then q and v.
TEST(CudaPack, TheNarrowLfeOfHopperReadsEveryChunkOnceByItsTap) {
  const Network& net = network("elan_light_x4");
  const PackedNetwork p = pack_network(net, shape_of(net, {Operand::fp16, true}));
  const Lfe& lfe = net.body[1].lfe[0];
  const PackedLfe& packed = p.body[1][0].lfe;
  const HiddenOrder hidden = hidden_order(lfe.conv1.taps, 24);
  std::vector<int> times(p.order.size());
  NarrowRead read;
  for (int i = 0; narrow_read(packed.chunk_y, packed.chunk_x, i, read); ++i) {
    ASSERT_LT(i, kNarrowReads);
    for (int k = 0; k < 8; ++k) {
      const int place = read.chunk / 2 * 8 + k, in = p.order[place];
      const bool its = k < 4 ? read.low : read.high;
      if (its && in >= 0) {
        const int tap = lfe.conv0.taps[in];
        EXPECT_EQ(packed.chunk_y[read.chunk], tap / 3 - 1) << place;
        EXPECT_EQ(packed.chunk_x[read.chunk], tap % 3 - 1) << place;
        ++times[place];
      }
      for (int column = 0; column < 24; ++column) {
        const int out = hidden.channels[24 + column];  // of the second group
        std::uint16_t bits = 0;
        std::memcpy(&bits,
                    p.data.data() + packed.weights + kNarrowConv0Bytes +
                        (i * 3 + column / 8) * 128 + column % 8 * 16 + k * 2,
                    sizeof bits);
        float wanted = its && in >= 0 && out >= 0 ? lfe.conv0.weight[out * 60 + in] : 0.F;
        if (i == kNarrowBiasRead && (k == kNarrowBiasK || k == kNarrowBiasK + 1)) {
          EXPECT_FALSE(its);
          wanted = out >= 0 ? lfe.conv0.bias[out] / kBiasOne : 0.F;
          if (k > kNarrowBiasK) wanted -= from_half(to_half(wanted));
        }
        EXPECT_EQ(bits, to_half(wanted)) << i << ' ' << k << ' ' << column;
      }
    }
  }
  for (std::size_t i = 0; i < times.size(); ++i) EXPECT_EQ(times[i], p.order[i] < 0 ? 0 : 1) << i;
}

TEST(CudaPack, HopperPacksWideOperandsInPartsOfUnits) {
  const Network& net = network("elan_x4");
  const ChannelLayout l = layout_of(180);
  const PackedNetwork p = pack_network(net, shape_of(net, {Operand::tf32, true}));
  const PackedLfe& lfe = p.body[0][0].lfe;
  const auto word = [&](std::size_t at) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, p.data.data() + at, sizeof bits);
    return bits;
  };
  // Of v's last window group the first channel, of which the middle of the stream is an input.
  const Linear project = net.body[0].gmsa[0].folded_project_inp();
  const std::size_t slab = lfe.weights +
                           static_cast<std::size_t>(lfe.groups) * wide_group_bytes(Operand::tf32) +
                           static_cast<std::size_t>(5) * wide_project_bytes();
  const int k = 83, in = p.order[column_channel(l, k)], row = 2 * 120 + 60;
  const std::uint32_t bits =
      word(slab + ((k / 8 * 2 + k % 2) * l.group_units) * 128 + k % 8 / 2 * 4);
  EXPECT_NE(bits, 0U);
  EXPECT_EQ(bits, to_tf32_bits(project.weight[row * project.in + in] / lfe.unscale_project));

  // project_out: from channel 5 of the windows of 16 to column 70, in the second slab.
  const Linear& project_out = net.body[0].gmsa[0].project_out;
  const PackedOut& out = p.body[0][0].out;
  const int from = 2 * 60 + 5, to = p.order[column_channel(l, 70)], unit = 2 * l.group_units;
  EXPECT_EQ(word(out.weights + kWideOutBytes + (unit * 2 + 1) * kHopperOutTiles * 128 + 6 * 16 + 8),
            to_tf32_bits(project_out.weight[to * project_out.in + from] / out.unscale));
}

// conv1 of fp32 comes in slabs of columns; the last one's last tile is empty.
TEST(CudaPack, HopperPacksColumnsOfSplitOperands) {
  const Network& net = network("elan_x4");
  const ChannelLayout l = layout_of(180);
  const PackedNetwork p = pack_network(net, shape_of(net, {Operand::fp32, true}));
  const PackedLfe& lfe = p.body[0][0].lfe;
  const ShiftConv& conv1 = net.body[0].lfe[0].conv1;
  const int tiles = wide_conv1_tiles(Operand::fp32);
  const HiddenOrder hidden = hidden_order(conv1.taps, 8 * l.hidden_tiles);
  for (const int k : {0, 21, 71}) {
    for (int column = 0; column < 8 * tiles * wide_conv1_pieces(Operand::fp32); ++column) {
      const int tile = column / 8, unit = k / 8;
      const auto at = static_cast<std::size_t>(wide_slab_bytes(l.units, l.hidden_tiles) +
                                               tile / tiles * wide_conv1_bytes(Operand::fp32) +
                                               (unit * 2 * tiles + tile % tiles) * 128 +
                                               column % 8 * 16 + k % 8 * 2);
      std::uint16_t high = 0;
      std::memcpy(&high, p.data.data() + lfe.weights + at, sizeof high);
      const int in = hidden.channels[static_cast<std::size_t>(k)];
      const int out = tile < l.units ? p.order[column_channel(l, column)] : -1;
      const float wanted =
          in < 0 || out < 0 ? 0.F : conv1.weight[out * conv1.in + in] / lfe.unscale1;
      EXPECT_EQ(high, to_half(wanted)) << k << ' ' << column;
    }
  }
}

TEST(CudaPack, RefusesWhatTheKernelsCannotRun) {
  const auto refused = [](const Network& net, const char* part) {
    try {
      check_network(net);
      ADD_FAILURE() << "accepted: " << part;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::model);
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
  };
  const Network& good = network("elan_light_x4");
  EXPECT_NO_THROW(check_network(good));
  Network net = good;
  net.arch.channels = 64;
  refused(net, "60 or 180 channels, found 64");
  net = good;
  net.arch.windows = {4, 8, 12};
  refused(net, "windows");
  net = good;
  net.arch.scale = 8;
  refused(net, "scale");
  net = good;
  net.body[1].lfe[0].conv0.taps.clear();
  refused(net, "one-hot");
  net = good;
  std::rotate(net.body[1].lfe[0].conv0.taps.begin(), net.body[1].lfe[0].conv0.taps.begin() + 2,
              net.body[1].lfe[0].conv0.taps.end());
  refused(net, "same groups");
}

}  // namespace
}  // namespace elan::cuda
