// The CUDA kernels on the emulator against the CPU engine, stage by stage.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <ostream>
#include <random>
#include <tuple>

#include "cuda/shape.h"
#include "elan/error.h"
#include "emulated_network.h"
#include "model/stages.h"
#include "support/fp8_lfe.h"
#include "support/golden.h"
#include "support/int8_lfe.h"

namespace elan::emulator {
namespace {

using cuda::Operand;
using cuda::StreamFormat;

// The first ELABs of a model, with at most so many pairs each.
Network part_of(const Network& whole, int elabs, int most_pairs) {
  Network net = whole;
  const int pairs = std::min(most_pairs, whole.arch.pairs);
  net.arch.elabs = elabs;
  net.arch.pairs = pairs;
  net.body.resize(static_cast<std::size_t>(elabs));
  for (Elab& elab : net.body) {
    elab.lfe.resize(static_cast<std::size_t>(pairs));
    elab.gmsa.resize(static_cast<std::size_t>(pairs));
  }
  return net;
}

std::vector<std::uint8_t> drawn(int width, int height) {
  std::vector<std::uint8_t> rgb;
  for (int i = 0; i < width * height; ++i) {
    const double x = i % width, y = static_cast<double>(i / width);
    rgb.push_back(static_cast<std::uint8_t>(128 + 90 * std::sin(x / 5 + y / 9) + (i * 7919 % 13)));
    rgb.push_back(static_cast<std::uint8_t>(x + y > 17 ? 200 : 40));
    rgb.push_back(static_cast<std::uint8_t>(std::min(20 + 5 * x + 3 * y, 255.0)));
  }
  return rgb;
}

// On which keys outweigh a query's own by powers of two.
std::vector<std::uint8_t> noise(int width, int height) {
  std::mt19937 random(7);
  std::vector<std::uint8_t> rgb(static_cast<std::size_t>(width) * height * 3);
  for (auto& v : rgb) v = static_cast<std::uint8_t>(random());
  return rgb;
}

// Limits of a device: how many multiprocessors share the tiles, and how much fits beside a tile.
struct Device {
  int multiprocessors, shared;
};
constexpr Device kLarge{3, 232448}, kSmall{1, 101376}, kAlone{1, 232448};

struct Case {
  const char* model;
  Operand body;
  StreamFormat stream;
  bool hopper;
  int elabs;  // one, which is shifted, or an unshifted and a shifted one
  int width, height;
  Device device;
  double relative;  // error of a stage, of its largest value
};

cuda::DeviceLimits limits_of(const Device& d) {
  return {d.multiprocessors, d.shared, d.shared + 1024, true};
}

// All ELABs alike.
cuda::NetworkShape shape_of(const Network& net, const cuda::PairKind& elab, const Device& device) {
  cuda::NetworkShape shape;
  shape.channels = net.arch.channels;
  shape.scale = net.arch.scale;
  shape.hidden_groups = cuda::most_hidden_groups(net);
  shape.body.assign(net.body.size(), elab);
  shape.tail =
      cuda::choose_tail(net.arch.channels, net.arch.scale, elab.operand, limits_of(device));
  return shape;
}

using Stages = std::map<std::string, std::vector<float>>;
StageObserver keep(Stages& stages) {
  return [&stages](const StageView& view) {
    auto& values = stages[std::string(view.name)];
    for (std::size_t i = 0; i < view.size(); ++i) values.push_back(static_cast<float>(view.at(i)));
  };
}

// Runs both and compares each stage; `relative` is the error that a stage may have, of its largest
// value.
Stages compare_stages(const Network& net, const PrecisionPlan& plan,
                      const cuda::NetworkShape& shape, const Device& device, int width, int height,
                      const std::function<double(const std::string& stage)>& relative,
                      bool noisy = false) {
  const auto rgb = noisy ? noise(width, height) : drawn(width, height);
  const ConstImageView in = view_of(rgb.data(), width, height);
  const auto cpu = make_reference_backend(std::make_shared<Network>(net), plan);
  Stages wanted, found;
  RunContext context;
  context.observer = keep(wanted);
  std::vector<float> expected(rgb.size() * net.arch.scale * net.arch.scale);
  const ImageView out = view_of(expected.data(), width * net.arch.scale, height * net.arch.scale);
  cpu->run({&in, 1}, {&out, 1}, context);

  set_order(device.multiprocessors == 1 ? Order::descending : Order::ascending);
  const std::vector<float> picture =
      EmulatedNetwork(net, shape, limits_of(device)).run(in, keep(found));
  // Head, LFEs and GMSAs, body.
  EXPECT_EQ(found.size(), 2U + 2U * net.arch.elabs * net.arch.pairs);
  for (const auto& [name, values] : found) {
    EXPECT_EQ(values.size(), wanted[name].size()) << name;
    if (values.size() != wanted[name].size()) continue;
    double largest = 0, error = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      largest = std::max(largest, std::abs(double{wanted[name][i]}));
      const double e = std::abs(double{values[i]} - wanted[name][i]);
      error = std::isnan(e) ? INFINITY : std::max(error, e);
    }
    EXPECT_LE(error, relative(name) * largest) << name << " " << error / largest;
  }
  double error = 0;
  for (std::size_t i = 0; i < picture.size(); ++i) {
    const double e = std::abs(double{picture[i]} - expected[i]);
    error = std::isnan(e) ? INFINITY : std::max(error, e);
  }
  EXPECT_LE(error, relative("output") * 255);
  return found;
}

std::ostream& operator<<(std::ostream& out, const Case& c);

// What an LFE in 8 bits makes of the x that it had: the same bits.
void expect_integers(const Network& net, const Case& c, const Stages& found) {
  std::string before = "head";
  for (int i = 0; i < net.arch.elabs; ++i) {
    for (int j = 0; j < net.arch.pairs; ++j) {
      const std::vector<float>& y = found.at(lfe_stage(i, j));
      const std::vector<float> wanted = test::int8_lfe(
          net.body[i].lfe[j], found.at(before), cuda::padded(c.width), cuda::padded(c.height));
      std::size_t wrong = 0;
      for (std::size_t k = 0; k < y.size(); ++k) {
        wrong += y[k] == cuda::from_half(cuda::to_half(wanted[k])) ? 0 : 1;
      }
      EXPECT_EQ(wrong, 0U) << lfe_stage(i, j) << ", of " << y.size();
      before = gmsa_stage(i, j);
    }
  }
}

// And one in fp8, but for the few sums that round otherwise.
void expect_fp8(const Network& net, const Case& c, const Stages& found) {
  std::string before = "head";
  for (int i = 0; i < net.arch.elabs; ++i) {
    for (int j = 0; j < net.arch.pairs; ++j) {
      const std::vector<float> wanted = test::fp8_lfe(
          net.body[i].lfe[j], found.at(before), cuda::padded(c.width), cuda::padded(c.height));
      EXPECT_LE(test::fp8_misses(found.at(lfe_stage(i, j)), wanted), 1e-3) << lfe_stage(i, j);
      before = gmsa_stage(i, j);
    }
  }
}

class Emulated : public testing::TestWithParam<Case> {};

void drop_int8_attention(Network& net) {
  for (Elab& elab : net.body) {
    for (Gmsa& gmsa : elab.gmsa) gmsa.int8_attention.reset();
  }
}

Network network_of(const Case& c) {
  Network net = part_of(Model::load(test::model_path(c.model)).network(), c.elabs, 2);
  net.body.back().shifted = true;
  if (!c.hopper) drop_int8_attention(net);  // the portable kernels have it in floating point
  return net;
}

void expect_stages(const Network& net, const Case& c) {
  const auto shape = shape_of(net, {c.body, c.hopper, c.stream}, c.device);
  const Precision precision = c.body == Operand::int8  ? Precision::int8
                              : c.body == Operand::fp8 ? Precision::fp8
                                                       : Precision::fp32;
  const Stages found = compare_stages(
      net, precision, shape, c.device, c.width, c.height, [&](const std::string& name) {
        return name == "output" ? std::max(c.relative, 2e-6) : c.relative;
      });
  if (c.body == Operand::int8) expect_integers(net, c, found);
  if (c.body == Operand::fp8) expect_fp8(net, c, found);
}

TEST_P(Emulated, StagesAreThoseOfTheCpu) {
  expect_stages(network_of(GetParam()), GetParam());
}

// The largest sides and batch that are taken: not all that a grid counts goes on for ever.
TEST_P(Emulated, LaunchesHoldAnySize) {
  const Case& c = GetParam();
  const Network net = network_of(c);
  EmulatedNetwork emulated(net, shape_of(net, {c.body, c.hopper, c.stream}, c.device),
                           limits_of(c.device));
  emulated.check_launches(1 << 20, 16, 1);
  emulated.check_launches(16, 1 << 20, 1);
  emulated.check_launches(16, 16, 65535 / 3);
}

std::ostream& operator<<(std::ostream& out, const Case& c) {
  static const char* const kNames[] = {"fp16", "bf16", "tf32", "fp32", "int8", "fp8"};
  static const char* const kStreams[] = {"", " on an FP16 stream", " on a split stream"};
  return out << c.model << ' ' << kNames[static_cast<int>(c.body)]
             << kStreams[static_cast<int>(c.stream)] << (c.hopper ? ", hopper" : "") << ", "
             << c.elabs << " ELABs, " << c.width << 'x' << c.height << ", "
             << c.device.multiprocessors << " multiprocessors";
}

constexpr const char *kLight = "elan_light_x4", *kFull = "elan_x4";
constexpr auto kFp16 = Operand::fp16, kBf16 = Operand::bf16, kTf32 = Operand::tf32,
               kFp32 = Operand::fp32, kInt8 = Operand::int8, kFp8 = Operand::fp8;
constexpr auto kOnFp32 = StreamFormat::fp32, kOnFp16 = StreamFormat::fp16,
               kSplit = StreamFormat::split;
constexpr const char *kLightInt8 = "elan_light_int8_x4", *kFullInt8 = "elan_int8_x4";

// On a stream of FP16 the last convolution adds the skip itself: what it makes of the body's last
// stage and the exact head, with tiles of all sizes, weights in parts and at once, at all edges.
TEST(Emulated, TheSkipIsInTheTail) {
  for (const auto& [model, width, height, device] :
       {std::tuple{"elan_light_x2", 33, 17, kAlone}, std::tuple{"elan_light_x2", 32, 48, kSmall},
        std::tuple{"elan_light_x3", 21, 30, kSmall}, std::tuple{kLight, 5, 9, kLarge},
        std::tuple{kLight, 17, 3, Device{9, 232448}}, std::tuple{kLight, 16, 16, kAlone},
        std::tuple{kFull, 9, 18, kAlone}, std::tuple{kFull, 5, 3, kSmall}}) {
    const Network net = part_of(Model::load(test::model_path(model)).network(), 1, 1);
    const auto rgb = drawn(width, height);
    const ConstImageView in = view_of(rgb.data(), width, height);
    const int scale = net.arch.scale, channels = net.arch.channels;
    Stages exact, found;
    RunContext context;
    context.observer = keep(exact);
    std::vector<float> unused(rgb.size() * scale * scale);
    const ImageView out = view_of(unused.data(), width * scale, height * scale);
    make_reference_backend(std::make_shared<Network>(net), Precision::fp32)
        ->run({&in, 1}, {&out, 1}, context);
    const auto shape = shape_of(net, {kFp16, false, kOnFp16}, device);
    const std::vector<float> picture =
        EmulatedNetwork(net, shape, limits_of(device)).run(in, keep(found));

    const std::vector<float>&head = exact["head"], &body = found[gmsa_stage(0, 0)];
    ASSERT_EQ(head.size(), body.size());
    const int rows = cuda::padded(height), columns = cuda::padded(width);
    double error = 0;
    for (int i = 0; i < static_cast<int>(picture.size()); ++i) {
      const int colour = i % 3, x = i / 3 % (width * scale), y = i / 3 / (width * scale);
      const int result = (colour * scale + y % scale) * scale + x % scale;
      double sum = net.tail.bias[result] + net.mean[colour];
      for (int k = 0; k < 9 * channels; ++k) {
        const int py = y / scale + k % 9 / 3 - 1, px = x / scale + k % 3 - 1;
        if (py < 0 || py >= rows || px < 0 || px >= columns) continue;
        const int at = (k / 9 * rows + py) * columns + px;
        sum += net.tail.weight[result * 9 * channels + k] * (double{head[at]} + body[at]);
      }
      error = std::max(error, std::abs(picture[i] - sum));
    }
    EXPECT_LE(error, 2e-3) << model;
  }
}

// Pairs of unshifted ELABs may be one kernel each: the same bits, in which references that are
// found and left for the next pair have their part, and so do streams that change behind them.
TEST(Emulated, PairsMayBeOneKernel) {
  for (const auto& [pairs, stream, next] :
       {std::tuple{1, kOnFp16, kSplit}, std::tuple{2, kOnFp16, kOnFp16},
        std::tuple{1, kSplit, kOnFp16}, std::tuple{2, kSplit, kSplit}}) {
    const Network net = part_of(Model::load(test::model_path(kLight)).network(), 2, pairs);
    auto shape = shape_of(net, {kFp16, true, stream}, kAlone);
    shape.body[1].stream = next;
    const auto plan = cuda::make_plan(shape, limits_of(kAlone), 41, 37, 1);
    EXPECT_TRUE(plan.has_whole_pairs(shape.body[0], false));
    for (const auto& rgb : {drawn(41, 37), noise(41, 37)}) {
      const ConstImageView in = view_of(rgb.data(), 41, 37);
      EmulatedNetwork emulated(net, shape, limits_of(kAlone));
      EXPECT_TRUE(emulated.run(in) == emulated.run(in, {}, false))
          << pairs << ' ' << static_cast<int>(stream);
    }
  }
}

// The last convolution has FP16 operands whatever the body has, which must not end tf32's range.
TEST(Emulated, StreamsBeyondFp16ReachThePicture) {
  Network net = part_of(Model::load(test::model_path(kLight)).network(), 1, 1);
  for (float& v : net.head.bias) v += 1e6F;
  compare_stages(net, Precision::fp32, shape_of(net, {kTf32}, kSmall), kSmall, 5, 3,
                 [](const std::string& stage) { return stage == "output" ? 1e4 / 255 : 1e-3; });
}

// Weights beyond FP16's range: references are raised in every kind of window, and whichever kernel
// a device has it come to the same bits.
TEST(Emulated, SoftmaxReferencesAreRaised) {
  const Network net = network_of({kLight, kFp16, kOnFp32, false, 2, 32, 32, kAlone, 0});
  std::vector<Stages> found;
  for (const Device& device : {kAlone, kSmall}) {
    found.push_back(compare_stages(
        net, Precision::fp32, shape_of(net, {kFp16, false, kOnFp32}, device), device, 32, 32,
        [](const std::string&) { return 4e-3; }, true));
  }
  EXPECT_TRUE(found[0] == found[1]);
}

TEST(Emulated, AttentionMayHaveNoScales) {
  const Case c{kFullInt8, kInt8, kOnFp16, true, 2, 14, 9, kLarge, 2e-2};
  Network net = network_of(c);
  drop_int8_attention(net);
  expect_stages(net, c);
}

// What a GMSA leaves for the next LFE lies where that reads it: the picture's rim tells.
TEST(Emulated, LfesMayDifferInTheirTaps) {
  const Case c{kFullInt8, kInt8, kOnFp16, true, 2, 14, 9, kLarge, 2e-2};
  Network net = network_of(c);
  ShiftConv& conv = net.body[1].lfe[0].conv0;
  std::fill(conv.mask.begin(), conv.mask.end(), 0.F);
  for (std::size_t i = 0; i < conv.taps.size(); ++i) {
    conv.taps[i] = static_cast<std::uint8_t>((conv.taps[i] + 4) % 9);
    conv.mask[9 * i + conv.taps[i]] = 1;
  }
  expect_stages(net, c);
}

// fp32 is asked for less than it would be off by (7e-7 to 9e-7) if tensor cores, which round toward
// zero, made its sums. Small devices have one block of threads walk over all tiles, and smaller
// tiles and rings; here their last warp goes first.
INSTANTIATE_TEST_SUITE_P(
    Portable, Emulated,
    testing::Values(Case{kLight, kFp16, kOnFp16, false, 2, 17, 13, kLarge, 4e-3},
                    Case{kLight, kFp16, kOnFp16, false, 2, 40, 18, kAlone, 4e-3},
                    Case{kLight, kFp16, kSplit, false, 1, 18, 20, kAlone, 1e-3},
                    Case{kLight, kBf16, kOnFp32, false, 1, 19, 33, kLarge, 1e-2},
                    Case{kLight, kFp16, kOnFp16, false, 1, 13, 17, kSmall, 4e-3},
                    Case{kLight, kFp16, kSplit, false, 2, 16, 9, kLarge, 1e-3},
                    Case{kLight, kFp16, kSplit, false, 1, 9, 17, kSmall, 1e-3},
                    Case{kLight, kFp16, kOnFp32, false, 1, 16, 9, kLarge, 1e-3},
                    Case{kLight, kBf16, kOnFp32, false, 1, 9, 15, kSmall, 1e-2},
                    Case{kLight, kTf32, kOnFp32, false, 1, 5, 7, kSmall, 1e-3},
                    Case{kLight, kFp32, kOnFp32, false, 1, 11, 3, kSmall, 7e-7},
                    Case{kFull, kFp16, kOnFp16, false, 1, 9, 5, kSmall, 4e-3},
                    Case{kFull, kFp16, kSplit, false, 1, 5, 9, kSmall, 1e-3},
                    Case{kFull, kTf32, kOnFp32, false, 1, 15, 9, kLarge, 1e-3},
                    Case{kFull, kFp32, kOnFp32, false, 1, 3, 8, kLarge, 6e-7}));
INSTANTIATE_TEST_SUITE_P(
    Int8, Emulated,
    testing::Values(Case{kLightInt8, kInt8, kOnFp16, false, 2, 17, 13, kLarge, 2e-2},
                    Case{kFullInt8, kInt8, kOnFp16, false, 1, 9, 5, kSmall, 2e-2},
                    Case{kFullInt8, kInt8, kOnFp16, true, 2, 14, 9, kLarge, 5e-3},
                    Case{kFullInt8, kInt8, kOnFp16, true, 1, 30, 21, kSmall, 5e-3}));
INSTANTIATE_TEST_SUITE_P(
    Fp8, Emulated,
    testing::Values(Case{kLight, kFp8, kOnFp16, false, 2, 17, 13, kLarge, 5e-2},
                    Case{kFull, kFp8, kOnFp16, false, 1, 9, 5, kSmall, 2e-2},
                    Case{kFull, kFp8, kOnFp32, false, 1, 5, 9, kSmall, 2e-2},
                    Case{kFull, kFp8, kOnFp16, true, 2, 14, 9, kLarge, 2e-2},
                    Case{kFull, kFp8, kOnFp16, true, 1, 30, 21, kSmall, 2e-2}));
INSTANTIATE_TEST_SUITE_P(
    Hopper, Emulated,
    testing::Values(Case{kLight, kFp16, kOnFp16, true, 2, 17, 13, kLarge, 4e-3},
                    Case{kLight, kFp16, kOnFp16, true, 1, 41, 37, kSmall, 4e-3},
                    Case{kLight, kFp16, kOnFp16, true, 2, 41, 37, kAlone, 4e-3},
                    Case{kLight, kFp16, kSplit, true, 2, 33, 18, kAlone, 1e-3},
                    Case{kLight, kFp16, kSplit, true, 1, 9, 17, kLarge, 1e-3},
                    Case{kLight, kFp16, kOnFp32, true, 1, 16, 9, kLarge, 1e-3},
                    Case{kLight, kBf16, kOnFp32, true, 2, 33, 31, kLarge, 1e-2},
                    Case{kFull, kFp16, kOnFp16, true, 2, 14, 9, kLarge, 4e-3},
                    Case{kFull, kFp16, kOnFp16, true, 1, 41, 37, kAlone, 4e-3},
                    Case{kFull, kFp16, kOnFp16, true, 1, 14, 31, Device{9, 232448}, 4e-3},
                    Case{kFull, kFp16, kSplit, true, 2, 9, 14, kLarge, 1e-3},
                    Case{kFull, kFp16, kOnFp32, true, 1, 5, 9, kLarge, 1e-3},
                    Case{kFull, kBf16, kOnFp32, true, 1, 16, 3, kLarge, 1e-2},
                    Case{kFull, kTf32, kOnFp32, true, 2, 14, 9, kLarge, 1e-3},
                    Case{kFull, kTf32, kOnFp32, true, 1, 17, 18, kLarge, 1e-3},
                    Case{kFull, kFp32, kOnFp32, true, 1, 19, 3, kLarge, 6e-7}));

// A stream beyond 65504 must show in the picture, or it would not be computed again in tf32.
TEST(EmulatedStream, BeyondTheRangeOfFp16IsNoticed) {
  Network net = part_of(Model::load(test::model_path(kLight)).network(), 1, 1);
  for (float& v : net.head.bias) v += 1e5F;
  const auto rgb = drawn(9, 5);
  for (const StreamFormat stream : {kOnFp16, kSplit}) {
    cuda::NetworkShape shape;
    shape.channels = net.arch.channels;
    shape.scale = net.arch.scale;
    shape.hidden_groups = cuda::most_hidden_groups(net);
    shape.body = {{kFp16, false, stream}};
    // Two blocks of the tail set the flag, which the emulator calls a race.
    std::string noticed;
    try {
      EmulatedNetwork(net, shape, limits_of(kLarge)).run(view_of(rgb.data(), 9, 5));
    } catch (const std::exception& e) {
      noticed = e.what();
    }
    EXPECT_NE(noticed.find("flag"), std::string::npos) << noticed;
  }
}

// ELABs of all operands in one pass, the stream in several formats, against the reference
// under the same plan with an exact stream.
struct MixedCase {
  const char* model;
  const char* plan;
  bool hopper;
  std::vector<double> relative;  // by ELAB
  int width, height;
};
std::ostream& operator<<(std::ostream& out, const MixedCase& c) {
  return out << c.model << ' ' << c.plan;
}

class EmulatedMix : public testing::TestWithParam<MixedCase> {};

TEST_P(EmulatedMix, StagesAreThoseOfThePlan) {
  const MixedCase& c = GetParam();
  const int elabs = static_cast<int>(c.relative.size());
  const Network net = part_of(Model::load(test::model_path(c.model)).network(), elabs, 2);
  const PrecisionPlan plan = PrecisionPlan::parse(c.plan, "plan", Precision::fp32);
  plan.check(net.arch);
  const auto shape = cuda::plan_shape(net, plan, {limits_of(kLarge), c.hopper, std::nullopt});
  PrecisionPlan wanted = plan;  // the exact ELABs must not notice what the others do to the stream
  wanted.set("residual", Precision::fp32);
  compare_stages(net, wanted, shape, kLarge, c.width, c.height, [&](const std::string& stage) {
    if (stage == "head") return 1e-3;  // it may be kept in FP16
    if (!stage.starts_with("body.")) return c.relative.back();
    return c.relative[std::stoul(stage.substr(5))];
  });
}

INSTANTIATE_TEST_SUITE_P(
    Plans, EmulatedMix,
    testing::Values(MixedCase{kLight,
                              R"({"default": "fp32", "residual": "fp16", "body.1.*": "tf32",
                      "body.2.*": "fp16", "body.3.*": "bf16"})",
                              false,
                              {1e-5, 1e-3, 4e-3, 1e-2},
                              17,
                              9},
                    MixedCase{kLight,
                              R"({"default": "fp16", "residual": "fp16", "body.1.gmsa.0.qk": "fp32",
                      "body.2.lfe.*": "bf16"})",
                              false,
                              {4e-3, 4e-3, 4e-3},
                              9,
                              17},
                    MixedCase{kLight,
                              R"({"default": "fp16", "residual": "fp32", "body.1.*": "tf32",
                      "body.3.residual": "fp16"})",
                              false,
                              {2e-3, 2e-3, 2e-3, 4e-3, 4e-3},
                              15,
                              5},
                    MixedCase{kFull,
                              R"({"default": "fp16", "residual": "fp16", "body.1.*": "tf32",
                      "body.2.*": "bf16"})",
                              true,
                              {4e-3, 4e-3, 1e-2},
                              14,
                              3}));

}  // namespace
}  // namespace elan::emulator
