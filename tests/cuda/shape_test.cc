// What a precision plan makes of the network: never less exact than asked, ELAB by ELAB.
#include "cuda/shape.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <optional>
#include <string>

#include "cuda/pack.h"
#include "elan/error.h"
#include "model/stages.h"
#include "support/golden.h"

namespace elan::cuda {
namespace {

constexpr std::array kOperands{Operand::fp16, Operand::bf16, Operand::tf32, Operand::fp32,
                               Operand::fp8};
constexpr DeviceLimits kH200{132, 232448, 233472, true};

// Bits of the significand, and the largest power of two; fp32 overflows visibly, see exacter().
int steps(Operand o) {
  return o == Operand::fp32 ? 22 : o == Operand::bf16 ? 8 : o == Operand::fp8 ? 4 : 11;
}
int range(Operand o) {
  return o == Operand::fp16 ? 15 : o == Operand::fp8 ? 8 : 127;
}

const Network& network(const char* name) {
  static std::map<std::string, Model> models;
  return models.try_emplace(name, Model::load(test::model_path(name))).first->second.network();
}

NetworkShape shape_of(const char* model, const std::string& json,
                      std::optional<StreamFormat> stream = std::nullopt) {
  const Network& net = network(model);
  const PrecisionPlan plan = PrecisionPlan::parse(json, "plan", Precision::fp16);
  plan.check(net.arch);
  return plan_shape(net, plan, {kH200, net.arch.channels == 180, stream});
}

TEST(CudaShape, TheExacterOperandCoversBothAndIsTheCoarsestThatDoes) {
  const auto covers = [](Operand o, Operand a) {
    return steps(o) >= steps(a) && range(o) >= range(a);
  };
  for (const Operand a : kOperands) {
    EXPECT_EQ(exacter(a, a), a);
    for (const Operand b : kOperands) {
      const Operand both = exacter(a, b);
      EXPECT_EQ(exacter(b, a), both);
      EXPECT_TRUE(covers(both, a) && covers(both, b));
      for (const Operand other : kOperands) {
        const bool covers_too = covers(other, a) && covers(other, b);
        EXPECT_TRUE(!covers_too || covers(other, both));
      }
    }
  }
}

TEST(CudaShape, OnePrecisionIsAllOfOneKind) {
  const NetworkShape fp16 = shape_of("elan_x4", R"({"default": "fp16"})");
  EXPECT_EQ(fp16.kinds(), (std::vector<PairKind>{{Operand::fp16, true, StreamFormat::fp16}}));
  EXPECT_EQ(fp16.body.size(), network("elan_x4").body.size());
  EXPECT_EQ(fp16.hidden_groups, 5);
  EXPECT_EQ(fp16.tail, Operand::fp32);
  EXPECT_EQ(operands_text(fp16), "fp16");
  const NetworkShape tf32 = shape_of("elan_x4", R"({"default": "tf32"})");
  EXPECT_EQ(tf32.kinds(), (std::vector<PairKind>{{Operand::tf32, true}}));
  const NetworkShape light = shape_of("elan_light_x4", R"({"default": "bf16"})");
  EXPECT_EQ(light.kinds(), (std::vector<PairKind>{{Operand::bf16}}));
}

TEST(CudaShape, EightBitsAreTheDefaultWhereTheirKernelsAreTheFastest) {
  const auto chosen = [](const char* model, bool hopper,
                         std::optional<StreamFormat> stream = std::nullopt) {
    return default_precision(network(model), {kH200, hopper, stream});
  };
  EXPECT_EQ(chosen("elan_int8_x4", true), Precision::int8);
  EXPECT_EQ(chosen("elan_int8_x4", false), Precision::fp16);
  EXPECT_EQ(chosen("elan_int8_x4", true, StreamFormat::fp32), Precision::fp16);
  EXPECT_EQ(chosen("elan_light_int8_x4", false), Precision::fp16);
  EXPECT_EQ(chosen("elan_x4", true), Precision::fp16);
}

TEST(CudaShape, AnElabTakesItsMostExactOperation) {
  const NetworkShape s = shape_of("elan_light_x4", R"({"default": "fp16", "residual": "fp16",
      "body.1.gmsa.0.qk": "fp32", "body.2.lfe.1.conv0": "bf16", "body.3.gmsa.1.av": "tf32",
      "head": "bf16"})");
  for (std::size_t i = 0; i < s.body.size(); ++i) {
    const PairKind expected = i == 1 ? PairKind{Operand::fp32}
                              : i == 2 || i == 3
                                  ? PairKind{Operand::tf32}
                                  : PairKind{Operand::fp16, false, StreamFormat::fp16};
    EXPECT_EQ(s.body[i], expected) << i;
  }
  EXPECT_EQ(operands_text(s), "fp16, fp32 and tf32");
}

TEST(CudaShape, HopperRunsWhatItCanBesideTheRest) {
  const NetworkShape s =
      shape_of("elan_int8_x4", R"({"default": "int8", "body.0.*": "tf32", "body.1.*": "bf16",
      "body.2.residual": "fp16"})");
  EXPECT_EQ(s.body[0], (PairKind{Operand::tf32, true}));
  EXPECT_EQ(s.body[1], (PairKind{Operand::bf16, true}));
  EXPECT_EQ(s.body[2], (PairKind{Operand::int8, true, StreamFormat::fp16}));
  EXPECT_EQ(s.body[3], (PairKind{Operand::int8}));  // not on an FP32 stream
}

