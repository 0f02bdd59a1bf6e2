// Instruction sets the CPU engine has kernels for, and which of them this machine can run.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace elan::cpu {

// Those with "vnni" or "dot" in their names multiply 8 bits by one instruction for four products;
// avx512bf16 does so too.
enum class Isa { scalar, neon, neondot, avx2, avxvnni, avx512, avx512vnni, avx512bf16 };

std::string_view to_string(Isa isa);

// Those that were compiled in and that this CPU and operating system support, slowest first.
// Never empty: scalar always works.
const std::vector<Isa>& usable_isas();

// The names of usable_isas(), "scalar, avx2, avx512".
std::string usable_isa_names();

// The fastest usable one, or what the environment variable ELANSR_CPU names. Throws Error (usage)
// when that is no name or when this CPU lacks it.
Isa choose_isa();

}  // namespace elan::cpu
