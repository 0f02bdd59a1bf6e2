// The CPU engine as a device: any size, instruction set and thread count, several callers, batches,
// cancellation, memory, and what it refuses.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/isa.h"
#include "model/checkpoint.h"
#include "model/reference.h"
#include "model/stages.h"
#include "support/errors.h"
#include "support/golden.h"
#include "support/quantized.h"
#include "support/weights_files.h"

namespace {

std::atomic<long> g_allocations{0};

void* counted(std::size_t size, std::size_t alignment) {
  ++g_allocations;
  void* p = alignment > 0
                ? std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment)
                : std::malloc(size);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

}  // namespace

void* operator new(std::size_t size) {
  return counted(size, 0);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
  std::free(p);
}
void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}

namespace elan {
namespace {

using test::error_of;

// Sets ELANSR_CPU for a scope.
class IsaOverride {
 public:
  explicit IsaOverride(std::string_view name) {
    setenv("ELANSR_CPU", std::string(name).c_str(), 1);
  }
  ~IsaOverride() { unsetenv("ELANSR_CPU"); }
  IsaOverride(const IsaOverride&) = delete;
  IsaOverride& operator=(const IsaOverride&) = delete;
};

std::shared_ptr<const Network> network_of(const test::WeightsFile& file) {
  return std::make_shared<Network>(
      read_checkpoint(Safetensors::parse("made here", test::serialise(file))).network);
}

std::shared_ptr<const Network> shipped(const char* name) {
  return Model::load(test::model_path(name)).shared_network();
}

std::unique_ptr<Backend> cpu(std::shared_ptr<const Network> network, int threads,
                             const PrecisionPlan& plan = Precision::fp32) {
  return make_cpu_backend(std::move(network), plan, std::make_shared<ThreadPool>(threads));
}

// Some whole-network tests need not see an instruction set that differs in 8-bit products only.
bool only_for_int8(cpu::Isa isa) {
  return isa == cpu::Isa::neondot || isa == cpu::Isa::avxvnni || isa == cpu::Isa::avx512vnni;
}

struct Picture {
  int width, height;
  std::vector<std::uint8_t> rgb;

