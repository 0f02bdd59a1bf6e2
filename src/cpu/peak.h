// What the arithmetic units reach when nothing else holds them up.
#pragma once

#include "core/thread_pool.h"
#include "cpu/kernels.h"

namespace elan::cpu {

// GFLOP/s (two per multiply-add) of all threads of the pool together, the best of a few probes;
// takes about a tenth of a second. FMA for FP32 operands, the dot product for BF16 ones.
double measure_peak_gflops(const Kernels& kernels, Operand operand, ThreadPool& pool);

}  // namespace elan::cpu
