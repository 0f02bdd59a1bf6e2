// The engine's own work (tiles, streaming, retries, errors) on a backend that is easy to predict:
// nearest-neighbour enlargement.
#include "elan/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstring>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "backend.h"
#include "engine/devices.h"
#include "model/checkpoint.h"
#include "model/network.h"
#include "support/errors.h"
#include "support/weights_files.h"

namespace elan {
namespace {

constexpr int kScale = 2;
constexpr std::size_t kMiB = std::size_t{1} << 20;

struct Calls {
  std::atomic<int> runs{0};
  std::atomic<int> largest{0};  // pixels
  int memory_pixels = 1 << 30;  // larger pictures run out of memory
  bool host_memory = false;     // as std::bad_alloc rather than Error
  std::size_t own_memory = 0;   // of the device
  std::atomic<int> largest_batch{0};
  std::string warning;
};

template <typename View>
auto at(const View& v, int x, int y) {
  return v.data + static_cast<std::size_t>(y) * v.row_bytes + static_cast<std::size_t>(x) * 3;
}

class NearestBackend : public Backend {
 public:
  explicit NearestBackend(Calls& calls) : calls_(calls) {}
  [[nodiscard]] std::string description() const override { return "nearest"; }
  [[nodiscard]] Precision precision() const override { return Precision::fp32; }
  [[nodiscard]] std::vector<std::string> stages() const override { return {}; }
  [[nodiscard]] std::size_t memory_needed(int width, int height, int batch) const override {
    return static_cast<std::size_t>(width) * height * batch * 1000;
  }
  [[nodiscard]] std::size_t own_memory() const override { return calls_.own_memory; }
  [[nodiscard]] std::size_t host_memory_needed(int width, int height, int batch) const override {
    return static_cast<std::size_t>(width) * height * batch * 10;
  }
  void run(std::span<const ConstImageView> in, std::span<const ImageView> out,
           const RunContext& context) override {
    if (context.stop.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled");
    ++calls_.runs;
    calls_.largest_batch = std::max(calls_.largest_batch.load(), static_cast<int>(in.size()));
    if (!calls_.warning.empty() && context.warning) context.warning(calls_.warning);
    int batch_pixels = 0;
    for (const ConstImageView& picture : in) batch_pixels += picture.width * picture.height;
    if (in.size() > 1 && batch_pixels > calls_.memory_pixels) {
      throw Error(ErrorKind::memory, "device: out of memory");
    }
    for (std::size_t i = 0; i < in.size(); ++i) {
      const int pixels = in[i].width * in[i].height;
      calls_.largest = std::max(calls_.largest.load(), pixels);
      if (pixels > calls_.memory_pixels) {
        if (calls_.host_memory) throw std::bad_alloc();
        throw Error(ErrorKind::memory, "device: out of memory");
      }
      for (int y = 0; y < out[i].height; ++y) {
        for (int x = 0; x < out[i].width; ++x) {
          std::memcpy(at(out[i], x, y), at(in[i], x / kScale, y / kScale), 3);
        }
      }
    }
    if (context.progress) {
      context.progress(0.5);
      context.progress(1);
    }
  }

 private:
  Calls& calls_;
};

struct Picture {
  int width, height;
  std::vector<std::uint8_t> rgb;
  Picture(int w, int h) : width(w), height(h), rgb(static_cast<std::size_t>(w) * h * 3) {
    std::uint32_t seed = 7;
    for (auto& v : rgb) {
      seed = seed * 1664525U + 1013904223U;
      v = static_cast<std::uint8_t>(seed >> 24);
    }
  }
  [[nodiscard]] ConstImageView view() const { return view_of(rgb.data(), width, height); }
  [[nodiscard]] std::vector<std::uint8_t> enlarged() const {
    std::vector<std::uint8_t> big;
    for (int y = 0; y < height * kScale; ++y) {
      for (int x = 0; x < width * kScale; ++x) {
        const auto* p = &rgb[(static_cast<std::size_t>(y / kScale) * width + x / kScale) * 3];
        big.insert(big.end(), p, p + 3);
      }
    }
    return big;
  }
};

Engine engine_on(Calls& calls, EngineOptions options = {}) {
  auto network = std::make_shared<Network>();
  network->arch.scale = kScale;
  return {Model(network), options, std::make_unique<NearestBackend>(calls)};
}

std::vector<std::uint8_t> upscale(Engine& engine, const Picture& picture,
                                  const RunOptions& run = {}) {
  std::vector<std::uint8_t> out(picture.rgb.size() * kScale * kScale, 0xAA);
  engine.upscale(picture.view(),
                 view_of(out.data(), picture.width * kScale, picture.height * kScale), run);
  return out;
}

TEST(Engine, RunsAPictureWholeWhenItFits) {
  Calls calls;
  Engine engine = engine_on(calls);
  const Picture picture(301, 77);
  EXPECT_EQ(upscale(engine, picture), picture.enlarged());
  EXPECT_EQ(calls.runs, 1);
}

TEST(Engine, PutsTilesTogether) {
  Calls calls;
  EngineOptions options;
  options.tile = 64;
  Engine engine = engine_on(calls, options);
  const Picture picture(301, 77);
  EXPECT_EQ(upscale(engine, picture), picture.enlarged());
  EXPECT_EQ(calls.runs, 5 * 2);
  EXPECT_LE(calls.largest, 128 * 128);
}

TEST(Engine, KeepsToItsMemory) {
  Calls calls;
  EngineOptions options;
  options.max_memory = (64 + 40) * kMiB;
  Engine engine = engine_on(calls, options);
  const Picture picture(400, 300);  // 120 MB whole
  EXPECT_EQ(upscale(engine, picture), picture.enlarged());
  EXPECT_LE(static_cast<std::size_t>(calls.largest) * 1000, 40 * kMiB);
  EXPECT_LE(engine.plan(400, 300).memory, 40 * kMiB);
  // What the caller holds leaves less.
  EXPECT_LE(engine.plan(400, 300, 15 * kMiB).memory, 25 * kMiB);
}

TEST(Engine, RetriesWithSmallerTilesWhenMemoryRunsOut) {
  for (const bool host : {false, true}) {
    Calls calls;
    calls.memory_pixels = 160 * 160;
    calls.host_memory = host;
    Engine engine = engine_on(calls);
    const Picture picture(500, 333);
    EXPECT_EQ(upscale(engine, picture), picture.enlarged());
    // And while streaming, where rows already handed out must stay.
    std::vector<std::uint8_t> out(picture.rgb.size() * kScale * kScale);
    const auto rows = engine.stream(picture.view(), SampleType::u8);
    const ImageView all = view_of(out.data(), 1000, 666);
    for (int y = 0; y < 666; y += 37) rows->read(y, all.crop(0, y, 1000, std::min(37, 666 - y)));
    EXPECT_EQ(out, picture.enlarged());
  }
}

TEST(Engine, GivesUpAfterTheSmallestTile) {
  Calls calls;
  calls.memory_pixels = 10;
  Engine engine = engine_on(calls);
  try {
    upscale(engine, Picture(500, 333));
    FAIL() << "succeeded";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::memory);
  }
}

TEST(Engine, ReportsRisingProgress) {
  Calls calls;
  EngineOptions options;
  options.tile = 64;
  Engine engine = engine_on(calls, options);
  std::vector<double> seen;
  RunOptions run;
  run.progress = [&](double share) { seen.push_back(share); };
  upscale(engine, Picture(200, 100), run);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  ASSERT_EQ(seen.size(), 4U * 2U * 2U);
  EXPECT_NEAR(seen.back(), 1, 1e-9);
}

TEST(Engine, StopsWhenAsked) {
  Calls calls;
  EngineOptions options;
  options.tile = 64;
  Engine engine = engine_on(calls, options);
  std::stop_source stop;
  RunOptions run;
  run.stop = stop.get_token();
  run.progress = [&](double share) {
    if (share > 0.3) stop.request_stop();
  };
  try {
    upscale(engine, Picture(200, 100), run);
    FAIL() << "went on";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::cancelled);
  }
  EXPECT_LT(calls.runs, 8);
}

TEST(Engine, RunsABatchInOnePassWhenItFits) {
  Calls calls;
  EngineOptions options;
  options.max_memory = (64 + 60) * kMiB;
  Engine engine = engine_on(calls, options);
  const Picture picture(100, 90);
  std::vector<std::vector<std::uint8_t>> out(8, std::vector<std::uint8_t>(picture.rgb.size() * 4));
  std::vector<ConstImageView> in(8, picture.view());
  std::vector<ImageView> views;
  for (auto& o : out) views.push_back(view_of(o.data(), 200, 180));
  engine.upscale(std::span(in).first(4), std::span(views).first(4));
  EXPECT_EQ(calls.runs, 1);
  engine.upscale(in, views);  // 72 MB together: half at a time
  EXPECT_EQ(calls.runs, 1 + 2);
  EXPECT_EQ(calls.largest_batch, 4);
  for (const auto& o : out) EXPECT_EQ(o, picture.enlarged());
}

TEST(Engine, HalvesABatchThatRunsOutOfMemory) {
  Calls calls;
  calls.memory_pixels = 3 * 100 * 90;
  Engine engine = engine_on(calls);
  const Picture picture(100, 90);
  std::vector<std::vector<std::uint8_t>> out(7, std::vector<std::uint8_t>(picture.rgb.size() * 4));
  std::vector<ConstImageView> in(7, picture.view());
  std::vector<ImageView> views;
  for (auto& o : out) views.push_back(view_of(o.data(), 200, 180));
  engine.upscale(in, views);
  EXPECT_EQ(calls.runs, 2 + 4);  // 7 and 4 ran out; then 2, 2, 2, 1
  for (const auto& o : out) EXPECT_EQ(o, picture.enlarged());
}

TEST(Engine, KeepsToTheDevicesOwnMemory) {
  Calls calls;
  calls.own_memory = 20 * kMiB;
  Engine engine = engine_on(calls);
  const Picture picture(400, 300);  // 120 MB whole
  EXPECT_EQ(upscale(engine, picture), picture.enlarged());
  EXPECT_LE(static_cast<std::size_t>(calls.largest) * 1000, 20 * kMiB);
  const TilePlan plan = engine.plan(400, 300);
  EXPECT_LE(plan.device_memory, 20 * kMiB);
  EXPECT_GT(plan.device_memory, 5 * kMiB);
  EXPECT_LT(plan.memory, 5 * kMiB) << "the device's memory is not the host's";

  EngineOptions options;
  options.max_memory = (64 + 10) * kMiB;  // asked for: holds for both
  calls.own_memory = 2000 * kMiB;
  EXPECT_TRUE(engine_on(calls).plan(400, 300).whole());
  EXPECT_LE(engine_on(calls, options).plan(400, 300).device_memory, 74 * kMiB);

  calls.own_memory = kMiB;
  try {
    static_cast<void>(engine_on(calls).plan(400, 300));
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::memory);
    EXPECT_NE(std::string(error.what()).find("device's memory, the limit leaves 1 MiB"),
              std::string::npos)
        << error.what();
  }
}

