#include "cpu/kernels.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>

#include "cpu/buffer.h"
#include "cpu/kernels_isa.h"

namespace elan::cpu {

void advise_huge_pages(void* memory, std::size_t bytes) {
  madvise(memory, bytes, MADV_HUGEPAGE);
}

// Large enough for the widest register block of any instruction set: 64 queries.
std::size_t attention_scratch(int channels) {
  constexpr std::size_t kInt8Block = 32, kMostKeys = 256;
  const std::size_t words = steps_of(channels, Operand::int8);
  return std::max(
      (64 + std::size_t(channels)) * 64,
      (kMostKeys + kMostKeys / 4 + std::size_t(channels)) * kInt8Block + words * kTilePixels);
}

std::size_t shuffle_scratch(int scale) {
  return std::size_t{kTile} * 3 * std::size_t(scale);
}

int pack_of(Operand operand) {
  return operand == Operand::int8 ? 4 : operand == Operand::bf16 ? 2 : 1;
}

int steps_of(int channels, Operand operand) {
  return (channels + pack_of(operand) - 1) / pack_of(operand);
}

float score_scale(Operand operand) {
  return operand == Operand::bf16 ? kBf16ScoreScale : 1.0f;
}

Word zero_word(const Kernels& kernels, Operand operand) {
  return operand == Operand::int8 ? std::bit_cast<float>(kernels.zero_byte * 0x01010101u) : 0.0f;
}

const Kernels& kernels(Isa isa) {
  switch (isa) {
#if defined(__aarch64__)
    case Isa::neon:
      return kernels_neon();
    case Isa::neondot:
      return kernels_neondot();
#elif defined(__x86_64__)
    case Isa::avx2:
      return kernels_avx2();
    case Isa::avxvnni:
      return kernels_avxvnni();
    case Isa::avx512:
      return kernels_avx512();
    case Isa::avx512vnni:
      return kernels_avx512vnni();
    case Isa::avx512bf16:
      return kernels_avx512bf16();
#endif
    default:
      return kernels_scalar();
  }
}

}  // namespace elan::cpu
