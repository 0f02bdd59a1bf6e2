// The kernels of every usable instruction set and data type against plain loops in double.
#include "cpu/kernels.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "cpu/buffer.h"

namespace elan::cpu {
namespace {

float rounded(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return std::bit_cast<float>((bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u);
}

using Planes = std::vector<std::vector<float>>;  // [channel][pixel]

class CpuKernels : public testing::TestWithParam<std::tuple<Isa, Operand>> {
 protected:
  const Operand operand_ = std::get<1>(GetParam());
  const Kernels& k_ = kernels(std::get<0>(GetParam()));
  const int pack_ = pack_of(operand_);
  std::minstd_rand random_{7};

  float value(float spread) {
    const float v = spread * (static_cast<float>(random_() % 20001) / 10000.0f - 1.0f);
    return operand_ == Operand::fp32 ? v : rounded(v);
  }
  Planes planes(int count, std::size_t size, float spread) {
    Planes p(count, std::vector<float>(size));
    for (auto& plane : p) {
      for (float& v : plane) v = value(spread);
    }
    return p;
  }
  // Channels to operand words, several of a pixel to a word.
  Buffer<Word> packed(const Planes& p) const {
    const std::size_t steps = (p.size() + pack_ - 1) / pack_, size = p[0].size();
    Buffer<Word> words(steps * size);
    for (std::size_t s = 0; s < steps; ++s) {
      for (std::size_t i = 0; i < size; ++i) {
        const std::size_t c = s * pack_;
        const float second = pack_ == 2 && c + 1 < p.size() ? p[c + 1][i] : 0.0f;
        words[s * size + i] = word(p[c][i], second);
      }
    }
    return words;
  }
  Word word(float first, float second) const {
    if (pack_ == 1) return first;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(second) |
                                std::bit_cast<std::uint32_t>(first) >> 16);
  }
  // Channel `c` of pixel `i` of packed planes of `size` words.
  float unpacked(const Word* words, int c, std::size_t i, std::size_t size) const {
    const auto bits = std::bit_cast<std::uint32_t>(words[c / pack_ * size + i]);
    if (pack_ == 1) return std::bit_cast<float>(bits);
    return std::bit_cast<float>(c % 2 == 0 ? bits << 16 : bits & 0xffff0000u);
  }
  // How much a stored operand may differ from the exact value.
  double tolerance(double exact) const {
    return operand_ == Operand::fp32 ? 1e-5 * (1 + std::abs(exact)) : 6e-3 * (1 + std::abs(exact));
  }
};

TEST_P(CpuKernels, ProductsOfEveryShapeAreRight) {
  for (const auto& [outs, block] : {std::pair(12, 6), std::pair(10, 6), std::pair(8, 4),
                                    std::pair(2, 6), std::pair(pack_ == 1 ? 15 : 4, 5)}) {
    const int in = 14;
    const Planes x = planes(in, kHaloPlane, 1);
    const Planes w = planes(outs, in, 1);
    const Buffer<Word> words = packed(x);
    const int steps = in / pack_;
    Buffer<Word> weights(static_cast<std::size_t>(outs) * steps);
    Word* at = weights.data();
    for (int first = 0; first < outs; first += block) {
      for (int s = 0; s < steps; ++s) {
        for (int o = first; o < std::min(outs, first + block); ++o) {
          *at++ = word(w[o][s * pack_], w[o][s * pack_ + pack_ - 1]);
        }
      }
    }
    Buffer<std::int32_t> offsets(steps);
    const auto tap = [](int s) { return s % 3 - 1 + (s % 2) * kHaloStride; };
    for (int s = 0; s < steps; ++s) offsets[s] = s * kHaloPlane + tap(s);
    Buffer<float> bias(outs), values(static_cast<std::size_t>(outs) * kTilePixels),
        residual(static_cast<std::size_t>(outs) * kTilePixels);
    Buffer<Word> operand(static_cast<std::size_t>(outs) * kTilePixels);
    for (int o = 0; o < outs; ++o) bias[o] = 0.1f * static_cast<float>(o) - 0.5f;
    for (std::size_t i = 0; i < residual.size(); ++i) residual[i] = value(2);
    const Matrix matrix{outs, steps, block, weights.data(), bias.data(), offsets.data(), operand_};
    const auto exact = [&](int o, int pixel) {
      double sum = bias[o];
      for (int c = 0; c < in; ++c) {
        const int s = c / pack_;
        sum += double{w[o][c]} *
               x[c][kHaloOrigin + pixel / kTile * kHaloStride + pixel % kTile + tap(s)];
      }
      return sum;
    };
    for (const Store store :
         {Store::values, Store::residual, Store::operand, Store::operand_relu, Store::keys}) {
      k_.product({&matrix,
                  words.data() + kHaloOrigin,
                  kHaloStride,
                  store,
                  values.data(),
                  residual.data(),
                  operand.data(),
                  {operand_, 1}});
      for (int o = 0; o < outs; ++o) {
        for (int i = 0; i < kTilePixels; ++i) {
          double y = exact(o, i);
          if (store == Store::residual) y += residual[o * kTilePixels + i];
          if (store == Store::operand_relu) y = std::max(y, 0.0);
          if (store == Store::values || store == Store::residual) {
            ASSERT_NEAR(values[o * kTilePixels + i], y, 1e-5 * (1 + std::abs(y))) << o << " " << i;
          }
          if (store == Store::values) continue;
          const float stored =
              store == Store::keys && pack_ == 2
                  ? std::bit_cast<float>(
                        i % 2 == 0
                            ? std::bit_cast<std::uint32_t>(operand[(o * kTilePixels + i) / 2]) << 16
                            : std::bit_cast<std::uint32_t>(operand[(o * kTilePixels + i) / 2]) &
                                  0xffff0000u)
              : store == Store::keys ? operand[o * kTilePixels + i]
                                     : unpacked(operand.data(), o, i, kTilePixels);
          ASSERT_NEAR(stored, y, tolerance(y)) << static_cast<int>(store) << " " << o << " " << i;
        }
      }
    }
  }
}

TEST_P(CpuKernels, AttentionIsRightForSmallAndForLargeScores) {
  for (const int window : {4, 8, 16}) {
    for (const int channels : {5, 20}) {
      for (const float spread : {0.3f, 12.0f}) {  // scores up to about 10 and 10,000
        Planes q = planes(channels, kTilePixels, spread);
        // Queries far shorter than some keys: their reference has to move.
        for (auto& plane : q) {
          for (int i = 0; i < kTilePixels; i += 3) plane[i] *= 0.125f;
        }
        const Planes v = planes(channels, kTilePixels, 3);
        const Buffer<Word> words = packed(q);
        Buffer<Word> keys(static_cast<std::size_t>(channels) * kTilePixels / pack_);
        for (int c = 0; c < channels; ++c) {
          for (int i = 0; i < kTilePixels; i += pack_) {
            keys[(c * kTilePixels + i) / pack_] = word(v[c][i], v[c][i + pack_ - 1]);
          }
        }
        Buffer<Word> out(static_cast<std::size_t>(channels + 1) * kTilePixels);
        Buffer<float> scratch(attention_scratch(channels));
        k_.attention({operand_,
                      words.data(),
                      keys.data(),
                      channels,
                      window,
                      scratch.data(),
                      out.data(),
                      {operand_, 1}});
        for (int i = 0; i < kTilePixels; ++i) {
          const int top = i / kTile / window * window, left = i % kTile / window * window;
          std::vector<double> scores;
          std::vector<int> where;
          for (int n = 0; n < window * window; ++n) {
            const int j = (top + n / window) * kTile + left + n % window;
            double s = 0;
            for (int c = 0; c < channels; ++c) s += double{q[c][i]} * q[c][j];
            scores.push_back(s / score_scale(operand_));
            where.push_back(j);
          }
          const double most = *std::max_element(scores.begin(), scores.end());
          double total = 0;
          for (double& s : scores) total += s = std::exp2(s - most);
          for (int c = 0; c < channels; ++c) {
            double y = 0;
            for (std::size_t n = 0; n < where.size(); ++n) y += scores[n] * v[c][where[n]] / total;
            // A score of 10,000 has an error of about 1e-3 in FP32; BF16 rounds the powers.
            const double limit = operand_ == Operand::fp32 ? (spread > 1 ? 2e-2 : 2e-5) : 5e-2;
            ASSERT_NEAR(unpacked(out.data(), c, i, kTilePixels), y, limit)
                << "window " << window << " channel " << c << " pixel " << i;
          }
        }
      }
    }
  }
}

TEST_P(CpuKernels, HaloComesFromTheRightNeighbours) {
  constexpr int kChannels = 6;
  std::vector<std::vector<float>> tiles(9);
  for (auto& tile : tiles) {
    tile.resize(kChannels * kTilePixels);
    for (float& v : tile) v = value(5);
  }
  const std::vector<std::int32_t> order{2, 0, 5, -1, 1, 3};
  for (const int missing : {-1, 1, 3, 8}) {
    HaloTask task;
    task.operand = operand_;
    for (int i = 0; i < 9; ++i) task.x[i] = i == missing ? nullptr : tiles[i].data();
    task.channels = order.data();
    task.steps = static_cast<int>(order.size()) / pack_;
    Buffer<Word> out(static_cast<std::size_t>(task.steps) * kHaloPlane);
    task.out = out.data();
    if (pack_ == 1) task.steps = static_cast<int>(order.size());
    k_.halo(task);
    for (std::size_t c = 0; c < order.size(); ++c) {
      for (int y = -kHalo; y < kTile + kHalo; ++y) {
        for (int x = -kHalo; x < kTile + kHalo; ++x) {
          const int tile = (y + kTile) / kTile * 3 + (x + kTile) / kTile;
          const float expected =
              order[c] < 0 || tile == missing
                  ? 0.0f
                  : tiles[tile][order[c] * kTilePixels + (y + kTile) % kTile * kTile +
                                (x + kTile) % kTile];
          ASSERT_EQ(unpacked(out.data() + kHaloOrigin + y * kHaloStride + x, static_cast<int>(c), 0,
                             kHaloPlane),
                    expected)
              << c << " " << y << " " << x;
        }
      }
    }
  }
}

TEST_P(CpuKernels, RollingThereAndBackMovesPixels) {
  for (const int pixels : {1, pack_}) {
    const int row = kTile / pixels, plane = kTilePixels / pixels;
    std::vector<std::vector<Word>> tiles(4, std::vector<Word>(3 * plane));
    float next = 1;
    for (auto& tile : tiles) {
      for (Word& w : tile) w = next++;
    }
    for (const int roll : {2, 4, 8, 12, 14}) {
      if (pixels == 2 && roll > 8) continue;  // only q and v are rolled as pairs of pixels
      std::vector<Word> out(3 * plane);
      k_.roll({{tiles[0].data(), tiles[1].data(), tiles[2].data(), tiles[3].data()},
               roll,
               3,
               pixels,
               out.data()});
      for (int c = 0; c < 3; ++c) {
        for (int y = 0; y < kTile; ++y) {
          for (int x = 0; x < row; ++x) {
            const int from_y = y + roll, from_x = x + roll / pixels;
            const auto& tile = tiles[from_y / kTile * 2 + from_x / row];
            ASSERT_EQ(out[c * plane + y * row + x],
                      tile[c * plane + from_y % kTile * row + from_x % row])
                << roll << " " << y << " " << x;
          }
        }
      }
    }
  }
}

TEST_P(CpuKernels, ShufflingRoundsHalfToEvenAndClamps) {
  for (const int scale : {1, 2, 3, 4}) {
    std::vector<float> y(3 * scale * scale * kTilePixels);
    for (float& v : y) v = static_cast<float>(random_() % 1200) / 4.0f - 25.0f;
    const float mean[3] = {0.25f, 0, -0.25f};
    Buffer<float> scratch(shuffle_scratch(scale));
    const int width = kTile * scale - 3, height = kTile * scale - 1;
    std::vector<std::uint8_t> bytes(3 * width * height);
    std::vector<std::uint16_t> words(bytes.size());
    std::vector<float> floats(bytes.size());
    k_.shuffle({y.data(), scale, mean, view_of(bytes.data(), width, height), scratch.data()});
    k_.shuffle({y.data(), scale, mean, view_of(words.data(), width, height), scratch.data()});
    k_.shuffle({y.data(), scale, mean, view_of(floats.data(), width, height), scratch.data()});
    for (int i = 0; i < width * height; ++i) {
      const int px = i % width, py = i / width;
      for (int c = 0; c < 3; ++c) {
        const int plane = (c * scale + py % scale) * scale + px % scale;
        const float exact = y[plane * kTilePixels + py / scale * kTile + px / scale] + mean[c];
        const auto clamped = [](float v, float top) { return std::min(std::max(v, 0.0f), top); };
        ASSERT_EQ(floats[3 * i + c], exact);
        ASSERT_EQ(static_cast<float>(bytes[3 * i + c]), std::nearbyint(clamped(exact, 255)));
        ASSERT_EQ(static_cast<float>(words[3 * i + c]),
                  std::nearbyint(clamped(exact * 257, 65535)));
      }
    }
  }
}

// 8-bit operands: every instruction set gives the same bits as plain integers.
class CpuInt8Kernels : public testing::TestWithParam<Isa> {
 protected:
  const Kernels& k_ = kernels(GetParam());
  std::minstd_rand random_{11};

