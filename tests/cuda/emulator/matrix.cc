// The matrix instructions of a warp. Lane l has row g = l / 4 (of A, C) or column g (of B), and
// there the t-th quarter, t = l % 4, of every eight (C), or of 4, 8 or 16 k as 32-, 16- or 8-bit
// operands.
#include "matrix.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

namespace elan::emulator {
namespace {

struct LoadCall {
  std::uint32_t* r;
  int count;
  const char* row;
  bool transposed;
};

std::array<std::array<std::uint16_t, 8>, 8> matrix_of(void* const* lanes, int i) {
  std::array<std::array<std::uint16_t, 8>, 8> m;
  for (int row = 0; row < 8; ++row) {
    std::memcpy(m[row].data(), static_cast<const LoadCall*>(lanes[8 * i + row])->row, 16);
  }
  return m;
}

void run_loads(void* const* lanes) {
  for (int i = 0; i < static_cast<const LoadCall*>(lanes[0])->count; ++i) {
    const auto m = matrix_of(lanes, i);
    for (int l = 0; l < 32; ++l) {
      const auto* call = static_cast<const LoadCall*>(lanes[l]);
      const int g = l / 4, t = l % 4;
      const std::uint32_t a = call->transposed ? m[2 * t][g] : m[g][2 * t];
      const std::uint32_t b = call->transposed ? m[2 * t + 1][g] : m[g][2 * t + 1];
      call->r[i] = a | b << 16;
    }
  }
}

float decode_half(std::uint32_t h) {
  // The exponent of FP16 is moved by a product, which turns small numbers right as well.
  const std::uint32_t sign = (h & 0x8000U) << 16, rest = (h & 0x7fffU) << 13;
  const float v = std::bit_cast<float>(rest) * 0x1p112F;
  const std::uint32_t bits =
      rest >= 0x0f800000U ? rest | 0x7f800000U : std::bit_cast<std::uint32_t>(v);
  return std::bit_cast<float>(bits | sign);
}

float decode_e4m3(std::uint32_t b) {
  const std::uint32_t exponent = b >> 3 & 15, mantissa = b & 7;
  if ((b & 127) == 127) return NAN;
  const float v =
      exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                    : std::ldexp(static_cast<float>(8 + mantissa), static_cast<int>(exponent) - 10);
  return (b & 128) != 0 ? -v : v;
}

int bits_of(Format f) {
  return f == Format::tf32 ? 32 : f == Format::f16 || f == Format::bf16 ? 16 : 8;
}

bool is_integer(Format f) {
  return f == Format::s8 || f == Format::u8;
}

// The numbers in a register.
template <typename T>
void decode(Format f, std::uint32_t r, T* to) {
  switch (f) {
    case Format::f16:
      to[0] = static_cast<T>(decode_half(r & 0xffff));
      to[1] = static_cast<T>(decode_half(r >> 16));
      return;
    case Format::bf16:
      to[0] = static_cast<T>(std::bit_cast<float>(r << 16));
      to[1] = static_cast<T>(std::bit_cast<float>(r & 0xffff0000U));
      return;
    case Format::tf32:
      to[0] = static_cast<T>(std::bit_cast<float>(r & 0xffffe000U));
      return;
    default:
      for (int i = 0; i < 4; ++i) {
        const std::uint32_t b = r >> (8 * i) & 255;
        to[i] = f == Format::e4m3 ? static_cast<T>(decode_e4m3(b))
                : f == Format::s8 ? static_cast<T>(static_cast<std::int8_t>(b))
                                  : static_cast<T>(b);
      }
  }
}

// c += a * b, compiled for wide vectors, too, and chosen by what the processor has.
#define ELAN_WIDE __attribute__((target_clones("arch=x86-64-v3", "default")))

ELAN_WIDE void product(const std::int32_t (&a)[16][32], const std::int32_t (&b)[32][8],
                       std::int32_t (&c)[16][8], int k_end) {
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < k_end; ++k) {
      for (int n = 0; n < 8; ++n) c[row][n] += a[row][k] * b[k][n];
    }
  }
}