TEST(CudaShape, OfTheNarrowNetworkHopperHasTheLfeIn16Bits) {
  const auto kind = [](const Network& net, Precision precision) {
    return plan_shape(net, PrecisionPlan(precision), {kH200, true, std::nullopt}).body[3];
  };
  Network net = network("elan_light_x4");
  EXPECT_EQ(kind(net, Precision::fp16), (PairKind{Operand::fp16, true, StreamFormat::fp16}));
  EXPECT_EQ(kind(net, Precision::bf16), (PairKind{Operand::bf16, true}));
  EXPECT_EQ(kind(net, Precision::tf32), (PairKind{Operand::tf32}));
  EXPECT_EQ(kind(net, Precision::fp32), (PairKind{Operand::fp32}));
  for (const StreamFormat stream : {StreamFormat::fp32, StreamFormat::split}) {
    EXPECT_EQ(plan_shape(net, PrecisionPlan(Precision::fp16), {kH200, true, stream}).body[3],
              (PairKind{Operand::fp16, true, stream}));
  }
  // FP16 has to hold the weights as they are.
  for (const float factor : {1e6F, 1e-6F}) {
    for (const bool project : {false, true}) {
      Network scaled = net;
      Elab& elab = scaled.body[3];
      for (float& w : project ? elab.gmsa[1].project_inp.weight : elab.lfe[0].conv1.weight) {
        w *= factor;
      }
      EXPECT_FALSE(kind(scaled, Precision::fp16).hopper) << factor << project;
    }
  }
  // Of an LFE whose units all have two taps it reads too much.
  const std::vector<int> order = stream_order(net);
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (order[i] >= 0) {
      net.body[3].lfe[1].conv0.taps[order[i]] = static_cast<std::uint8_t>(i / 4 % 9);
    }
  }
  EXPECT_FALSE(kind(net, Precision::fp16).hopper);
}

TEST(CudaShape, OfTheWideNetworkHopperHasWhatItsTilesAndFp16CanHold) {
  const auto kind = [](const Network& net, Precision precision) {
    return plan_shape(net, PrecisionPlan(precision), {kH200, true, std::nullopt}).body[3];
  };
  const Network net = network("elan_x4");
  EXPECT_EQ(kind(net, Precision::fp16), (PairKind{Operand::fp16, true, StreamFormat::fp16}));
  EXPECT_EQ(kind(net, Precision::bf16), (PairKind{Operand::bf16, true}));
  for (const float factor : {1e6F, 1e-6F}) {
    for (const int matrix : {0, 1, 2}) {
      Network scaled = net;
      Elab& elab = scaled.body[3];
      for (float& w : matrix == 0   ? elab.lfe[0].conv1.weight
                      : matrix == 1 ? elab.gmsa[0].project_inp.weight
                                    : elab.gmsa[0].project_out.weight) {
        w *= factor;
      }
      EXPECT_FALSE(kind(scaled, Precision::fp16).hopper) << factor << " " << matrix;
      EXPECT_TRUE(kind(scaled, Precision::bf16).hopper);
      EXPECT_TRUE(kind(scaled, Precision::tf32).hopper);
    }
  }
  // Units with two taps elsewhere than where five taps of 36 channels meet.
  Network mixed = net;
  for (int i = 0; i < 4; ++i) mixed.body[3].lfe[0].conv0.taps[stream_order(net)[i]] ^= 1;
  EXPECT_FALSE(kind(mixed, Precision::fp16).hopper);
  Network biased = net;
  biased.body[3].gmsa[0].project_out.bias[7] = -1e5F;
  EXPECT_FALSE(kind(biased, Precision::fp16).hopper);
}