  int byte() { return static_cast<int>(random_() % 255) - 127; }
  // Four channels to a word, as operands are stored (`zero` added) or as weights are.
  static Word word(const int* channels, int zero) {
    std::uint32_t bits = 0;
    for (int i = 0; i < 4; ++i) {
      bits |= std::uint32_t{static_cast<std::uint8_t>(channels[i] + zero)} << (8 * i);
    }
    return std::bit_cast<float>(bits);
  }
  // Channel `c` of a pixel whose first word is at `words`, the next `plane` words on.
  [[nodiscard]] int stored(const Word* words, int c, int plane) const {
    const auto bits = std::bit_cast<std::uint32_t>(words[c / 4 * plane]);
    return static_cast<std::int8_t>((bits >> (c % 4 * 8)) - k_.zero_byte);
  }
  static int rounded(float value, int low) {
    return static_cast<int>(std::min(std::max(std::nearbyint(value), float(low)), 127.0f));
  }
};

TEST_P(CpuInt8Kernels, ProductsAreExactIntegersAndRoundAlike) {
  struct Case {
    int outs, in;
    bool extreme;
  };
  for (const Case c : {Case{12, 16, false}, Case{7, 8, false}, Case{5, 1040, true}}) {
    const int steps = c.in / 4;
    Buffer<Word> in(static_cast<std::size_t>(steps) * kTilePixels), weights(c.outs * steps);
    std::vector<std::vector<int>> x(c.in, std::vector<int>(kTilePixels)),
        w(c.outs, std::vector<int>(c.in));
    for (auto& plane : x) {
      for (int& v : plane) v = c.extreme ? (random_() % 8 == 0 ? -127 : 127) : byte();
    }
    for (auto& row : w) {
      for (int& v : row) v = c.extreme ? (random_() % 8 == 0 ? 127 : -127) : byte();
    }
    Buffer<float> bias(c.outs), scale(c.outs), residual(c.outs * kTilePixels),
        values(c.outs * kTilePixels);
    Buffer<std::int32_t> start(c.outs), offsets(steps);
    Buffer<Word> operand((c.outs + 3) * kTilePixels);
    Word* at = weights.data();
    for (int first = 0; first < c.outs; first += 4) {
      for (int s = 0; s < steps; ++s) {
        for (int o = first; o < std::min(first + 4, c.outs); ++o) *at++ = word(&w[o][4 * s], 0);
      }
    }
    for (int s = 0; s < steps; ++s) {
      offsets[s] = s * kTilePixels;
      for (int i = 0; i < kTilePixels; ++i) {
        const int channels[4] = {x[4 * s][i], x[4 * s + 1][i], x[4 * s + 2][i], x[4 * s + 3][i]};
        in[offsets[s] + i] = word(channels, k_.zero_byte);
      }
    }
    for (int o = 0; o < c.outs; ++o) {
      bias[o] = 0.37f * static_cast<float>(o) - 1;
      scale[o] = (1 + 0.1f * static_cast<float>(o)) / static_cast<float>(c.in * 100);
      start[o] = 0;
      for (const int v : w[o]) start[o] -= v * k_.zero_byte;
    }
    for (std::size_t i = 0; i < residual.size(); ++i) residual[i] = static_cast<float>(byte()) / 9;
    const Matrix matrix{c.outs,         steps,        4,
                        weights.data(), bias.data(),  offsets.data(),
                        Operand::int8,  scale.data(), start.data()};
    const auto check = [&](Store store, float inverse) {
      k_.product({&matrix,
                  in.data(),
                  kTile,
                  store,
                  values.data(),
                  residual.data(),
                  operand.data(),
                  {Operand::int8, inverse}});
      for (int o = 0; o < c.outs; ++o) {
        for (int i = 0; i < kTilePixels; ++i) {
          int sum = 0;
          for (int k = 0; k < c.in; ++k) sum += w[o][k] * x[k][i];
          float y = std::fma(static_cast<float>(sum), scale[o], bias[o]);
          if (store == Store::residual) y += residual[o * kTilePixels + i];
          if (store == Store::values || store == Store::residual) {
            ASSERT_EQ(values[o * kTilePixels + i], y) << c.in << " " << o << " " << i;
          }
          ASSERT_EQ(stored(operand.data() + i, o, kTilePixels),
                    rounded(y * inverse, store == Store::operand_relu ? 0 : -127))
              << c.in << " " << static_cast<int>(store) << " " << o << " " << i;
        }
      }
    };
    for (const Store store :
         {Store::values, Store::residual, Store::operand, Store::operand_relu}) {
      for (const float inverse : {0.71f, 1.0f}) check(store, inverse);
    }
  }
}

TEST_P(CpuInt8Kernels, HalvesRoundToEvenAndLargeValuesSaturate) {
  constexpr int kRows = 6;
  std::vector<float> values(kRows * kTilePixels);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = i % 7 == 0   ? 1e12f * static_cast<float>(byte())
                : i % 3 == 0 ? static_cast<float>(byte()) / 4 + 0.25f
                             : static_cast<float>(byte()) * 4;
  }
  Buffer<Word> operand(2 * kTilePixels);
  k_.pack({values.data(), kRows, operand.data(), {Operand::int8, 2}});
  for (int c = 0; c < kRows; ++c) {
    for (int i = 0; i < kTilePixels; ++i) {
      ASSERT_EQ(stored(operand.data() + i, c, kTilePixels),
                rounded(values[c * kTilePixels + i] * 2, -127))
          << values[c * kTilePixels + i];
    }
  }
}

TEST_P(CpuInt8Kernels, HaloMovesWordsAndHasZerosOutside) {
  constexpr int kSteps = 3;
  std::vector<std::vector<Word>> tiles(9, std::vector<Word>(kSteps * kTilePixels));
  for (auto& tile : tiles) {
    for (Word& w : tile) w = std::bit_cast<float>(static_cast<std::uint32_t>(random_()));
  }
  HaloTask task;
  task.operand = Operand::int8;
  for (int i = 0; i < 9; ++i) task.x[i] = i == 2 || i == 3 ? nullptr : tiles[i].data();
  task.steps = kSteps;
  Buffer<Word> out(kSteps * kHaloPlane);
  task.out = out.data();
  k_.halo(task);
  for (int s = 0; s < kSteps; ++s) {
    for (int y = -kHalo; y < kTile + kHalo; ++y) {
      for (int x = -kHalo; x < kTile + kHalo; ++x) {
        const int tile = (y + kTile) / kTile * 3 + (x + kTile) / kTile;
        const Word expected =
            task.x[tile] == nullptr
                ? zero_word(k_, Operand::int8)
                : tiles[tile][s * kTilePixels + (y + kTile) % kTile * kTile + (x + kTile) % kTile];
        ASSERT_EQ(
            std::bit_cast<std::uint32_t>(out[s * kHaloPlane + kHaloOrigin + y * kHaloStride + x]),
            std::bit_cast<std::uint32_t>(expected))
            << s << " " << y << " " << x;
      }
    }
  }
}

// What comes out of other operations becomes the operand that its values round to.
TEST_P(CpuInt8Kernels, OperationsInFloatingPointStoreWhatTheirValuesRoundTo) {
  constexpr int kChannels = 10;
  for (const Operand operand : {Operand::fp32, k_.half}) {
    const int pack = pack_of(operand);
    Buffer<Word> q(kChannels * kTilePixels), v(kChannels * kTilePixels), bytes(3 * kTilePixels),
        values(kChannels * kTilePixels);
    for (std::size_t i = 0; i < q.size(); ++i) {
      const float a = static_cast<float>(byte()) / 256, b = static_cast<float>(byte()) / 16;
      const auto word_of = [&](float x) {  // both halves, if it is a pair
        const auto bits = std::bit_cast<std::uint32_t>(x) & 0xffff0000u;
        return std::bit_cast<float>(pack == 2 ? bits | bits >> 16 : bits);
      };
      q[i] = word_of(a);
      v[i] = word_of(b);
    }
    Buffer<float> scratch(attention_scratch(kChannels));
    for (const int window : {4, 16}) {
      AttentionTask task{operand, q.data(),       v.data(),      kChannels,
                         window,  scratch.data(), values.data(), {Operand::fp32, 1}};
      k_.attention(task);
      task.out = bytes.data();
      task.format = {Operand::int8, 16};
      k_.attention(task);
      bool zeros = true;
      for (int c = 0; c < kChannels; ++c) {
        for (int i = 0; i < kTilePixels; ++i) {
          const int expected = rounded(values[c * kTilePixels + i] * 16, -127);
          zeros &= expected == 0;
          ASSERT_EQ(stored(bytes.data() + i, c, kTilePixels), expected) << c << " " << i;
        }
      }
      EXPECT_FALSE(zeros);
    }
  }
}

// Integers as specified, but for those that a last bit of a power of two decides.
TEST_P(CpuInt8Kernels, AttentionIsThatOfIntegers) {
  struct Case {
    int channels, spread;
    float octaves;
  };
  for (const Case c : {Case{5, 127, 2e-4f}, Case{20, 40, 1e-3f}, Case{2, 127, 1e-9f},
                       Case{20, 127, 0.02f}, Case{5, 127, 200.0f}, Case{128, 127, 1e-4f}}) {
    const int steps = (c.channels + 3) / 4;
    std::vector<std::vector<int>> q(4 * steps, std::vector<int>(kTilePixels)),
        v(c.channels, std::vector<int>(kTilePixels));
    for (int channel = 0; channel < c.channels; ++channel) {
      for (int i = 0; i < kTilePixels; ++i) {
        q[channel][i] = byte() * c.spread / 127;
        v[channel][i] = channel == 0 ? (c.channels == 2 ? 127 : -127) : byte();
      }
    }
    Buffer<Word> queries(steps * kTilePixels), keys(c.channels * kTilePixels / 4),
        out(c.channels * kTilePixels), bytes(steps * kTilePixels);
    for (int i = 0; i < kTilePixels; ++i) {
      for (int s = 0; s < steps; ++s) {
        const int channels[4] = {q[4 * s][i], q[4 * s + 1][i], q[4 * s + 2][i], q[4 * s + 3][i]};
        queries[s * kTilePixels + i] = word(channels, k_.zero_byte);
      }
    }
    for (int channel = 0; channel < c.channels; ++channel) {
      for (int i = 0; i < kTilePixels; i += 4) {
        keys[(channel * kTilePixels + i) / 4] = word(&v[channel][i], 0);
      }
    }
    Buffer<float> scratch(attention_scratch(c.channels));
    for (const int window : {4, 8, 16}) {
      AttentionTask task{Operand::int8,  queries.data(), keys.data(), c.channels, window,
                         scratch.data(), out.data(),     {},          c.octaves,  0.25f};
      k_.attention(task);
      task.out = bytes.data();
      task.format = {Operand::int8, 4};
      k_.attention(task);
      double difference = 0, magnitude = 0;
      for (int i = 0; i < kTilePixels; ++i) {
        const auto window_of = [&](int p) {
          return p / kTile / window * kTile + p % kTile / window;
        };
        std::vector<int> scores(kTilePixels);
        int largest = -(1 << 24);
        for (int j = 0; j < kTilePixels; ++j) {
          for (int k = 0; k < c.channels; ++k) scores[j] += q[k][i] * q[k][j];
          if (window_of(i) == window_of(j)) largest = std::max(largest, scores[j]);
        }
        std::vector<int> e(kTilePixels);
        int total = 0;
        for (int j = 0; j < kTilePixels; ++j) {
          if (window_of(i) != window_of(j)) continue;
          const float power = c.octaves * static_cast<float>(scores[j] - largest);
          e[j] = static_cast<int>(std::nearbyint(255 * std::exp2(static_cast<double>(power))));
          total += e[j];
        }
        for (int channel = 0; channel < c.channels; ++channel) {
          int sum = 0;
          for (int j = 0; j < kTilePixels; ++j) sum += e[j] * v[channel][j];
          const float expected = static_cast<float>(sum) * (0.25f / static_cast<float>(total));
          const float found = out[channel * kTilePixels + i];
          ASSERT_NEAR(found, expected, 0.25 * 127 / total + 1e-6) << window << " " << i;
          difference += std::abs(found - expected);
          magnitude += std::abs(expected);
          ASSERT_EQ(stored(bytes.data() + i, channel, kTilePixels), rounded(found * 4, -127));
        }
      }
      EXPECT_LE(difference, 1e-5 * magnitude) << window;
    }
  }
}

// v of a tile as keys, and rolled by a part of a word.
TEST_P(CpuInt8Kernels, KeysShareAWordAndRollByPixels) {
  constexpr int kRows = 4;
  Buffer<Word> in(kTilePixels), weights(kRows);
  Buffer<float> bias(kRows), scale(kRows);
  Buffer<std::int32_t> start(kRows), offsets(1);
  std::vector<std::vector<int>> x(4, std::vector<int>(kTilePixels));
  for (int i = 0; i < kTilePixels; ++i) {
    const int channels[4] = {byte(), byte(), byte(), byte()};
    in[i] = word(channels, k_.zero_byte);
    for (int c = 0; c < 4; ++c) x[c][i] = channels[c];
  }
  for (int o = 0; o < kRows; ++o) {
    int row[4] = {0, 0, 0, 0};
    row[o] = 2;
    weights[o] = word(row, 0);
    scale[o] = 0.75f;  // 1.5 times: halves, and beyond 127
    bias[o] = 0;
    start[o] = -2 * k_.zero_byte;
  }
  offsets[0] = 0;
  const Matrix matrix{
      kRows,        1,           4, weights.data(), bias.data(), offsets.data(), Operand::int8,
      scale.data(), start.data()};
  Buffer<Word> keys(kRows * kTilePixels / 4);
  k_.product(
      {&matrix, in.data(), kTile, Store::keys, nullptr, nullptr, keys.data(), {Operand::int8, 1}});
  const auto at = [](const Buffer<Word>& words, int row, int pixel) {
    std::int8_t value;
    std::memcpy(&value, reinterpret_cast<const char*>(words.data()) + row * kTilePixels + pixel, 1);
    return static_cast<int>(value);
  };
  for (int o = 0; o < kRows; ++o) {
    for (int i = 0; i < kTilePixels; ++i) {
      ASSERT_EQ(at(keys, o, i), rounded(1.5f * static_cast<float>(x[o][i]), -127)) << o << " " << i;
    }
  }
  for (const int roll : {2, 4, 8}) {
    Buffer<Word> out(kRows * kTilePixels / 4);
    k_.roll({{keys.data(), keys.data(), keys.data(), keys.data()}, roll, kRows, 4, out.data()});
    for (int i = 0; i < kTilePixels; ++i) {
      const int from = (i / kTile + roll) % kTile * kTile + (i + roll) % kTile;
      for (int o = 0; o < kRows; ++o) ASSERT_EQ(at(out, o, i), at(keys, o, from)) << roll;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, CpuInt8Kernels, testing::ValuesIn(usable_isas()),
                         [](const auto& test) { return std::string(to_string(test.param)); });

std::vector<std::tuple<Isa, Operand>> usable_kernels() {
  std::vector<std::tuple<Isa, Operand>> all;
  for (const Isa isa : usable_isas()) {
    all.emplace_back(isa, Operand::fp32);
    all.emplace_back(isa, kernels(isa).half);
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Isa, CpuKernels, testing::ValuesIn(usable_kernels()),
                         [](const auto& test) {
                           const Operand operand = std::get<1>(test.param);
                           return std::string(to_string(std::get<0>(test.param))) +
                                  (operand == Operand::fp32   ? "_fp32"
                                   : operand == Operand::bf16 ? "_bf16"
                                                              : "_bf16_emulated");
                         });

}  // namespace
}  // namespace elan::cpu