// As measured on compute capability 9.0: products are exact; they and the sum so far are cut off at
// 2^-25 of the power of two in the largest of them, added, and the result is cut to FP32.
ELAN_WIDE void product(const float (&a)[16][32], const float (&b)[32][8], float (&c)[16][8],
                       int k_end) {
  constexpr double kCut = 0x1p26;
  for (int row = 0; row < 16; ++row) {
    double largest[8], sum[8] = {};
    for (int n = 0; n < 8; ++n) largest[n] = std::abs(c[row][n]);
    for (int k = 0; k < k_end; ++k) {
      for (int n = 0; n < 8; ++n) {
        largest[n] = std::max(largest[n], std::abs(double{a[row][k]} * b[k][n]));
      }
    }
    for (int n = 0; n < 8; ++n) {  // the power of two above, whose reciprocal is exact
      const auto bits = std::bit_cast<std::uint64_t>(largest[n]) & 0x7ff0000000000000U;
      largest[n] = std::bit_cast<double>(std::max(bits, std::uint64_t{0x3000000000000000})) * 2;
      if (!std::isfinite(largest[n])) largest[n] = kCut;  // infinite whatever is cut off
      sum[n] = std::trunc(c[row][n] * (kCut / largest[n]));
    }
    for (int k = 0; k < k_end; ++k) {
      for (int n = 0; n < 8; ++n) {
        sum[n] += std::trunc(double{a[row][k]} * b[k][n] * (kCut / largest[n]));
      }
    }
    for (int n = 0; n < 8; ++n) {
      const double exact = sum[n] * (largest[n] / kCut);
      const auto rounded = static_cast<float>(exact);
      const bool over = std::abs(rounded) > std::abs(exact) && std::isfinite(rounded);
      c[row][n] = over ? std::nextafter(rounded, 0.F) : rounded;
    }
  }
}
#undef ELAN_WIDE

template <typename T>
void run_multiply(void* const* lanes) {
  const auto& first = *static_cast<const MultiplyCall*>(lanes[0]);
  const int per = 32 / bits_of(first.a_format), quarters = first.k / (4 * per);
  T a[16][32], b[32][8], column[4];
  for (int l = 0; l < 32; ++l) {
    const auto& call = *static_cast<const MultiplyCall*>(lanes[l]);
    const int g = l / 4, t = l % 4;
    for (int j = 0; j < quarters; ++j) {
      const int k = (4 * j + t) * per;
      decode(call.a_format, call.a[2 * j], &a[g][k]);
      decode(call.a_format, call.a[2 * j + 1], &a[g + 8][k]);
      decode(call.b_format, call.b[j], column);
      for (int i = 0; i < per; ++i) b[k + i][g] = column[i];
    }
  }
  T c[16][8];
  const auto for_each = [&](auto visit) {
    for (int l = 0; l < 32; ++l) {
      T* d = static_cast<T*>(static_cast<const MultiplyCall*>(lanes[l])->c);
      for (int i = 0; i < 4; ++i) visit(d[i], c[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2]);
    }
  };
  for_each([](T& own, T& place) { place = own; });
  product(a, b, c, first.k);
  for_each([](T& own, T& place) { own = place; });
}

}  // namespace

int k_of(Format f) {
  return 256 / bits_of(f);
}

void run_multiply_as(Format a_format, void* const* calls) {
  is_integer(a_format) ? run_multiply<std::int32_t>(calls) : run_multiply<float>(calls);
}

void load_matrices(std::uint32_t* r, int count, std::uint32_t address, bool transposed) {
  const char* row = shared_pointer(address);
  if (lane() < 8 * count) read(row, 16);
  LoadCall call{r, count, row, transposed};
  meet(count == 4   ? transposed ? "ldmatrix.x4.trans" : "ldmatrix.x4"
       : count == 2 ? transposed ? "ldmatrix.x2.trans" : "ldmatrix.x2"
       : transposed ? "ldmatrix.x1.trans"
                    : "ldmatrix.x1",
       ~0U, &call, run_loads);
}

void store_matrices(const std::uint32_t* r, int count, std::uint32_t address, bool transposed) {
  std::uint32_t own[4];
  for (int i = 0; i < count; ++i) own[i] = transposed ? transpose_matrix(r[i]) : r[i];
  for (int i = 0; i < count; ++i) {
    // A lane's row of matrix lane / 8, from the four lanes that have it.
    std::uint32_t row[4];
    for (int t = 0; t < 4; ++t) row[t] = exchange("stmatrix", ~0U, own[i], lane() % 8 * 4 + t);
    if (lane() / 8 != i) continue;
    char* to = shared_pointer(address);
    write(to, sizeof row);
    std::memcpy(to, row, sizeof row);
  }
}

std::uint32_t transpose_matrix(std::uint32_t v) {
  meet("movmatrix", ~0U, &v, [](void* const* lanes) {
    std::uint16_t m[8][8];
    for (int l = 0; l < 32; ++l) std::memcpy(&m[l / 4][l % 4 * 2], lanes[l], 4);
    for (int l = 0; l < 32; ++l) {
      const int g = l / 4, t = l % 4;
      *static_cast<std::uint32_t*>(lanes[l]) =
          m[2 * t][g] | static_cast<std::uint32_t>(m[2 * t + 1][g]) << 16;
    }
  });
  return v;
}

void multiply(Format a_format, Format b_format, int k, void* c, const std::uint32_t* a,
              const std::uint32_t* b) {
  static const char* const kNames[] = {"mma f16",  "mma bf16", "mma tf32",
                                       "mma e4m3", "mma s8",   "mma u8"};
  MultiplyCall call{a_format, b_format, k, c, a, b};
  meet(kNames[static_cast<int>(a_format)], ~0U, &call,
       is_integer(a_format) ? &run_multiply<std::int32_t> : &run_multiply<float>);
}

}  // namespace elan::emulator
