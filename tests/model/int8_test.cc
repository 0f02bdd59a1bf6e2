// The 8-bit arithmetic of the reference against docs/quantization.md, written out with integers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
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
