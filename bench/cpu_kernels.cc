// Times the CPU kernels one by one, on one thread and a tile that stays in cache:
//   cpu_kernels [CHANNELS] [ISA]
// Useful GFLOP/s and the share of the core's peak, both measured here. To find out which kernel to
// look at, and whether a change to it helped; whole pictures are timed by `elan-sr bench`.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/kernels.h"
#include "cpu/peak.h"

namespace elan::cpu {
namespace {

using Clock = std::chrono::steady_clock;

double best_seconds(const std::function<void()>& call) {
  double best = 1e9;
  for (int batch = 0; batch < 30; ++batch) {
    constexpr int kCalls = 20;
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < kCalls; ++i) call();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count() / kCalls);
  }
  return best;
}

// Words that are small numbers in both FP32 and pairs of BF16.
void fill(Buffer<Word>& words, int pack) {
  std::minstd_rand random(1);
  for (std::size_t i = 0; i < words.size(); ++i) {
    const float value = static_cast<float>(random() % 1000) / 2000.0f - 0.25f;
    std::uint32_t bits = 0;
    __builtin_memcpy(&bits, &value, 4);
    if (pack == 2) bits = (bits & 0xffff0000u) | bits >> 16;
    __builtin_memcpy(&words[i], &bits, 4);
  }
}

// All in one operand type.
void bench(Isa isa, Operand operand, int channels) {
  const Kernels& k = kernels(isa);
  const bool int8 = operand == Operand::int8;
  const int pack = pack_of(operand);
  ThreadPool pool(1);
  const double peak = measure_peak_gflops(k, operand, pool);
  const char* names[] = {"fp32", "bf16", "bf16 emulated", "int8"};
  std::printf("%s %s, %d channels: peak of a core %.0f GFLOP/s\n",
              std::string(to_string(isa)).c_str(), names[static_cast<int>(operand)], channels,
              peak);
  const auto report = [&](const char* name, double flop, double seconds) {
    std::printf("  %-22s %8.2f us %8.1f GFLOP/s %5.1f %%\n", name, seconds * 1e6,
                flop / seconds / 1e9, flop / seconds / 1e7 / peak);
  };

  const std::size_t wide = static_cast<std::size_t>(channels) * 2 * kHaloPlane;
  Buffer<Word> in(wide), out(wide), words(static_cast<std::size_t>(channels) * channels * 4);
  Buffer<float> bias(static_cast<std::size_t>(channels) * 4), values(wide);
  Buffer<std::int32_t> start(bias.size());
  fill(in, pack);
  fill(words, pack);
  std::fill_n(bias.data(), bias.size(), 0.1f);
  std::fill_n(start.data(), start.size(), 0);
  std::fill_n(values.data(), values.size(), 0.1f);
  Buffer<std::int32_t> offsets(static_cast<std::size_t>(channels) * 2);

  const auto product = [&](const char* name, int from, int to, int stride, Store store,
                           Operand stored) {
    const int steps = from / pack;
    for (int s = 0; s < steps; ++s) {
      offsets[s] = stride == kTile ? s * kTilePixels : s * kHaloPlane + kHaloOrigin + s % 3 - 1;
    }
    const Matrix matrix{to,           steps,       int8 ? 4 : 6,
                        words.data(), bias.data(), offsets.data(),
                        operand,      bias.data(), start.data()};
    const ProductTask task{&matrix,       in.data(),     stride,     store,
                           values.data(), values.data(), out.data(), {stored, 1}};
    report(name, 2.0 * from * to * kTilePixels, best_seconds([&] { k.product(task); }));
  };
  product("conv0", channels, 2 * channels, kHaloStride, Store::operand_relu, operand);
  product("conv1", 2 * channels, channels, kTile, Store::residual, operand);
  product("project_inp q", channels, channels, kTile, Store::operand, operand);
  product("project_inp v", channels, channels, kTile, Store::keys, operand);
  product("project_out", channels, channels, kTile, Store::residual, operand);

  const int group = channels / 3;
  Buffer<float> scratch(attention_scratch(group));
  fill(in, pack);
  for (const int window : {4, 8, 16}) {
    AttentionTask task{operand,    in.data(),    in.data() + 100 * kTilePixels,
                       group,      window,       scratch.data(),
                       out.data(), {operand, 1}, 1.0f / 1024,
                       1};
    report(("attention " + std::to_string(window)).c_str(),
           4.0 * group * window * window * kTilePixels, best_seconds([&] { k.attention(task); }));
  }

  std::vector<std::int32_t> order(static_cast<std::size_t>(channels));
  for (int c = 0; c < channels; ++c) order[c] = c;
  HaloTask halo;
  halo.operand = operand;
  std::fill_n(halo.x, 9, values.data());
  halo.channels = int8 ? nullptr : order.data();
  halo.steps = channels / pack;
  halo.out = out.data();
  report("halo", 0, best_seconds([&] { k.halo(halo); }));
  for (const int pixels : {1, pack}) {
    RollTask roll;
    std::fill_n(roll.from, 4, in.data());
    roll.roll = 4;
    roll.planes = channels;
    roll.pixels_per_word = pixels;
    roll.out = out.data();
    report("roll", 0, best_seconds([&] { k.roll(roll); }));
  }
}

}  // namespace
}  // namespace elan::cpu

int main(int argc, char** argv) {
  using namespace elan::cpu;
  const int channels = argc > 1 ? std::atoi(argv[1]) : 60;
  for (const Isa isa : usable_isas()) {
    if (argc > 2 && to_string(isa) != argv[2]) continue;
    bench(isa, Operand::fp32, channels);
    bench(isa, kernels(isa).half, channels);
    bench(isa, Operand::int8, channels);
  }
}