// Its biases are rows of weights, which FP16 cannot hold if they are that much larger than others.
TEST(CudaShape, TheNarrowLfeOfHopperTakesNoHugeBiases) {
  for (const bool of_conv1 : {false, true}) {
    Network net = network("elan_light_x4");
    ShiftConv& conv = of_conv1 ? net.body[1].lfe[1].conv1 : net.body[1].lfe[1].conv0;
    conv.bias[3] = -1e9F;
    for (const Precision precision : {Precision::fp16, Precision::bf16}) {
      const NetworkShape shape = plan_shape(net, precision, {kH200, true, std::nullopt});
      for (std::size_t i = 0; i < shape.body.size(); ++i) {
        EXPECT_EQ(shape.body[i].hopper, precision == Precision::bf16 || i != 1) << i;
      }
    }
  }
  Network net = network("elan_light_x4");
  std::vector<float>& weight = net.body[2].gmsa[0].project_inp.weight;
  for (float& w : weight) w *= 1e-12F;
  EXPECT_FALSE(plan_shape(net, Precision::fp16, {kH200, true, std::nullopt}).body[2].hopper);
}

TEST(CudaShape, AProjectionOutThatFp16CannotHoldPutsItsNarrowElabInTf32) {
  Network tiny = network("elan_light_x4"), huge = tiny, biased = tiny;
  for (float& w : tiny.body[3].gmsa[1].project_out.weight) w *= 1e-6F;
  for (float& w : huge.body[3].gmsa[1].project_out.weight) w *= 1e6F;
  biased.body[3].gmsa[1].project_out.bias[7] = -1e5F;
  for (const Network* net : {&tiny, &huge, &biased}) {
    for (const bool hopper : {false, true}) {
      const DeviceWishes wishes{kH200, hopper, std::nullopt};
      const NetworkShape shape = plan_shape(*net, Precision::fp16, wishes);
      EXPECT_EQ(shape.body[3], (PairKind{Operand::tf32}));
      EXPECT_EQ(shape.body[2].operand, Operand::fp16);
      EXPECT_EQ(plan_shape(*net, Precision::bf16, wishes).body[3].operand, Operand::bf16);
    }
  }
}

// Small weights of v are not excused by those of q.
TEST(CudaShape, QAndVAreJudgedApart) {
  Network net = network("elan_light_x4");
  Gmsa& gmsa = net.body[3].gmsa[0];
  const int third = gmsa.project_inp.out / 3;
  for (int row = 0; row < gmsa.project_inp.out; ++row) {
    if (row % third < third / 2) continue;  // q
    for (int i = 0; i < gmsa.project_inp.in; ++i) {
      gmsa.project_inp.weight[static_cast<std::size_t>(row) * gmsa.project_inp.in + i] *= 1e-5F;
    }
  }
  EXPECT_FALSE(plan_shape(net, Precision::fp16, {kH200, true, std::nullopt}).body[3].hopper);
}

TEST(CudaShape, TheStreamIsWhatThePlanSaysAndTheOperandsTake) {
  const auto stream = [](const std::string& json, std::optional<StreamFormat> wish = std::nullopt) {
    return shape_of("elan_light_x4", json, wish).body[0].stream;
  };
  EXPECT_EQ(stream(R"({"default": "fp16"})"), StreamFormat::fp16);
  EXPECT_EQ(stream(R"({"default": "fp16", "residual": "fp16"})"), StreamFormat::fp16);
  EXPECT_EQ(stream(R"({"default": "fp16", "residual": "fp32"})"), StreamFormat::split);
  EXPECT_EQ(stream(R"({"default": "fp16", "body.5.*": "tf32"})"), StreamFormat::split);
  EXPECT_EQ(stream(R"({"default": "bf16", "residual": "fp16"})"), StreamFormat::fp32);
  for (const StreamFormat wish : {StreamFormat::fp32, StreamFormat::fp16, StreamFormat::split}) {
    EXPECT_EQ(stream(R"({"default": "fp16"})", wish), wish);
    EXPECT_EQ(stream(R"({"default": "fp16", "residual": "fp32"})", wish), wish);
    EXPECT_EQ(stream(R"({"default": "tf32"})", wish), StreamFormat::fp32);
  }
}

