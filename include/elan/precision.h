// The arithmetic a backend computes in. fp8 is E4M3.
#pragma once

#include <cstdint>
#include <string_view>

#include "elan/export.h"

namespace elan {

enum class Precision : std::uint8_t { fp64, fp32, tf32, bf16, fp16, fp8, int8 };

// "fp32" and so on.
ELAN_API std::string_view to_string(Precision precision);

// The inverse; throws Error (usage) that lists the names.
ELAN_API Precision parse_precision(std::string_view name);

}  // namespace elan
