#include "cuda/shape.h"

#include <algorithm>

#include "cuda/pack.h"
#include "model/stages.h"

namespace elan::cuda {
namespace {

// "body.3" of "body.3.gmsa.0.qk"; other operations by themselves.
std::string group_of(const std::string& operation) {
  if (!operation.starts_with("body.")) return operation;
  return operation.substr(0, operation.find('.', std::string("body.").size()));
}

bool has_int8(const Elab& elab) {
  return std::any_of(elab.lfe.begin(), elab.lfe.end(),
                     [](const Lfe& lfe) { return lfe.conv0.int8 || lfe.conv1.int8; }) ||
         std::any_of(elab.gmsa.begin(), elab.gmsa.end(),
                     [](const Gmsa& gmsa) { return gmsa.int8_q || gmsa.int8_v || gmsa.int8_out; });
}

void check_plan(const PrecisionPlan& plan, const Architecture& arch) {
  check_able(plan, arch, "cuda", [](std::string_view operation) {
    if (operation == "residual") return std::vector{Precision::fp32, Precision::fp16};
    return std::vector{Precision::fp32, Precision::tf32, Precision::bf16,
                       Precision::fp16, Precision::fp8,  Precision::int8};
  });
}

}  // namespace

Operand exacter(Operand a, Operand b) {
  if (a == b) return a;
  if (has_8_bits(a)) return has_8_bits(b) ? Operand::fp16 : b;
  if (has_8_bits(b)) return a;
  return a == Operand::fp32 || b == Operand::fp32 ? Operand::fp32 : Operand::tf32;
}

std::vector<std::vector<std::string>> operation_groups(const Architecture& arch) {
  std::vector<std::vector<std::string>> groups;
  for (const std::string& operation : operation_names(arch)) {
    if (groups.empty() || group_of(groups.back().front()) != group_of(operation)) {
      groups.emplace_back();
    }
    groups.back().push_back(operation);
  }
  return groups;
}

NetworkShape plan_shape(const Network& net, const PrecisionPlan& plan, const DeviceWishes& wishes) {
  check_plan(plan, net.arch);
  NetworkShape shape;
  shape.channels = net.arch.channels;
  shape.scale = net.arch.scale;
  shape.hidden_groups = most_hidden_groups(net);
  const std::vector<int> order = stream_order(net);
  for (const auto& group : operation_groups(net.arch)) {
    if (!group.front().starts_with("body.")) continue;
    PairKind kind{operand_of(plan.at(group.front()))};
    for (const std::string& operation : group) {
      kind.operand = exacter(kind.operand, operand_of(plan.at(operation)));
    }
    const auto index = static_cast<int>(shape.body.size());
    const Elab& elab = net.body[shape.body.size()];
    if (kind.operand == Operand::int8 && !has_int8(elab)) kind.operand = Operand::fp16;
    const auto out_fits = [&] {
      return std::ranges::all_of(
          elab.gmsa, [&](const Gmsa& gmsa) { return out_numbers_fit(gmsa, kind.operand); });
    };
    // In FP16 the narrow attention has no other way of adding to the stream.
    if (shape.channels == 60 && kind.operand == Operand::fp16 && !out_fits()) {
      kind.operand = Operand::tf32;
    }
    const bool bytes = has_8_bits(kind.operand);
    const bool asked = plan.uniform() || plan.at(stream_name(index)) == Precision::fp16;
    if (bytes || kind.operand == Operand::fp16) {
      kind.stream = wishes.stream.value_or(asked ? StreamFormat::fp16 : StreamFormat::split);
      if (bytes && kind.stream == StreamFormat::split) kind.stream = StreamFormat::fp32;
    }
    const bool half = kind.stream == StreamFormat::fp16;
    bool fit = true;
    if (bytes) {
      fit = half && byte_layout_fits(elab, kind.operand, order);
    } else if (operand_bytes(kind.operand) == 2) {
      const auto layout_fits = shape.channels == 60 ? &narrow_layout_fits : &hopper_layout_fits;
      fit = out_fits();  // of 60 channels it does by now
      for (std::size_t i = 0; fit && i < elab.lfe.size(); ++i) {
        fit = layout_fits(elab.lfe[i], order) &&
              lfe_numbers_fit(elab.lfe[i], elab.gmsa[i], kind.operand);
      }
    }
    kind.hopper = wishes.hopper && has_hopper_kernels(shape.channels, kind.operand) && fit;
    shape.body.push_back(kind);
  }
  shape.tail = choose_tail(shape.channels, shape.scale, operand_of(plan.at("tail")), wishes.limits);
  return shape;
}

Precision default_precision(const Network& net, const DeviceWishes& wishes) {
  if (!net.quantized()) return Precision::fp16;
  const NetworkShape shape = plan_shape(net, Precision::int8, wishes);
  const auto fast = std::count_if(shape.body.begin(), shape.body.end(), uses_8_bit_kernels);
  return 6 * static_cast<std::size_t>(fast) >= 5 * shape.body.size() ? Precision::int8
                                                                     : Precision::fp16;
}

std::string operands_text(const NetworkShape& shape) {
  std::vector<Operand> seen;
  for (const PairKind& kind : shape.body) {
    if (std::find(seen.begin(), seen.end(), kind.operand) == seen.end()) {
      seen.push_back(kind.operand);
    }
  }
  std::string text;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == seen.size() ? " and " : ", ") + std::string(to_string(seen[i]));
  }
  return text;
}

std::string_view to_string(Operand operand) {
  switch (operand) {
    case Operand::fp16:
      return "fp16";
    case Operand::bf16:
      return "bf16";
    case Operand::tf32:
      return "tf32";
    case Operand::fp32:
      return "fp32";
    case Operand::int8:
      return "int8";
    case Operand::fp8:
      return "fp8";
  }
  return "";
}

}  // namespace elan::cuda
