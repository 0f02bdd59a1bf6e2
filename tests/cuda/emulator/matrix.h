// A product of a warp's lanes, as mma.sync and wgmma share it.
#pragma once

#include <cstdint>

#include "emulator.h"

namespace elan::emulator {

struct MultiplyCall {
  Format a_format, b_format;
  int k;
  void* c;  // float[4], or std::int32_t[4] for integers
  const std::uint32_t *a, *b;
};

int k_of(Format f);  // in 32 bytes
// Of 32 calls, one a lane: c += A (16 x k) * B (k x 8).
void run_multiply_as(Format a_format, void* const* calls);

}  // namespace elan::emulator