TEST(CudaShape, EveryElabMayKeepTheStreamItsOwnWay) {
  const NetworkShape s = shape_of("elan_light_x4", R"({"default": "fp16",
      "body.*.residual": "fp16", "body.1?.residual": "fp32", "body.2.*": "tf32"})");
  for (std::size_t i = 0; i < s.body.size(); ++i) {
    EXPECT_EQ(s.body[i].stream, i == 2   ? StreamFormat::fp32
                                : i < 10 ? StreamFormat::fp16
                                         : StreamFormat::split)
        << i;
  }
}

TEST(CudaShape, GroupsAreElabsAndTheRest) {
  const Architecture& arch = network("elan_light_x4").arch;
  const auto groups = operation_groups(arch);
  ASSERT_EQ(groups.size(), 3U + arch.elabs);
  EXPECT_EQ(groups[2], std::vector<std::string>{"residual"});
  std::vector<std::string> all;
  for (const auto& group : groups) all.insert(all.end(), group.begin(), group.end());
  EXPECT_EQ(all, operation_names(arch));
  EXPECT_EQ(groups[13].front(), "body.10.lfe.0.conv0");
}

TEST(CudaShape, EightBitsWhereTheModelHasThem) {
  const PairKind fast{Operand::int8, true, StreamFormat::fp16},
      portable{Operand::int8, false, StreamFormat::fp16};
  EXPECT_EQ(shape_of("elan_int8_x4", R"({"default": "int8"})").kinds(), std::vector{fast});
  EXPECT_EQ(shape_of("elan_light_int8_x4", R"({"default": "int8"})").kinds(),
            std::vector{portable});
  for (const StreamFormat wish : {StreamFormat::fp32, StreamFormat::split}) {
    EXPECT_EQ(shape_of("elan_int8_x4", R"({"default": "int8"})", wish).kinds(),
              std::vector{PairKind{Operand::int8}});  // on an FP32 stream
  }
  // None without scales, and none beside a more exact operation.
  EXPECT_EQ(shape_of("elan_x4", R"({"default": "int8"})").kinds(),
            (std::vector{PairKind{Operand::fp16, true, StreamFormat::fp16}}));
  const NetworkShape s = shape_of("elan_int8_x4", R"({"default": "int8", "residual": "fp16",
      "body.1.gmsa.0.qk": "fp32", "body.2.lfe.0.conv0": "bf16"})");
  EXPECT_EQ(s.body[0], fast);
  EXPECT_EQ(s.body[1].operand, Operand::fp32);
  EXPECT_EQ(s.body[2].operand, Operand::bf16);
  EXPECT_EQ(operands_text(s), "int8, fp32 and bf16");
}

TEST(CudaShape, Fp8NeedsNoScales) {
  const PairKind fast{Operand::fp8, true, StreamFormat::fp16},
      portable{Operand::fp8, false, StreamFormat::fp16};
  for (const char* model : {"elan_x4", "elan_int8_x4"}) {
    EXPECT_EQ(shape_of(model, R"({"default": "fp8"})").kinds(), std::vector{fast});
  }
  EXPECT_EQ(shape_of("elan_light_x4", R"({"default": "fp8"})").kinds(), std::vector{portable});
  EXPECT_EQ(shape_of("elan_x4", R"({"default": "fp8"})", StreamFormat::split).kinds(),
            std::vector{PairKind{Operand::fp8}});
  // Beside integers, which are finer here and coarser there, both are numbers of FP16.
  const NetworkShape s = shape_of("elan_int8_x4", R"({"default": "fp8", "residual": "fp16",
      "body.1.lfe.*": "int8", "body.2.*.qk": "bf16"})");
  EXPECT_EQ(s.body[0], fast);
  EXPECT_EQ(s.body[1].operand, Operand::fp16);
  EXPECT_EQ(s.body[2].operand, Operand::bf16);
}

TEST(CudaShape, RefusesWhatNoKernelComputesIn) {
  const std::string able = "expected fp32, tf32, bf16, fp16, fp8 or int8, found ";
  for (const auto& [json, text] : std::map<std::string, std::string>{
           {R"({"default": "fp64"})", able + "fp64"},
           {R"({"body.2.lfe.0.conv1": "fp64"})", "body.2.lfe.0.conv1: " + able + "fp64"},
           {R"({"residual": "bf16"})", "residual: expected fp32 or fp16, found bf16"}}) {
    try {
      shape_of("elan_light_x4", json);
      ADD_FAILURE() << "accepted: " << json;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::usage);
      EXPECT_NE(std::string(e.what()).find(text), std::string::npos) << e.what();
    }
  }
}

}  // namespace
}  // namespace elan::cuda
