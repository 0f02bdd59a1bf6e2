// The 8-bit arithmetic of the reference against docs/quantization.md, written out with integers.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>
#include <vector>

#include "backend.h"
#include "model/checkpoint.h"
#include "model/reference.h"
#include "model/row_math.h"
#include "support/errors.h"
#include "support/quantized.h"

namespace elan::test {
namespace {

constexpr int kSide = 16;

Network small_int8() {
  return quantized(
      read_checkpoint(Safetensors::parse("m", serialise(make_elan(small_architecture())))).network);
}

Planar<float> noise() {
  Planar<float> picture(3, kSide, kSide);
  picture.values = Values(7)(picture.values.size(), 128, 127);
  return picture;
}

// acc for all pixels, [out][pixel].
std::vector<std::vector<std::int32_t>> products(const QuantizedMatrix& matrix,
                                                const std::vector<std::vector<int>>& xq) {
  std::vector<std::vector<std::int32_t>> acc(matrix.weight_scale.size());
  for (std::size_t o = 0; o < acc.size(); ++o) {
    for (std::size_t p = 0; p < xq[0].size(); ++p) {
      std::int32_t sum = 0;
      for (std::size_t i = 0; i < xq.size(); ++i)
        sum += matrix.weight[o * xq.size() + i] * xq[i][p];
      acc[o].push_back(sum);
    }
  }
  return acc;
}

std::vector<std::vector<int>> integers(const Planar<float>& x, float scale) {
  const auto inverse = static_cast<float>(1.0 / double(scale));
  std::vector<std::vector<int>> xq(x.channels);
  for (int c = 0; c < x.channels; ++c) {
    for (std::size_t p = 0; p < x.pixels(); ++p) {
      xq[c].push_back(
          std::clamp(static_cast<int>(std::nearbyint(x.plane(c)[p] * inverse)), -127, 127));
    }
  }
  return xq;
}

std::vector<std::vector<int>> shifted(const std::vector<std::vector<int>>& from,
                                      const std::vector<std::uint8_t>& taps) {
  std::vector<std::vector<int>> to(from.size(), std::vector<int>(from[0].size()));
  for (std::size_t c = 0; c < from.size(); ++c) {
    for (int y = 0; y < kSide; ++y) {
      for (int x = 0; x < kSide; ++x) {
        const int sy = y + taps[c] / 3 - 1, sx = x + taps[c] % 3 - 1;
        if (sy >= 0 && sy < kSide && sx >= 0 && sx < kSide) {
          to[c][y * kSide + x] = from[c][sy * kSide + sx];
        }
      }
    }
  }
  return to;
}

// Head, LFE and what follows, stopping after the first LFE.
TEST(Int8, LocalFeaturesAreTheSpecifiedIntegers) {
  const Network net = small_int8();
  Planar<float> before, after;
  forward<float>(
      net, noise(),
      [&](const std::string& name, const Planar<float>& value) {
        if (name == "head") before = value;
        if (name == "body.0.lfe.0") after = value;
      },
      Precision::int8);
  const ShiftConv &conv0 = net.body[0].lfe[0].conv0, &conv1 = net.body[0].lfe[0].conv1;
  const double s = conv0.int8->input_scale, t = conv1.int8->input_scale;
  const auto first =
      products(*conv0.int8, shifted(integers(before, conv0.int8->input_scale), conv0.taps));
  std::vector<std::vector<int>> hidden(first.size());
  int positive = 0;
  for (std::size_t o = 0; o < first.size(); ++o) {
    const auto factor = static_cast<float>(s * double(conv0.int8->weight_scale[o]) / t);
    const auto offset = static_cast<float>(double(conv0.bias[o]) / t);
    for (const std::int32_t acc : first[o]) {
      const float h = std::nearbyint(std::fma(static_cast<float>(acc), factor, offset));
      hidden[o].push_back(static_cast<int>(std::clamp(h, 0.0F, 127.0F)));
      positive += hidden[o].back() > 0 ? 1 : 0;
    }
  }
  ASSERT_GT(positive, 100);
  const auto second = products(*conv1.int8, shifted(hidden, conv1.taps));
  for (int o = 0; o < conv1.out; ++o) {
    const auto factor = static_cast<float>(t * double(conv1.int8->weight_scale[o]));
    for (std::size_t p = 0; p < before.pixels(); ++p) {
      const float y = std::fma(static_cast<float>(second[o][p]), factor, conv1.bias[o]);
      ASSERT_EQ(before.plane(o)[p] + y, after.plane(o)[p]) << o << " " << p;
    }
  }
}

TEST(Int8, ProjectionsUseTheirIntegers) {
  const Network net = small_int8();
  Planar<float> x, y;
  std::vector<float> out;
  forward<float>(
      net, noise(),
      [&](const std::string& name, const Planar<float>& value) {
        if (name == "body.0.lfe.0") x = value;
        if (name == "body.0.gmsa.0") out = value.values;
      },
      Precision::int8,
      [&](const std::string& name, const Planar<float>& value) {
        if (name == "body.0.gmsa.0.project_out") y = value;
      });
  const Gmsa& gmsa = net.body[0].gmsa[0];
  const auto acc = products(*gmsa.int8_out, integers(y, gmsa.int8_out->input_scale));
  for (int o = 0; o < gmsa.project_out.out; ++o) {
    const auto factor = static_cast<float>(double(gmsa.int8_out->input_scale) *
                                           double(gmsa.int8_out->weight_scale[o]));
    for (std::size_t p = 0; p < x.pixels(); ++p) {
      const float branch =
          std::fma(static_cast<float>(acc[o][p]), factor, gmsa.project_out.bias[o]);
      ASSERT_EQ(x.plane(o)[p] + branch, out[o * x.pixels() + p]);
    }
  }
}

// q or v as integers, [out][pixel].
std::vector<std::vector<int>> attention_integers(const Linear& linear, const QuantizedMatrix& int8,
                                                 const std::vector<std::vector<int>>& xq,
                                                 const std::array<float, 3>& scales) {
  const auto acc = products(int8, xq);
  std::vector<std::vector<int>> levels(acc.size());
  for (std::size_t o = 0; o < acc.size(); ++o) {
    const double t = scales.at(o / (acc.size() / 3));
    const auto factor =
        static_cast<float>(double(int8.input_scale) * double(int8.weight_scale[o]) / t);
    const auto offset = static_cast<float>(double(linear.bias[o]) / t);
    for (const std::int32_t sum : acc[o]) {
      const float level = std::nearbyint(std::fma(static_cast<float>(sum), factor, offset));
      levels[o].push_back(static_cast<int>(std::clamp(level, -127.0F, 127.0F)));
    }
  }
  return levels;
}

// The first pair, whose windows start at the corner, and the second, which uses its attention.
TEST(Int8, AttentionIsTheSpecifiedIntegers) {
  const Network net = with_int8_attention(small_int8());
  std::vector<Planar<float>> before(2), after(2);
  std::vector<std::string> watched;
  forward<float>(
      net, noise(),
      [&](const std::string& name, const Planar<float>& value) {
        if (name == "body.0.lfe.0") before[0] = value;
        if (name == "body.0.lfe.1") before[1] = value;
      },
      Precision::int8,
      [&](const std::string& name, const Planar<float>& value) {
        watched.push_back(name);
        if (name == "body.0.gmsa.0.project_out") after[0] = value;
        if (name == "body.0.gmsa.1.project_out") after[1] = value;
      });
  EXPECT_EQ(std::count(watched.begin(), watched.end(), "body.0.gmsa.0.qk"), 0);
  const Gmsa& first = net.body[0].gmsa[0];
  const int group = net.arch.channels / 3;
  const auto q = attention_integers(first.projection_q(), *first.int8_q,
                                    integers(before[0], first.int8_q->input_scale),
                                    first.int8_attention->q_scale);
  int clipped = 0, partial = 0;
  for (const int pair : {0, 1}) {
    const Gmsa& gmsa = net.body[0].gmsa[pair];
    const auto v = attention_integers(gmsa.projection_v(), *gmsa.int8_v,
                                      integers(before[pair], gmsa.int8_v->input_scale),
                                      gmsa.int8_attention->v_scale);
    for (int g = 0; g < 3; ++g) {
      const double scale = first.int8_attention->q_scale[g];
      const auto octaves = static_cast<float>(scale * scale * std::numbers::log2e);
      const int window = net.arch.windows[g];
      for (int i = 0; i < kSide * kSide; ++i) {
        std::vector<int> keys, scores;
        for (int j = 0; j < kSide * kSide; ++j) {
          if (i / kSide / window != j / kSide / window) continue;
          if (i % kSide / window != j % kSide / window) continue;
          int score = 0;
          for (int c = g * group; c < (g + 1) * group; ++c) score += q[c][i] * q[c][j];
          keys.push_back(j);
          scores.push_back(score);
        }
        const int largest = *std::max_element(scores.begin(), scores.end());
        std::vector<int> e;
        int total = 0;
        for (const int score : scores) {
          const float power = octaves * static_cast<float>(score - largest);
          e.push_back(static_cast<int>(std::nearbyint(255 * std::exp2(double(power)))));
          total += e.back();
          partial += e.back() > 0 && e.back() < 255 ? 1 : 0;
          clipped += e.back() == 0 ? 1 : 0;
        }
        const float factor = gmsa.int8_attention->v_scale[g] / static_cast<float>(total);
        for (int c = g * group; c < (g + 1) * group; ++c) {
          int sum = 0;
          for (std::size_t k = 0; k < keys.size(); ++k) sum += e[k] * v[c][keys[k]];
          ASSERT_EQ(after[pair].plane(c)[i], static_cast<float>(sum) * factor)
              << pair << " " << c << " " << i;
        }
      }
    }
  }
  EXPECT_GT(partial, 1000);
  EXPECT_GT(clipped, 1000);
}

// All parts of an attention must be wanted in 8 bits; else it is what it is without scales.
TEST(Int8, AttentionRunsInEightBitsAsAWhole) {
  const Network plain = small_int8(), net = with_int8_attention(plain);
  const auto run = [](const Network& network, const char* rules) {
    return forward<float>(
               network, noise(), [](const std::string&, const Planar<float>&) {},
               PrecisionPlan::parse(rules, "plan", Precision::int8))
        .values;
  };
  const char* const all = R"({"default": "int8"})";
  EXPECT_NE(run(net, all), run(plain, all));
  for (const char* rules : {R"({"default": "int8", "body.*.qk": "fp32"})",
                            R"({"default": "int8", "*.1.av": "fp32"})"}) {
    EXPECT_EQ(run(net, rules), run(plain, rules)) << rules;
  }
  EXPECT_NE(run(net, R"({"default": "int8", "*.project_inp.*": "fp32"})"),
            run(plain, R"({"default": "int8", "*.project_inp.*": "fp32"})"));
}

// q and v, each in 8 bits or not, change the result; what has no integers runs in fp32.
TEST(Int8, EveryMatrixCounts) {
  const Network plain =
      read_checkpoint(Safetensors::parse("m", serialise(make_elan(small_architecture())))).network;
  const auto run = [](const Network& net, Precision precision) {
    return forward<float>(
               net, noise(), [](const std::string&, const Planar<float>&) {}, precision)
        .values;
  };
  for (const std::string only : {"conv0", "conv1", "q", "v", "project_out"}) {
    const Network net = quantized(plain, [&](std::string_view name) { return name == only; });
    EXPECT_NE(run(net, Precision::int8), run(net, Precision::fp32)) << only;
  }
  const Network none = quantized(plain, [](std::string_view) { return false; });
  EXPECT_EQ(run(none, Precision::int8), run(none, Precision::fp32));
}

TEST(Int8, ReferenceRefusesItWithoutScales) {
  const auto plain = std::make_shared<const Network>(
      read_checkpoint(Safetensors::parse("m", serialise(make_elan(small_architecture())))).network);
  EXPECT_NE(error_of(ErrorKind::usage, [&] { make_reference_backend(plain, Precision::int8); }),
            "");
  const auto int8 = std::make_shared<const Network>(small_int8());
  EXPECT_EQ(make_reference_backend(int8, Precision::int8)->precision(), Precision::int8);
}

TEST(RowMath, RoundsHalvesToEvenAndClamps) {
  std::vector<float> v{0.5F, 1.5F, -2.5F, 126.5F, 127.5F, -400, 3e38F, std::nanf("")};
  quantize_row(v.data(), 1, v.size());
  EXPECT_EQ(v, (std::vector<float>{0, 2, -2, 126, 127, -127, 127, -127}));
  std::vector<float> h{1, 3, -1, 2000};
  rescale_row(h.data(), 0.5F, 0, true, h.size());
  EXPECT_EQ(h, (std::vector<float>{0, 2, 0, 127}));
}

// Rows that fill no vector, and more outputs than are computed together.
TEST(RowMath, MultipliesRaggedRows) {
  constexpr int kOut = 7, kIn = 5;
  for (const std::size_t count : {1U, 31U, 32U, 45U}) {
    const std::size_t stride = 64;
    const auto weight = Values(1)(kOut * kIn), bias = Values(2)(kOut);
    const auto x = Values(3)(kIn * stride);
    std::vector<float> y(kOut * count + 1, 9);
    multiply_rows(weight.data(), bias.data(), kOut, kIn, x.data(), stride, y.data(), count, count);
    for (int o = 0; o < kOut; ++o) {
      for (std::size_t p = 0; p < count; ++p) {
        float expected = bias[o];
        for (int i = 0; i < kIn; ++i) {
          const volatile float product = weight[o * kIn + i] * x[i * stride + p];
          expected += product;
        }
        EXPECT_EQ(y[o * count + p], expected);
      }
    }
    EXPECT_EQ(y.back(), 9);
  }
}

}  // namespace
}  // namespace elan::test