  Picture(int w, int h, unsigned seed) : width(w), height(h) {
    std::minstd_rand random(seed);
    rgb.resize(static_cast<std::size_t>(w) * h * 3);
    // Soft waves with a little noise: like pictures, not like noise.
    for (std::size_t i = 0; i < rgb.size(); ++i) {
      const std::size_t column = i / 3 % w, row = i / 3 / w;
      const auto x = static_cast<double>(column), y = static_cast<double>(row);
      const double wave = 120 + 90 * std::sin(x / 3 + seed) * std::cos(y / 5 + double(i % 3));
      rgb[i] = static_cast<std::uint8_t>(wave + static_cast<double>(random() % 30));
    }
  }
};

std::vector<float> run(Backend& backend, const Picture& picture, int scale,
                       const RunContext& context = {}) {
  std::vector<float> out(picture.rgb.size() * scale * scale);
  const ConstImageView in = view_of(picture.rgb.data(), picture.width, picture.height);
  const ImageView view = view_of(out.data(), picture.width * scale, picture.height * scale);
  backend.run({&in, 1}, {&view, 1}, context);
  return out;
}

#ifdef ELANSR_SANITIZED
constexpr unsigned kOddPictures = 10;  // the reference is ten times slower then
#else
constexpr unsigned kOddPictures = 200;
#endif

// Odd sizes of at most 48x48, most of them small: the reference in double is slow.
std::vector<Picture> odd_pictures() {
  std::minstd_rand random(2026);
  std::vector<Picture> pictures;
  for (unsigned i = 0; i < kOddPictures; ++i) {
    const int most = i % 20 == 0 ? 24 : i % 4 == 0 ? 12 : 8;
    pictures.emplace_back(2 * static_cast<int>(random() % most) + 1,
                          2 * static_cast<int>(random() % most) + 1, i);
  }
  return pictures;
}

TEST(CpuBackend, EveryInstructionSetIsRightOnOddSizes) {
  const auto network = shipped("elan_light_x2");
  const std::vector<Picture> pictures = odd_pictures();
  std::vector<std::vector<float>> exact(pictures.size());
  const auto reference = make_reference_backend(network, Precision::fp64);
  ThreadPool pool(0);
  pool.parallel_for(pictures.size(), [&](std::size_t i, int) {
    exact[i] = run(*reference, pictures[i], network->arch.scale);
  });
  for (const cpu::Isa isa : cpu::usable_isas()) {
    if (only_for_int8(isa)) continue;
    const IsaOverride chosen(to_string(isa));
    const auto fp32 = cpu(network, 2);
    const auto bf16 = cpu(network, 2, Precision::bf16);
    EXPECT_NE(fp32->description().find(to_string(isa)), std::string::npos) << fp32->description();
    double sum = 0, count = 0;
    for (std::size_t i = 0; i < pictures.size(); ++i) {
      EXPECT_LE(test::max_abs_difference(run(*fp32, pictures[i], network->arch.scale), exact[i]),
                1e-3)
          << to_string(isa) << " " << pictures[i].width << "x" << pictures[i].height;
      const std::vector<float> rough = run(*bf16, pictures[i], network->arch.scale);
      for (std::size_t k = 0; k < rough.size(); ++k) sum += std::abs(rough[k] - exact[i][k]);
      count += static_cast<double>(rough.size());
    }
    EXPECT_LE(sum / count, 0.10) << to_string(isa) << " bf16";
    EXPECT_GT(sum / count, 1e-3) << to_string(isa) << ": bf16 did not round";
  }
}

TEST(CpuBackend, OtherShapesOfNetworksAreRight) {
  Architecture odd = test::small_architecture();
  odd.channels = 21;  // groups of 7 channels, shifts of 4 and 5
  odd.expand = 3;
  odd.elabs = 3;
  odd.pairs = 3;
  odd.scale = 3;
  Architecture large_first = test::small_architecture(), equal = large_first;
  large_first.windows = {16, 8, 4};
  equal.windows = {8, 16, 16};
  for (const Architecture& arch :
       {test::smallest_architecture(), test::small_architecture(), odd, large_first, equal}) {
    const auto network = network_of(test::make_elan(arch));
    const auto reference = make_reference_backend(network, Precision::fp64);
    const Picture picture(37, 21, 3);
    const std::vector<float> exact = run(*reference, picture, arch.scale);
    for (const cpu::Isa isa : cpu::usable_isas()) {
      const IsaOverride chosen(to_string(isa));
      EXPECT_LE(test::max_abs_difference(run(*cpu(network, 2), picture, arch.scale), exact), 1e-3)
          << to_string(isa) << " " << arch.channels;
      EXPECT_LE(test::max_abs_difference(
                    run(*cpu(network, 2, Precision::bf16), picture, arch.scale), exact),
                2)
          << to_string(isa) << " bf16 " << arch.channels;
    }
  }
}

double mean_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::abs(double{a[i]} - b[i]);
  return sum / static_cast<double>(a.size());
}

// In 8 bits, with the scales that the largest values of this picture ask for.
std::shared_ptr<const Network> calibrated(const Network& original, const Picture& picture) {
  Network network = test::quantized(original);
  const Architecture& arch = network.arch;
  Planar<float> padded;
  padded.channels = 3;
  padded.width = padded_side(arch, picture.width);
  padded.height = padded_side(arch, picture.height);
  for (int c = 0; c < 3; ++c) {
    for (int y = 0; y < padded.height; ++y) {
      for (int x = 0; x < padded.width; ++x) {
        const int from = reflect(y, picture.height) * picture.width + reflect(x, picture.width);
        padded.values.push_back(picture.rgb[static_cast<std::size_t>(from) * 3 + c]);
      }
    }
  }
  std::map<std::string, float> step;
  forward<float>(
      network, padded, [](const std::string&, const Planar<float>&) {}, Precision::fp32,
      [&](const std::string& operation, const Planar<float>& value) {
        float& largest = step[operation];
        for (const float v : value.values) largest = std::max(largest, std::abs(v) / 127);
      });
  for (int i = 0; i < arch.elabs; ++i) {
    for (int j = 0; j < arch.pairs; ++j) {
      Lfe& lfe = network.body[i].lfe[j];
      Gmsa& gmsa = network.body[i].gmsa[j];
      lfe.conv0.int8->input_scale = step.at(lfe_stage(i, j) + ".conv0");
      lfe.conv1.int8->input_scale = step.at(lfe_stage(i, j) + ".conv1");
      gmsa.int8_v->input_scale = step.at(gmsa_stage(i, j) + ".project_inp.v");
      if (gmsa.int8_q) gmsa.int8_q->input_scale = gmsa.int8_v->input_scale;
      gmsa.int8_out->input_scale = step.at(gmsa_stage(i, j) + ".project_out");
    }
  }
  return std::make_shared<Network>(std::move(network));
}

// The first pair agrees but for roundings that a last bit flips. These then grow from block to
// block, so that of the picture only the error against FP32 can be asked to stay what it is.
TEST(CpuBackend, Int8GivesWhatTheReferenceGives) {
  const Picture picture(45, 38, 3);
  const auto network = calibrated(*shipped("elan_light_x4"), picture);
  const std::vector<float> exact =
      run(*make_reference_backend(network, Precision::fp32), picture, 4);
  std::vector<float> first;
  RunContext observed;
  observed.observer = [&](const StageView& stage) {
    if (stage.name == "body.0.gmsa.0") first.assign(stage.f32, stage.f32 + stage.size());
  };
  const std::vector<float> expected =
      run(*make_reference_backend(network, Precision::int8), picture, 4, observed);
  const std::vector<float> expected_first = first;
  const double error = mean_difference(expected, exact);
  for (const cpu::Isa isa : cpu::usable_isas()) {
    const IsaOverride chosen(to_string(isa));
    const std::vector<float> out = run(*cpu(network, 2, Precision::int8), picture, 4, observed);
    EXPECT_LE(mean_difference(first, expected_first), isa == cpu::Isa::avx512bf16 ? 0.02 : 1e-3)
        << to_string(isa);
    EXPECT_LE(mean_difference(out, exact), 1.15 * error) << to_string(isa);
    EXPECT_LE(mean_difference(out, expected), 1.5 * error) << to_string(isa);
  }
}

// Every kind of step between operations of different precisions, with matrices that no word fits.
TEST(CpuBackend, MixedPlansComputeWhatTheReferenceDoes) {
  Architecture arch = test::small_architecture();
  arch.channels = 21;  // groups of 7 channels, shifts of 4 and 5
  arch.expand = 3;
  arch.elabs = 2;
  arch.pairs = 2;
  const auto network = std::make_shared<Network>(test::quantized(
      *network_of(test::make_elan(arch)), [](std::string_view name) { return name != "v"; }));
  const auto with_attention = std::make_shared<Network>(test::with_int8_attention(*network));
  const Picture picture(37, 21, 8);
  const auto check = [&](const std::shared_ptr<const Network>& net, const PrecisionPlan& plan,
                         double limit) {
    plan.check(net->arch);
    const std::vector<float> expected =
        run(*make_reference_backend(net, plan), picture, net->arch.scale);
    for (const cpu::Isa isa : cpu::usable_isas()) {
      const IsaOverride chosen(to_string(isa));
      EXPECT_LE(mean_difference(run(*cpu(net, 1, plan), picture, net->arch.scale), expected), limit)
          << to_string(isa) << " " << plan.to_json();
    }
  };
  for (
      const char* rules :
      {R"({"default": "int8", "*.qk": "fp32", "*.av": "fp32", "*.project_inp.v": "fp32"})",
       R"({"default": "int8", "*.project_inp.v": "fp32", "*.conv0": "fp32", "*.q": "fp32", "*k": "fp32", "*.av": "fp32"})",
       R"({"default": "fp32", "*.conv0": "int8", "*.q": "int8"})",
       R"({"default": "fp32", "body.0.*.conv1": "int8", "body.1.*.project_out": "int8"})"}) {
    check(network, PrecisionPlan::parse(rules, "plan", Precision::fp32), 0.01);
  }
  for (
      const char* rules :
      {R"({"default": "int8", "*.project_inp.v": "fp32"})",
       R"({"default": "fp32", "*.qk": "int8", "*.av": "int8"})",
       R"({"default": "int8", "*.project_inp.?": "fp32", "body.1.*.qk": "fp32", "body.1.*.av": "fp32"})"}) {
    check(with_attention, PrecisionPlan::parse(rules, "plan", Precision::fp32), 0.02);
  }
  check(network,
        PrecisionPlan::parse(
            R"({"default": "bf16", "*.0.conv0": "int8", "*.conv1": "fp32", "*.q": "int8",
                "*.project_inp.v": "fp32", "*.project_out": "int8"})",
            "plan", Precision::fp32),
        0.1);
}