TEST(Engine, TellsEachWarningOnceAPicture) {
  Calls calls;
  calls.warning = "computed again in tf32";
  EngineOptions options;
  options.tile = 64;
  Engine engine = engine_on(calls, options);
  std::vector<std::string> told;
  RunOptions run;
  run.warning = [&](const std::string& text) { told.push_back(text); };
  const Picture picture(200, 100);
  upscale(engine, picture, run);
  EXPECT_GT(calls.runs, 4);
  EXPECT_EQ(told, std::vector<std::string>{calls.warning});
  std::vector<std::uint8_t> row(1200);
  const auto rows = engine.stream(picture.view(), SampleType::u8, run);
  for (int y = 0; y < 200; ++y) rows->read(y, view_of(row.data(), 400, 1));
  EXPECT_EQ(told.size(), 2U);
  std::vector<std::uint8_t> a(40 * 40 * 12), b(a.size());
  const Picture small(40, 40);
  engine.upscale(std::vector<ConstImageView>{small.view(), small.view()},
                 std::vector<ImageView>{view_of(a.data(), 80, 80), view_of(b.data(), 80, 80)}, run);
  EXPECT_EQ(told.size(), 3U);
}

// Two devices, of which each holds on to its first picture until the other has one too: this ends
// only if pictures are handed to the one that is free.
class MeetingBackend : public NearestBackend {
 public:
  MeetingBackend(Calls& calls, std::barrier<>& meeting, Calls& own)
      : NearestBackend(calls), meeting_(meeting), own_(own) {}
  void run(std::span<const ConstImageView> in, std::span<const ImageView> out,
           const RunContext& context) override {
    if (own_.runs++ == 0) meeting_.arrive_and_wait();
    NearestBackend::run(in, out, context);
  }

