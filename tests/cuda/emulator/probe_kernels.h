// Small kernels for tests of the emulator itself.
#pragma once

#include "emulator.h"

namespace elan::emulator {

// Reverses 64 floats on their way through shared memory, with 64 threads; or fails to in a way that
// the emulator must name.
enum class Fault {
  none,
  no_barrier,
  no_copy_wait,
  no_copy_commit,
  past_global,
  past_shared,
  unwritten_global,
  unwritten_shared,
  misaligned,
  index,
  half_a_barrier,
  diverged,
  no_warp_barrier,
  overwritten,
  blocks_share,
  early,
};
struct ReverseArgs {
  const float* in = nullptr;
  float* out = nullptr;
  int zero = 0;  // which the compiler does not know
};
void launch_reverse(Fault fault, const ReverseArgs& args);

// 32 lanes: ldmatrix.x4 of 4 x 8 rows of 8 numbers of 16 bits, r[lane * 4 + matrix].
void launch_load_matrices(const std::uint16_t* rows, std::uint32_t* r, bool transposed);

// mma.sync of 32 bytes of k: a[lane * 4 ..], b[lane * 2 ..], c[lane * 4 ..] in words.
struct MultiplyArgs {
  Format a_format, b_format;
  const std::uint32_t *a, *b;
  std::uint32_t* c;
};
void launch_multiply(const MultiplyArgs& args);

// One wgmma of 64 x 16 with B, and A too unless `a` is given, brought by a bulk copy. `forget`
// leaves something out: 'w' to wait for the copy, 'f' the fence, 'p' to wait for the product, 's'
// the fence after a store ('S': does not).
struct AsyncArgs {
  Format format;
  const std::uint32_t* a = nullptr;  // [128][4], or null
  const std::byte* memory = nullptr;
  int bytes = 0;
  std::uint64_t a_descriptor = 0, b_descriptor = 0;  // addresses: from the beginning of `memory`
  std::uint32_t* d = nullptr;                        // [128][2][4]
  char forget = 0;
};
void launch_async(const AsyncArgs& args);

}  // namespace elan::emulator