TEST(CpuBackend, ThreadCountsGiveTheSameBits) {
  const auto network = shipped("elan_light_x4");
  const Picture picture(85, 50, 1);
  const auto quantized = std::make_shared<Network>(test::quantized(*network));
  EXPECT_EQ(run(*cpu(quantized, 1, Precision::int8), picture, 4),
            run(*cpu(quantized, 3, Precision::int8), picture, 4));
  // Only some pairs change x in place.
  const auto mixed =
      PrecisionPlan::parse(R"({"default": "int8", "*.0.conv0": "fp32"})", "plan", Precision::int8);
  EXPECT_EQ(run(*cpu(quantized, 1, mixed), picture, 4), run(*cpu(quantized, 3, mixed), picture, 4));
  for (const Precision precision : {Precision::fp32, Precision::bf16}) {
    const std::vector<float> one = run(*cpu(network, 1, precision), picture, 4);
    EXPECT_EQ(run(*cpu(network, 2, precision), picture, 4), one);
    EXPECT_EQ(run(*cpu(network, 7, precision), picture, 4), one);
  }
}

TEST(CpuBackend, PicturesInFlightDoNotMix) {
  const auto network = shipped("elan_light_x2");
  const auto backend = cpu(network, 2);
  std::vector<Picture> pictures;
  std::vector<std::vector<float>> alone, together(4);
  for (int i = 0; i < 4; ++i) {
    pictures.emplace_back(20 + 15 * i, 50 - 10 * i, static_cast<unsigned>(i));
    alone.push_back(run(*backend, pictures.back(), 2));
  }
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&, i] {
      for (int k = 0; k < 3; ++k) together[i] = run(*backend, pictures[i], 2);
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(together, alone);
}

