// The kernels' tables, one per translation unit.
#pragma once

#include "cpu/kernels.h"

namespace elan::cpu {

const Kernels& kernels_scalar();
const Kernels& kernels_neon();
const Kernels& kernels_neondot();
const Kernels& kernels_avx2();
const Kernels& kernels_avxvnni();
const Kernels& kernels_avx512();
const Kernels& kernels_avx512vnni();
const Kernels& kernels_avx512bf16();

}  // namespace elan::cpu
