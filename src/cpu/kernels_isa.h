// The kernels' tables, one per translation unit.
#pragma once

#include "cpu/kernels.h"

namespace elan::cpu {

const Kernels& kernels_scalar(Operand operand);
const Kernels& kernels_neon(Operand operand);
const Kernels& kernels_avx2(Operand operand);
const Kernels& kernels_avx512(Operand operand);
const Kernels& kernels_avx512bf16(Operand operand);

}  // namespace elan::cpu