TEST(CpuBackend, BatchesGiveWhatSinglePicturesGive) {
  const auto network = shipped("elan_light_x3");
  const auto backend = cpu(network, 2);
  std::vector<std::vector<std::uint16_t>> out(3);
  std::vector<Picture> pictures;
  std::vector<ConstImageView> ins;
  std::vector<ImageView> outs;
  for (unsigned i = 0; i < 3; ++i) pictures.emplace_back(19, 33, i);
  for (int i = 0; i < 3; ++i) {
    out[i].resize(pictures[i].rgb.size() * 9);
    ins.push_back(view_of(pictures[i].rgb.data(), 19, 33));
    outs.push_back(view_of(out[i].data(), 57, 99));
  }
  backend->run(ins, outs, {});
  for (int i = 0; i < 3; ++i) {
    const std::vector<float> single = run(*backend, pictures[i], 3);
    for (std::size_t k = 0; k < single.size(); ++k) {
      const float expected = std::nearbyint(std::min(std::max(single[k] * 257, 0.0f), 65535.0f));
      ASSERT_EQ(static_cast<float>(out[i][k]), expected) << i << " " << k;
    }
  }
}

TEST(CpuBackend, SampleTypesAgree) {
  const auto network = shipped("elan_light_x2");
  const auto backend = cpu(network, 2);
  const Picture picture(23, 18, 5);
  std::vector<std::uint16_t> words;
  std::vector<float> floats;
  for (const std::uint8_t v : picture.rgb) {
    words.push_back(static_cast<std::uint16_t>(v * 257));
    floats.push_back(v);
  }
  const std::vector<float> expected = run(*backend, picture, 2);
  std::vector<float> out(expected.size());
  const ImageView view = view_of(out.data(), 46, 36);
  for (const ConstImageView& in : {ConstImageView(view_of(words.data(), 23, 18)),
                                   ConstImageView(view_of(floats.data(), 23, 18))}) {
    backend->run({&in, 1}, {&view, 1}, {});
    EXPECT_LE(test::max_abs_difference(out, expected), 1e-3);
  }
}

TEST(CpuBackend, AStopTokenEndsTheRunAndTheBackendStaysUsable) {
  const auto network = shipped("elan_light_x2");
  const auto backend = cpu(network, 2);
  const Picture picture(60, 60, 9);
  const std::vector<float> whole = run(*backend, picture, 2);
  std::stop_source source;
  RunContext context;
  context.stop = source.get_token();
  double reached = 0;
  context.progress = [&](double share) {
    EXPECT_GT(share, reached);
    reached = share;
    if (share > 0.4) source.request_stop();
  };
  error_of(ErrorKind::cancelled, [&] { run(*backend, picture, 2, context); });
  EXPECT_LT(reached, 0.9);
  EXPECT_EQ(run(*backend, picture, 2), whole);
}

TEST(CpuBackend, ProgressRisesToOne) {
  const auto backend = cpu(shipped("elan_light_x2"), 2);
  double reached = 0;
  RunContext context;
  context.progress = [&](double share) {
    EXPECT_GT(share, reached);
    reached = share;
  };
  run(*backend, Picture(30, 40, 2), 2, context);
  EXPECT_NEAR(reached, 1, 1e-9);
}