 private:
  std::barrier<>& meeting_;
  Calls& own_;
};

TEST(Engine, HandsPicturesToTheDeviceThatIsFree) {
  Calls calls, first, second;
  std::barrier<> meeting(2);
  std::vector<std::unique_ptr<Backend>> backends;
  backends.push_back(std::make_unique<MeetingBackend>(calls, meeting, first));
  backends.push_back(std::make_unique<MeetingBackend>(calls, meeting, second));
  auto network = std::make_shared<Network>();
  network->arch.scale = kScale;
  Engine engine(Model(network), {}, std::move(backends));
  EXPECT_EQ(engine.devices(), 2);
  EXPECT_EQ(engine.description(), "nearest, nearest");
  const Picture picture(30, 20);
  // A stream that was begun keeps no device: what it has read so far is all it needed one for.
  const auto waiting = engine.stream(picture.view(), SampleType::u8);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 2; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 3; ++i) EXPECT_EQ(upscale(engine, picture), picture.enlarged());
      });
    }
  }
  EXPECT_EQ(calls.runs, 6);
  EXPECT_GE(first.runs, 1);
  EXPECT_GE(second.runs, 1);
}

TEST(Engine, RefusesToRunOnNoBackend) {
  auto network = std::make_shared<Network>();
  network->arch.scale = kScale;
  EXPECT_THROW(Engine(Model(network), {}, std::vector<std::unique_ptr<Backend>>{}), Error);
}

