// What a forward pass has to do, whoever does it: the yardstick of profiles. Pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "backend.h"
#include "cuda/plan.h"
#include "model/network.h"

namespace elan::cuda {

// The kind of operation that a stage's name belongs to: "head", "lfe", "gmsa", "gmsa shifted",
// "pair" (both of an unshifted ELAB at once), "skip" or "tail"; where ELABs differ in their
// operands, those as well: "lfe fp16".
std::string operation_kind(const Network& net, const NetworkShape& shape, const Plan& plan,
                           const std::string& stage);

// One entry a kind, in order of first use, seconds 0. flop: of the network on the padded pictures.
// bytes: each tensor that lies in device memory between two operations, once a reader or writer;
// the weights are small beside them and stay in the caches, and the image of integers that Hopper's
// 8-bit kernels pass on is left out. Pictures have `input_bytes` and `output_bytes` altogether.
std::vector<OperationTime> operation_costs(const Network& net, const NetworkShape& shape,
                                           const Plan& plan, std::size_t input_bytes,
                                           std::size_t output_bytes);

// What the maker states for dense products of these operands with FP32 sums; `clock_khz` is the
// highest clock. fp32: a third of fp16, as it takes three products. int8: as fp16, which attention
// and the portable kernels compute in. 0: not a device we know.
double rated_gflops(int major, int minor, int multiprocessors, int clock_khz, Operand operand);
// ... for a network whose ELABs differ: all of its work by the time that it takes.
double rated_gflops(int major, int minor, int multiprocessors, int clock_khz,
                    const NetworkShape& shape);

}  // namespace elan::cuda