void expect_no_allocation(Backend& backend) {
  const Picture picture(70, 40, 4);
  std::vector<std::uint8_t> out(picture.rgb.size() * 4);
  const ConstImageView in = view_of(picture.rgb.data(), 70, 40);
  const ImageView view = view_of(out.data(), 140, 80);
  const RunContext context;
  const auto once = [&] { backend.run({&in, 1}, {&view, 1}, context); };
  once();
  const long before = g_allocations;
  for (int i = 0; i < 3; ++i) once();
  EXPECT_EQ(g_allocations - before, 0);
}

TEST(CpuBackend, NothingIsAllocatedForAPictureOfAKnownSize) {
  const auto network = shipped("elan_light_x2");
  expect_no_allocation(*cpu(network, 2));
  expect_no_allocation(
      *cpu(std::make_shared<Network>(test::quantized(*network)), 2, Precision::int8));
}

TEST(CpuBackend, TimesItsOperations) {
  const auto backend = cpu(shipped("elan_light_x2"), 2);
  std::vector<OperationTime> profile;
  RunContext context;
  context.profile = &profile;
  run(*backend, Picture(32, 32, 2), 2, context);
  double flop = 0;
  for (const OperationTime& time : profile) {
    EXPECT_GT(time.seconds, 0) << time.operation;
    flop += time.flop;
  }
  // 0.811620 million multiply-adds a pixel: elan-light x2.
  EXPECT_NEAR(flop, 2 * 811'620.0 * 32 * 32, 1);
  EXPECT_GT(backend->measure_peak(), 0.1);
}

TEST(CpuBackend, SaysWhatMemoryItNeeds) {
  const auto network = shipped("elan_light_x4");
  const auto fp32 = cpu(network, 2), bf16 = cpu(network, 2, Precision::bf16);
  EXPECT_LT(fp32->memory_needed(64, 64, 1), fp32->memory_needed(80, 64, 1));
  EXPECT_EQ(fp32->memory_needed(64, 64, 1), fp32->memory_needed(64, 64, 5));
  const std::size_t pictures = std::size_t{1280} * 720 * 3 * 17;
  EXPECT_LT(fp32->memory_needed(1280, 720, 1) + pictures, std::size_t{1280} << 20);
  // BF16 that is emulated is kept in FP32.
  const std::size_t most = cpu::choose_isa() == cpu::Isa::avx512bf16 ? 819 : 1280;
  EXPECT_LT(bf16->memory_needed(1280, 720, 1) + pictures, most << 20);
}

TEST(CpuBackend, RefusesWhatItCannotRun) {
  const auto network = shipped("elan_light_x2");
  EXPECT_NE(error_of(ErrorKind::usage, [&] { cpu(network, 1, Precision::int8); }).find("int8"),
            std::string::npos);
  EXPECT_NE(error_of(ErrorKind::usage,
                     [&] {
                       cpu(network, 1,
                           PrecisionPlan::parse(R"({"body.0.lfe.0.conv1": "fp16"})", "plan",
                                                Precision::fp32));
                     })
                .find("body.0.lfe.0.conv1: expected fp32, bf16"),
            std::string::npos);
  Network blurred = *network;
  blurred.body[0].lfe[0].conv0.taps.clear();
  EXPECT_NE(error_of(ErrorKind::model, [&] { cpu(std::make_shared<Network>(blurred), 1); })
                .find("shift masks"),
            std::string::npos);
  Network windows = *network;
  windows.arch.windows = {2, 4, 16};
  EXPECT_NE(error_of(ErrorKind::model, [&] { cpu(std::make_shared<Network>(windows), 1); })
                .find("found 2"),
            std::string::npos);
}

TEST(CpuBackend, RefusesInstructionSetsTheCpuLacks) {
  {
    const IsaOverride chosen("mmx");
    const std::string message = error_of(ErrorKind::usage, [] { cpu::choose_isa(); });
    EXPECT_NE(message.find("ELANSR_CPU=mmx"), std::string::npos) << message;
    EXPECT_NE(message.find(cpu::usable_isa_names()), std::string::npos) << message;
  }
#if defined(__aarch64__)
  const IsaOverride chosen("avx2");
#else
  const IsaOverride chosen("neon");
#endif
  EXPECT_NE(error_of(ErrorKind::usage, [] { cpu::choose_isa(); }).find("this CPU has scalar"),
            std::string::npos);
}

}  // namespace
}  // namespace elan
