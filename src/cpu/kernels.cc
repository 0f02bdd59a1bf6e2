#include "cpu/kernels.h"

#include <sys/mman.h>

#include <algorithm>

#include "cpu/buffer.h"
#include "cpu/kernels_isa.h"

namespace elan::cpu {

void advise_huge_pages(void* memory, std::size_t bytes) {
  madvise(memory, bytes, MADV_HUGEPAGE);
}

// Large enough for the widest register block of any instruction set: 64 queries.
std::size_t attention_scratch(int channels) {
  return (64 + std::size_t(channels)) * 64;
}

std::size_t shuffle_scratch(int scale) {
  return std::size_t{kTile} * 3 * std::size_t(scale);
}

const Kernels& kernels(Isa isa, Operand operand) {
  switch (isa) {
#if defined(__aarch64__)
    case Isa::neon:
      return kernels_neon(operand);
#elif defined(__x86_64__)
    case Isa::avx2:
      return kernels_avx2(operand);
    case Isa::avx512:
      return kernels_avx512(operand);
    case Isa::avx512bf16:
      return kernels_avx512bf16(operand);
#endif
    default:
      return kernels_scalar(operand);
  }
}

}  // namespace elan::cpu