TEST(Engine, RefusesWrongSizesAndOptions) {
  Calls calls;
  Engine engine = engine_on(calls);
  const Picture picture(10, 10);
  std::vector<std::uint8_t> out(10000);
  EXPECT_THROW(engine.upscale(picture.view(), view_of(out.data(), 20, 21)), Error);
  EXPECT_THROW(engine.upscale(ConstImageView(), view_of(out.data(), 0, 0)), Error);
  for (const int tile : {-16, 7, 16, 100}) {
    EngineOptions options;
    options.tile = tile;
    EXPECT_THROW(engine_on(calls, options), Error) << tile;
  }
}

TEST(Devices, AListNamesGpusOnce) {
  EXPECT_EQ(cuda_indices("cuda"), std::vector<int>{0});
  EXPECT_EQ(cuda_indices("cuda:3"), std::vector<int>{3});
  EXPECT_EQ(cuda_indices("cuda:2,0"), (std::vector<int>{2, 0}));
  for (const char* bad :
       {"cuda:", "cuda:x", "cuda:0,", "cuda:-1", "cuda:0,0", "cuda:1 ", "cuda:0;1"}) {
    try {
      cuda_indices(bad);
      FAIL() << bad << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      EXPECT_NE(std::string(error.what()).find(bad), std::string::npos) << error.what();
    }
  }
}

TEST(Engine, AnUnknownDeviceIsAUsageError) {
  auto network = std::make_shared<Network>();
  network->arch.scale = kScale;
  EngineOptions options;
  options.device = "abacus";
  try {
    const Engine engine(Model(network), options);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find("abacus"), std::string::npos);
  }
}

// Networks that the fast CPU backend has no kernels for run on the reference, unless the CPU was
// asked for by name.
TEST(Engine, WhatTheCpuRefusesRunsOnTheReference) {
  const test::WeightsFile usual = test::make_elan(test::small_architecture());
  test::WeightsFile windows = usual, masks = usual;
  windows.metadata["windows"] = "2,4,8";
  test::RawTensor& mask = masks.tensors["body.0.modules_lfe.lfe_0.conv0.shift_conv.weight"];
  std::vector<float> values = test::floats_of(mask);
  values[0] = 0.5F;
  mask = test::f32_tensor(mask.shape, values);
  const auto model = [](const test::WeightsFile& file) {
    return Model(std::make_shared<Network>(
        read_checkpoint(Safetensors::parse("made here", test::serialise(file))).network));
  };
  EngineOptions named;
  named.device = "cpu";
  EngineOptions reference;
  reference.device = "reference";
  const Picture picture(9, 7);
  const auto count = [](const std::vector<std::string>& warnings, const std::string& what) {
    return std::count_if(warnings.begin(), warnings.end(), [&](const std::string& warning) {
      return warning.find(what) != std::string::npos &&
             warning.find("reference, which is slow") != std::string::npos;
    });
  };
  for (const auto& [file, what] : {std::pair(windows, "windows"), std::pair(masks, "masks")}) {
    Engine engine(model(file), {});
    EXPECT_EQ(engine.device(), "reference") << what;
    EXPECT_EQ(count(engine.warnings(), what), 1) << what;
    Engine expected(model(file), reference);
    EXPECT_EQ(upscale(engine, picture), upscale(expected, picture)) << what;
    EXPECT_NE(test::error_of(ErrorKind::model, [&] { Engine(model(file), named); }).find(what),
              std::string::npos);
  }
  EXPECT_EQ(Engine(model(usual), named).device(), "cpu");
}

}  // namespace
}  // namespace elan
