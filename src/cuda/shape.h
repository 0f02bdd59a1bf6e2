// From a precision plan to what each ELAB of the network is computed with. Pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cuda/plan.h"
#include "model/network.h"
#include "model/plan.h"

namespace elan::cuda {

// The coarsest operand that is at least as exact as both, in steps and in range. tf32 has the steps
// of fp16 and the range of bf16, of which neither covers the other; fp32 covers all, for numbers
// beyond the range of its FP16 terms are noticed and computed again in tf32.
Operand exacter(Operand a, Operand b);

// What a device adds to a plan.
struct DeviceWishes {
  DeviceLimits limits;
  bool hopper = false;  // whether it can run Hopper's own kernels, which take all operands
  std::optional<StreamFormat> stream;  // of fp16, int8 and fp8; none: what the plan says
};

// An ELAB gets the operands of its most exact operation; fp16 in the place of int8 where it has no
// matrix in 8 bits. Those of fp16, int8 and fp8 keep the residual stream in FP16 where the plan has
// the ELAB's "residual" so, or is of one precision; else fp16 keeps it split, which next to
// operands of 11 bits is as good as FP32. The others always keep it in FP32. Throws Error (usage)
// for a precision that these kernels do not compute in.
NetworkShape plan_shape(const Network& net, const PrecisionPlan& plan, const DeviceWishes& wishes);

// Operations that change their operands together; in order of computation.
std::vector<std::vector<std::string>> operation_groups(const Architecture& arch);

// What a network runs in unless told otherwise: int8 where five of six ELABs have the 8-bit
// kernels of Hopper, which take 0.77 of fp16's time while the portable ones take twice as long
// (docs/kernels-cuda.md); else fp16.
Precision default_precision(const Network& net, const DeviceWishes& wishes);

// "fp16", or "fp32 and fp16" where ELABs differ.
std::string operands_text(const NetworkShape& shape);
std::string_view to_string(Operand operand);

}  // namespace elan::cuda
