// What operations cost, and what hardware is rated at.
#include "cuda/costs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <utility>

#include "elan/model.h"
#include "model/describe.h"
#include "model/stages.h"
#include "support/golden.h"

namespace elan::cuda {
namespace {

constexpr DeviceLimits kH200{132, 232448, 233472, true};

NetworkShape shape_of(const Network& net, Operand body) {
  NetworkShape s;
  s.channels = net.arch.channels;
  s.scale = net.arch.scale;
  s.hidden_groups = 10;
  s.body.assign(net.body.size(), {body});
  return s;
}

TEST(CudaCosts, AreTheNetworksOwnWork) {
  for (const char* name : {"elan_light_x4", "elan_x4"}) {
    const Model model = Model::load(test::model_path(name));
    const Network& net = model.network();
    const NetworkShape shape = shape_of(net, Operand::fp16);
    const Plan plan = make_plan(shape, kH200, 206, 292, 2);
    const auto costs = operation_costs(net, shape, plan, 1000, 16000);
    double flop = 0;
    for (const OperationTime& o : costs) {
      flop += o.flop;
      EXPECT_GT(o.bytes, 0) << o.operation;
      EXPECT_EQ(o.seconds, 0);
    }
    EXPECT_NEAR(flop / (2 * multiply_adds_per_pixel(net.arch) * 208 * 304 * 2), 1, 1e-9) << name;
  }
}

TEST(CudaCosts, HaveAKindForEveryStage) {
  const Model model = Model::load(test::model_path("elan_light_x4"));
  const Network& net = model.network();
  const NetworkShape shape = shape_of(net, Operand::fp16);
  const Plan plan = make_plan(shape, kH200, 64, 64, 1);
  const auto costs = operation_costs(net, shape, plan, 64 * 64 * 3, 64 * 64 * 48);
  std::set<std::string> known, seen;
  for (const OperationTime& o : costs) known.insert(o.operation);
  EXPECT_EQ(known.size(), costs.size());
  for (const std::string& stage : stage_names(net.arch)) {
    if (stage != "output") seen.insert(operation_kind(net, shape, plan, stage));
  }
  EXPECT_EQ(seen, known);
  EXPECT_EQ(known, (std::set<std::string>{"gmsa", "gmsa shifted", "head", "lfe", "skip", "tail"}));
}

// The same work, fewer bytes.
TEST(CudaCosts, PairsMayBeOneOperation) {
  const Model model = Model::load(test::model_path("elan_light_x4"));
  const Network& net = model.network();
  NetworkShape shape = shape_of(net, Operand::fp16);
  shape.hidden_groups = 5;
  shape.body.assign(net.body.size(), {Operand::fp16, true, StreamFormat::fp16});
  Plan plan = make_plan(shape, kH200, 512, 512, 1);
  EXPECT_EQ(operation_kind(net, shape, plan, "body.2.lfe.1"), "pair");
  EXPECT_EQ(operation_kind(net, shape, plan, "body.2.gmsa.1"), "pair");
  EXPECT_EQ(operation_kind(net, shape, plan, "body.3.lfe.1"), "lfe");
  const auto sums = [&] {
    double flop = 0, bytes = 0;
    for (const OperationTime& o : operation_costs(net, shape, plan, 1000, 16000)) {
      flop += o.flop;
      bytes += o.bytes;
    }
    return std::pair{flop, bytes};
  };
  const auto whole = sums();
  plan.pairs[0].whole_pairs = 0;
  const auto apart = sums();
  EXPECT_EQ(operation_kind(net, shape, plan, "body.2.gmsa.1"), "gmsa");
  EXPECT_DOUBLE_EQ(whole.first, apart.first);
  EXPECT_LT(whole.second, apart.second);
}

TEST(CudaCosts, TellOperandsApartWhereElabsDiffer) {
  const Model model = Model::load(test::model_path("elan_light_x4"));
  const Network& net = model.network();
  NetworkShape shape = shape_of(net, Operand::fp16);
  const auto costs = [&] {
    return operation_costs(net, shape, make_plan(shape, kH200, 64, 64, 1), 64 * 64 * 3, 0);
  };
  const auto all = [](const std::vector<OperationTime>& operations, auto member) {
    double sum = 0;
    for (const OperationTime& o : operations) sum += o.*member;
    return sum;
  };
  const auto narrow = costs();
  shape.body[2].operand = Operand::fp32;  // unshifted
  const auto mixed = costs();
  std::vector<std::string> names;
  for (const OperationTime& o : mixed) names.push_back(o.operation);
  EXPECT_EQ(names, (std::vector<std::string>{"head", "lfe fp16", "gmsa fp16", "gmsa shifted fp16",
                                             "lfe fp32", "gmsa fp32", "skip", "tail"}));
  const Plan plan = make_plan(shape, kH200, 64, 64, 1);
  EXPECT_EQ(operation_kind(net, shape, plan, "body.2.lfe.1"), "lfe fp32");
  EXPECT_EQ(operation_kind(net, shape, plan, "body.3.gmsa.0"), "gmsa shifted fp16");
  EXPECT_DOUBLE_EQ(all(mixed, &OperationTime::flop), all(narrow, &OperationTime::flop));
  EXPECT_GT(all(mixed, &OperationTime::bytes), all(narrow, &OperationTime::bytes));
}

TEST(CudaCosts, BytesFollowTheSizesOfTensors) {
  const Model model = Model::load(test::model_path("elan_light_x4"));
  const Network& net = model.network();
  const auto bytes_of = [&](Operand operand, const std::string& kind) {
    const NetworkShape shape = shape_of(net, operand);
    const auto costs =
        operation_costs(net, shape, make_plan(shape, kH200, 64, 64, 1), 64 * 64 * 3, 64 * 64 * 48);
    return std::find_if(costs.begin(), costs.end(),
                        [&](const auto& o) { return o.operation == kind; })
        ->bytes;
  };
  const NetworkShape shape = shape_of(net, Operand::fp16);
  const Arena arena = plan_arena(shape, 64, 64, 1);
  const auto stream = static_cast<double>(arena.y - arena.x);
  EXPECT_EQ(bytes_of(Operand::fp16, "head"), 64 * 64 * 3 + stream);
  EXPECT_EQ(bytes_of(Operand::fp16, "tail"), 64 * 64 * 48 + stream);
  EXPECT_GT(bytes_of(Operand::fp32, "gmsa"), bytes_of(Operand::fp16, "gmsa"));
}

// Data sheets, dense: A100 312, A10 125, L4 121, H100 and H200 SXM 989, B200 2250 TFLOP/s.
TEST(CudaRating, IsWhatDataSheetsSay) {
  const auto tflops = [](int major, int minor, int multiprocessors, int khz, Operand operand) {
    return rated_gflops(major, minor, multiprocessors, khz, operand) / 1e3;
  };
  EXPECT_NEAR(tflops(8, 0, 108, 1410000, Operand::fp16), 312, 3);
  EXPECT_NEAR(tflops(8, 6, 72, 1695000, Operand::fp16), 125, 2);
  EXPECT_NEAR(tflops(8, 9, 58, 2040000, Operand::bf16), 121, 2);
  EXPECT_NEAR(tflops(9, 0, 132, 1830000, Operand::fp16), 989, 10);
  EXPECT_NEAR(tflops(10, 0, 148, 1850000, Operand::fp16), 2250, 30);
  EXPECT_NEAR(tflops(9, 0, 132, 1830000, Operand::tf32), 494, 5);
  EXPECT_NEAR(tflops(9, 0, 132, 1830000, Operand::fp32), 330, 4);
  EXPECT_EQ(tflops(7, 5, 40, 1590000, Operand::fp16), 0);
}

TEST(CudaRating, OfAMixIsAllWorkByItsTime) {
  NetworkShape shape;
  shape.body = {{Operand::fp16}, {Operand::fp16}, {Operand::tf32}, {Operand::fp32}};
  const auto rate = [](const auto& of) { return rated_gflops(9, 0, 132, 1830000, of); };
  EXPECT_DOUBLE_EQ(rate(shape), rate(Operand::fp16) * 4 / (1 + 1 + 2 + 3));
  EXPECT_EQ(rated_gflops(7, 5, 40, 1590000, shape), 0);
}

TEST(Floor, IsTheSlowerOfArithmeticAndTraffic) {
  const OperationTime o{"lfe", 0, 2e12, 1e9};
  EXPECT_DOUBLE_EQ(floor_seconds(o, 1e6, 4e3), 2e-3);
  EXPECT_DOUBLE_EQ(floor_seconds(o, 1e6, 100), 1e-2);
  EXPECT_DOUBLE_EQ(floor_seconds(o, 0, 100), 1e-2);
  EXPECT_EQ(floor_seconds(o, 0, 0), 0);
}

}  // namespace
}  // namespace elan::cuda
