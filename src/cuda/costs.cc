#include "cuda/costs.h"

#include <algorithm>
#include <string>

#include "cuda/shape.h"
#include "model/stages.h"

namespace elan::cuda {
namespace {

// Window pixels that each pixel attends to, over the three groups: 4^2 + 8^2 + 16^2.
constexpr double kKeys = 336;

// Operations (a multiply-add is two) a clock and multiprocessor on FP16 operands with FP32 sums.
double flop_per_clock(int major, int minor) {
  switch (major * 10 + minor) {
    case 80:
      return 2048;
    case 86:
    case 89:
    case 120:
      return 1024;
    case 90:
      return 4096;
    case 100:
    case 103:
      return 8192;
    default:
      return 0;
  }
}

}  // namespace

std::string operation_kind(const Network& net, const NetworkShape& shape, const Plan& plan,
                           const std::string& stage) {
  const auto dot = stage.find('.');
  if (dot == std::string::npos) return stage == "body" ? "skip" : stage;
  const std::size_t elab = std::stoul(stage.substr(dot + 1));
  const Operand operand = shape.body[elab].operand;
  const bool differ = std::any_of(shape.body.begin(), shape.body.end(),
                                  [&](const PairKind& kind) { return kind.operand != operand; });
  const std::string suffix = differ ? " " + std::string(to_string(operand)) : "";
  if (plan.has_whole_pairs(shape.body[elab], net.body[elab].shifted)) return "pair" + suffix;
  if (stage.find("lfe") != std::string::npos) return "lfe" + suffix;
  return (net.body[elab].shifted ? "gmsa shifted" : "gmsa") + suffix;
}

std::vector<OperationTime> operation_costs(const Network& net, const NetworkShape& shape,
                                           const Plan& plan, std::size_t input_bytes,
                                           std::size_t output_bytes) {
  const auto pixels = static_cast<double>(plan.grid.pixels());
  const double c = net.arch.channels, s = shape.scale;
  const auto stream_of = [&](const PairKind& kind) {
    return static_cast<double>(stream_bytes(shape.channels, plan.grid, kind));
  };
  std::vector<OperationTime> costs;
  const auto add = [&](const std::string& kind, double multiply_adds, double bytes) {
    auto at = std::find_if(costs.begin(), costs.end(),
                           [&](const OperationTime& o) { return o.operation == kind; });
    if (at == costs.end()) at = costs.insert(costs.end(), OperationTime{kind});
    at->flop += 2 * multiply_adds * pixels;
    at->bytes += bytes;
  };
  const auto kind = [&](const std::string& stage) {
    return operation_kind(net, shape, plan, stage);
  };
  add("head", 27 * c, static_cast<double>(input_bytes) + stream_of(shape.body.front()));
  for (std::size_t i = 0; i < net.body.size(); ++i) {
    const Elab& elab = net.body[i];
    const double stream = stream_of(shape.body[i]);
    const double q = pixels / 16 * kWindowGroups *
                     static_cast<double>(group_bytes(layout_of(shape.channels),
                                                     operand_bytes(shape.body[i].operand)));
    const double v = q;
    const bool whole = plan.has_whole_pairs(shape.body[i], elab.shifted);
    for (std::size_t j = 0; j < elab.lfe.size(); ++j) {
      const Lfe& lfe = elab.lfe[j];
      const Gmsa& gmsa = elab.gmsa[j];
      add(kind(lfe_stage(static_cast<int>(i), static_cast<int>(j))),
          static_cast<double>(lfe.conv0.in) * lfe.conv0.out +
              static_cast<double>(lfe.conv1.in) * lfe.conv1.out +
              static_cast<double>(gmsa.project_inp.in) * gmsa.project_inp.out,
          whole ? 2 * stream + (elab.lfe.size() > 1 ? q : 0)
                : 2 * stream + v + (gmsa.computes_attention ? q : 0));
      add(kind(gmsa_stage(static_cast<int>(i), static_cast<int>(j))),
          (gmsa.computes_attention ? 2 : 1) * kKeys * c / 3 + c * c,
          whole ? 0 : 2 * stream + q + v);
    }
  }
  const double last = stream_of(shape.body.back());
  // The skip is the head once more, which is no work of the network's.
  const auto input = static_cast<double>(input_bytes);
  if (!shape.skip_in_tail()) add("skip", 0, input + 2 * last);
  add("tail", 27 * s * s * c,
      last + static_cast<double>(output_bytes) + (shape.skip_in_tail() ? input : 0));
  return costs;
}

double rated_gflops(int major, int minor, int multiprocessors, int clock_khz, Operand operand) {
  const double fp16 = flop_per_clock(major, minor) * multiprocessors * clock_khz / 1e6;
  switch (operand) {
    case Operand::fp16:
    case Operand::bf16:
    case Operand::int8:
    case Operand::fp8:
      return fp16;
    case Operand::tf32:
      return fp16 / 2;
    case Operand::fp32:
      return fp16 / 3;
  }
  return 0;
}

double rated_gflops(int major, int minor, int multiprocessors, int clock_khz,
                    const NetworkShape& shape) {
  double time = 0;
  for (const PairKind& kind : shape.body) {
    const double rate = rated_gflops(major, minor, multiprocessors, clock_khz, kind.operand);
    if (rate == 0) return 0;
    time += 1 / rate;
  }
  return static_cast<double>(shape.body.size()) / time;
}

}  // namespace elan::cuda
