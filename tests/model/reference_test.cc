// The reference as a backend: sample types, borders, batches, cancellation, and the network's parts
// that the golden values do not reach.
#include "model/reference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stop_token>

#include "backend.h"
#include "model/checkpoint.h"
#include "model/describe.h"
#include "model/stages.h"
#include "model/work.h"
#include "support/errors.h"
#include "support/golden.h"
#include "support/weights_files.h"

namespace elan::test {
namespace {

std::shared_ptr<const Network> network_of(const WeightsFile& file) {
  return std::make_shared<const Network>(
      read_checkpoint(Safetensors::parse("m", serialise(file))).network);
}

const std::shared_ptr<const Network>& small_network() {
  static const auto net = network_of(make_elan(small_architecture()));
  return net;
}

template <typename Sample>
struct Picture {
  int width = 0, height = 0;
  std::vector<Sample> rgb;

  Picture(int w, int h) : width(w), height(h), rgb(static_cast<std::size_t>(w) * h * 3) {}
  [[nodiscard]] ConstImageView view() const { return view_of(rgb.data(), width, height); }
  [[nodiscard]] ImageView view() { return view_of(rgb.data(), width, height); }
};

Picture<std::uint8_t> test_picture(int width, int height, int seed = 0) {
  Picture<std::uint8_t> picture(width, height);
  for (std::size_t i = 0; i < picture.rgb.size(); ++i) {
    picture.rgb[i] = static_cast<std::uint8_t>((i * 97 + seed * 31) % 251);
  }
  return picture;
}

template <typename Out, typename In>
Picture<Out> upscaled(Backend& backend, const Picture<In>& in, int scale) {
  Picture<Out> out(in.width * scale, in.height * scale);
  const ConstImageView from = in.view();
  const ImageView to = out.view();
  backend.run({&from, 1}, {&to, 1}, {});
  return out;
}

TEST(Reflect, RepeatsLikeNumpy) {
  // numpy.pad(range(n), (0, 12), "reflect")
  const std::vector<int> four{0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0};
  const std::vector<int> two{0, 1, 0, 1, 0, 1};
  for (int i = 0; i < static_cast<int>(four.size()); ++i) EXPECT_EQ(reflect(i, 4), four[i]);
  for (int i = 0; i < static_cast<int>(two.size()); ++i) EXPECT_EQ(reflect(i, 2), two[i]);
  for (int i = 0; i < 40; ++i) EXPECT_EQ(reflect(i, 1), 0);
}

TEST(Reflect, PadsToTheLargestWindow) {
  Architecture arch;
  EXPECT_EQ(padded_side(arch, 1), 16);
  EXPECT_EQ(padded_side(arch, 16), 16);
  EXPECT_EQ(padded_side(arch, 17), 32);
  arch.windows = {4, 8, 2};
  EXPECT_EQ(padded_side(arch, 17), 24);
}

// A picture and the same picture padded by hand must agree where they overlap.
TEST(Reference, PadsByReflection) {
  const auto backend = make_reference_backend(small_network(), Precision::fp64);
  const auto picture = test_picture(5, 3);
  Picture<std::uint8_t> padded(16, 16);
  for (int y = 0; y < 16; ++y) {
    for (int x = 0; x < 16; ++x) {
      for (int c = 0; c < 3; ++c) {
        padded.rgb[(y * 16 + x) * 3 + c] = picture.rgb[(reflect(y, 3) * 5 + reflect(x, 5)) * 3 + c];
      }
    }
  }
  const auto small = upscaled<float>(*backend, picture, 2);
  const auto large = upscaled<float>(*backend, padded, 2);
  for (int y = 0; y < small.height; ++y) {
    for (int x = 0; x < small.width * 3; ++x) {
      ASSERT_EQ(small.rgb[y * small.width * 3 + x], large.rgb[y * large.width * 3 + x]);
    }
  }
}

TEST(Reference, ReadsAndWritesEverySampleType) {
  const auto backend = make_reference_backend(small_network(), Precision::fp64);
  const auto u8 = test_picture(9, 4);
  Picture<std::uint16_t> u16(9, 4);
  Picture<float> f32(9, 4);
  for (std::size_t i = 0; i < u8.rgb.size(); ++i) {
    u16.rgb[i] = static_cast<std::uint16_t>(u8.rgb[i] * 257);
    f32.rgb[i] = u8.rgb[i];
  }
  const auto exact = upscaled<float>(*backend, u8, 2);
  EXPECT_LE(max_abs_difference(upscaled<float>(*backend, u16, 2).rgb, exact.rgb), 1e-4);
  EXPECT_EQ(upscaled<float>(*backend, f32, 2).rgb, exact.rgb);
  const auto as_u8 = upscaled<std::uint8_t>(*backend, u8, 2);
  const auto as_u16 = upscaled<std::uint16_t>(*backend, u8, 2);
  int beyond = 0;
  for (std::size_t i = 0; i < exact.rgb.size(); ++i) {
    const float v = exact.rgb[i];
    beyond += v < 0 || v > 255 ? 1 : 0;
    EXPECT_EQ(as_u8.rgb[i], std::clamp(std::nearbyint(v), 0.0F, 255.0F));
    EXPECT_NEAR(as_u16.rgb[i], std::clamp(257 * v, 0.0F, 65535.0F), 0.6);
  }
  EXPECT_GT(beyond, 0) << "the picture does not show whether values are clamped";
}

// A head of zeros and a body that cannot add to it leave mean and bias of the tail: known values.
TEST(Reference, RoundsHalfToEvenAndClamps) {
  WeightsFile file = without_mean(make_elan(smallest_architecture()));
  file.metadata["value_range"] = "0..255";
  for (auto& [key, tensor] : file.tensors) {
    if (key == "tail.0.weight") std::fill(tensor.bytes.begin(), tensor.bytes.end(), std::byte{0});
  }
  const auto rounded = [&](float r, float g, float b) {
    file.tensors["tail.0.bias"] = f32_tensor({3}, {r, g, b});
    const auto backend = make_reference_backend(network_of(file), Precision::fp32);
    return upscaled<std::uint8_t>(*backend, test_picture(1, 1), 1).rgb;
  };
  EXPECT_EQ(rounded(0.5F, 1.5F, 2.5F), (std::vector<std::uint8_t>{0, 2, 2}));
  EXPECT_EQ(rounded(-0.6F, 254.5F, 254.6F), (std::vector<std::uint8_t>{0, 254, 255}));
  EXPECT_EQ(rounded(-3e38F, 3e38F, 255.5F), (std::vector<std::uint8_t>{0, 255, 255}));
}

TEST(Reference, HonoursRowBytesAndBatches) {
  const auto backend = make_reference_backend(small_network(), Precision::fp32);
  const auto wide = test_picture(20, 6);
  const ConstImageView all = wide.view();
  const std::vector<ConstImageView> in{all.crop(0, 0, 7, 5), all.crop(9, 1, 7, 5)};
  Picture<float> first(14, 10), second(14, 10), sheet(40, 12);
  std::fill(sheet.rgb.begin(), sheet.rgb.end(), -7.0F);
  const std::vector<ImageView> out{first.view(), sheet.view().crop(20, 2, 14, 10)};
  double last = 0;
  RunContext context;
  context.progress = [&](double share) {
    EXPECT_GE(share, last);
    last = share;
  };
  backend->run(in, out, context);
  EXPECT_EQ(last, 1);
  backend->run({&in[1], 1}, std::vector<ImageView>{second.view()}, {});
  for (int y = 0; y < 12; ++y) {
    for (int x = 0; x < 40 * 3; ++x) {
      const bool inside = y >= 2 && x >= 60 && x < 102;
      ASSERT_EQ(sheet.rgb[y * 120 + x], inside ? second.rgb[(y - 2) * 42 + x - 60] : -7.0F);
    }
  }
  EXPECT_NE(first.rgb, second.rgb);
}

TEST(Reference, ShowsEveryStageOnceInOrder) {
  const auto backend = make_reference_backend(small_network(), Precision::fp32);
  std::vector<std::string> names;
  RunContext context;
  context.observer = [&](const StageView& stage) {
    names.emplace_back(stage.name);
    EXPECT_NE(stage.f32, nullptr);
    EXPECT_EQ(stage.f64, nullptr);
    if (stage.name == "tail") {
      EXPECT_EQ(stage.channels, 3);
      EXPECT_EQ(stage.height, 32);
    }
    if (stage.name == "output") {
      EXPECT_EQ(stage.width, 6);
    }
  };
  const auto picture = test_picture(3, 2);
  Picture<float> a(6, 4), b(6, 4);
  const std::vector<ConstImageView> pictures{picture.view(), picture.view()};
  backend->run(pictures, std::vector<ImageView>{a.view(), b.view()}, context);
  EXPECT_EQ(names, backend->stages());
  EXPECT_EQ(names, stage_names(small_network()->arch));
}

TEST(Reference, StopsWithinAnElab) {
  const auto backend = make_reference_backend(small_network(), Precision::fp32);
  const auto picture = test_picture(3, 2);
  Picture<float> out(6, 4);
  const ConstImageView from = picture.view();
  const ImageView to = out.view();
  for (const std::string at : {"head", "body.0.lfe.1", "body.1.gmsa.0", "body"}) {
    std::stop_source source;
    RunContext context;
    context.stop = source.get_token();
    std::string last;
    context.observer = [&](const StageView& stage) {
      last = stage.name;
      if (stage.name == at) source.request_stop();
    };
    EXPECT_EQ(error_of(ErrorKind::cancelled, [&] { backend->run({&from, 1}, {&to, 1}, context); }),
              "cancelled");
    EXPECT_EQ(last, at);
  }
}

TEST(Reference, RefusesWhatNeedsScalesOrDoubles) {
  EXPECT_EQ(
      error_of(ErrorKind::usage, [] { make_reference_backend(small_network(), Precision::int8); }),
      "device reference: head: expected fp32, tf32, bf16, fp16 or fp8, found int8");
  PrecisionPlan mixed(Precision::fp32);
  mixed.set("tail", Precision::fp64);
  EXPECT_EQ(error_of(ErrorKind::usage, [&] { make_reference_backend(small_network(), mixed); }),
            "device reference: tail: expected fp32, tf32, bf16, fp16 or fp8, found fp64");
}

std::map<std::string, std::vector<double>> stages_of(const PrecisionPlan& plan) {
  const auto picture = test_picture(20, 16);
  Picture<float> out(20 * small_network()->arch.scale, 16 * small_network()->arch.scale);
  std::map<std::string, std::vector<double>> stages;
  RunContext context;
  context.observer = [&](const StageView& stage) {
    auto& values = stages[std::string(stage.name)];
    for (std::size_t i = 0; i < stage.size(); ++i) values.push_back(stage.at(i));
  };
  const ConstImageView from = picture.view();
  const ImageView to = out.view();
  make_reference_backend(small_network(), plan)->run({&from, 1}, {&to, 1}, context);
  return stages;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

// The stage that an operation's result goes into.
std::string stage_of(const std::string& operation) {
  if (operation == "residual") return "head";
  const auto gmsa = operation.find(".gmsa.");
  const auto lfe = operation.find(".lfe.");
  if (gmsa != std::string::npos) return operation.substr(0, operation.find('.', gmsa + 6));
  if (lfe != std::string::npos) return operation.substr(0, operation.find('.', lfe + 5));
  return operation;
}

TEST(Reference, RoundsTheOperandsOfTheOperationThatThePlanNames) {
  const auto exact = stages_of(Precision::fp64);
  const std::vector<std::string> order = stage_names(small_network()->arch);
  for (const std::string& operation : operation_names(small_network()->arch)) {
    PrecisionPlan plan(Precision::fp64);
    plan.set(operation, Precision::bf16);
    const auto coarse = stages_of(plan);
    plan.set(operation, Precision::tf32);
    const auto fine = stages_of(plan);
    const auto first = std::find_if(order.begin(), order.end(), [&](const std::string& stage) {
      return largest_difference(exact.at(stage), coarse.at(stage)) != 0;
    });
    ASSERT_NE(first, order.end()) << operation;
    EXPECT_EQ(*first, stage_of(operation)) << operation;
    const double error = largest_difference(exact.at(*first), coarse.at(*first));
    const double less = largest_difference(exact.at(*first), fine.at(*first));
    EXPECT_GT(less, 0) << operation;
    EXPECT_LT(less, 0.6 * error) << operation;
  }
}

TEST(Reference, Fp8RoundsThe1x1ConvolutionsAlone) {
  const auto exact = stages_of(Precision::fp32);
  PrecisionPlan plan(Precision::fp8);
  for (const std::string& operation : operation_names(small_network()->arch)) {
    const bool conv = operation.find("conv") != std::string::npos ||
                      operation.find("project") != std::string::npos;
    if (conv) plan.set(operation, Precision::fp32);
  }
  EXPECT_EQ(stages_of(plan), exact);
  plan.set("body.0.lfe.0.conv1", Precision::fp8);
  EXPECT_GT(largest_difference(stages_of(plan).at("body.0.lfe.0"), exact.at("body.0.lfe.0")), 0);
}

TEST(Reference, AUniformPrecisionRoundsAllButTheResidualStream) {
  PrecisionPlan named(Precision::fp32);
  named.set("*", Precision::bf16);
  EXPECT_EQ(stages_of(Precision::bf16), stages_of(named));
  named.set("residual", Precision::bf16);
  EXPECT_NE(stages_of(Precision::bf16), stages_of(named));
}

TEST(Reference, RoundsTheStreamFromTheElabOnThatThePlanNames) {
  const auto exact = stages_of(Precision::fp64);
  PrecisionPlan plan(Precision::fp64);
  plan.set("body.1.residual", Precision::bf16);
  const auto found = stages_of(plan);
  EXPECT_EQ(found.at("head"), exact.at("head"));
  EXPECT_EQ(found.at("body.0.gmsa.0"), exact.at("body.0.gmsa.0"));
  EXPECT_NE(found.at("body.1.lfe.0"), exact.at("body.1.lfe.0"));
}

TEST(Reference, MemoryGrowsWithThePicture) {
  const auto backend = make_reference_backend(small_network(), Precision::fp32);
  const std::size_t one = backend->memory_needed(16, 16, 1);
  EXPECT_GE(one, 16U * 16 * 15 * 4);
  EXPECT_EQ(backend->memory_needed(1, 1, 1), one);
  EXPECT_GT(backend->memory_needed(17, 16, 1), one);
  EXPECT_GT(backend->memory_needed(16, 17, 1), one);
  EXPECT_GE(backend->memory_needed(16, 16, 2), one);
}

// A 3x3 mask with two taps equals the sum of two shifts; its weights are halved to compare.
TEST(Reference, RunsMasksThatAreNoShift) {
  Network net = *small_network();
  ShiftConv& conv = net.body[0].lfe[0].conv0;
  for (int c = 0; c < conv.in; ++c) {
    std::fill_n(conv.mask.begin() + c * 9, 9, 0.0F);
    conv.mask[c * 9 + 4] = 0.75F;  // a scaled centre tap: the same as scaled weights
  }
  conv.taps.clear();
  Network plain = net;
  ShiftConv& scaled = plain.body[0].lfe[0].conv0;
  for (float& m : scaled.mask) m = m == 0 ? 0.0F : 1.0F;
  for (float& w : scaled.weight) w *= 0.75F;
  const auto picture = test_picture(8, 8);
  const auto run = [&](const Network& n) {
    const auto backend =
        make_reference_backend(std::make_shared<const Network>(n), Precision::fp64);
    return upscaled<float>(*backend, picture, 2).rgb;
  };
  const auto masked = run(net);
  EXPECT_LE(max_abs_difference(masked, run(plain)), 1e-4);
  EXPECT_GT(max_abs_difference(masked, run(*small_network())), 1e-2);
}

TEST(MultiplyAdds, AreThoseOfThePaper) {
  EXPECT_NEAR(multiply_adds_per_pixel(Model::load(model_path("elan_light_x4")).architecture()),
              0.83e6, 0.005e6);
  EXPECT_NEAR(multiply_adds_per_pixel(Model::load(model_path("elan_x4")).architecture()), 9.70e6,
              0.005e6);
}

TEST(MultiplyAdds, OfTheOperationsAddUp) {
  for (const char* name : {"elan_light_x3", "elan_x4"}) {
    const Model model = Model::load(model_path(name));
    const auto work = operation_work(model.network());
    double sum = 0;
    for (const std::string& operation : operation_names(model.architecture())) {
      ASSERT_TRUE(work.contains(operation)) << operation;
      sum += work.at(operation);
    }
    EXPECT_EQ(work.size(), operation_names(model.architecture()).size());
    EXPECT_NEAR(sum, multiply_adds_per_pixel(model.architecture()), 1);
  }
}

TEST(Describe, TellsWhatTheFileHolds) {
  const std::string path = model_path("elan_x4");
  const ModelDescription about = describe_model(path);
  EXPECT_EQ(about.path, path);
  EXPECT_EQ(about.file_size, std::filesystem::file_size(path));
  EXPECT_EQ(about.tensors, 512U);
  EXPECT_EQ(about.dtypes, (std::map<std::string, std::size_t>{{"F16", 146}, {"F32", 366}}));
  EXPECT_EQ(about.layout, KeyLayout::published);
  EXPECT_EQ(about.metadata.at("scale"), "4");
  EXPECT_EQ(about.architecture.variant(), "elan");
  ASSERT_EQ(about.mean.size(), 3U);
  EXPECT_NEAR(about.mean[0], 114.444, 1e-3);
  EXPECT_TRUE(about.one_hot_shifts);
  EXPECT_EQ(about.fingerprint, Model::load(path).fingerprint());
  EXPECT_EQ(error_of(ErrorKind::model, [] { describe_model("/nowhere"); }),
            "/nowhere: expected a safetensors file, found no such file");
}

}  // namespace
}  // namespace elan::test
