#include "model/row_math.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#define ELAN_ROW_MATH_TARGETS 1
#endif

namespace elan {
namespace {

constexpr std::size_t kVectorBytes = 64;
constexpr int kOutputs = 4;  // rows of y computed together, so that x is read once for them

template <typename T>
struct VectorOf {
  using type [[gnu::vector_size(kVectorBytes)]] = T;
};

template <typename T>
[[gnu::always_inline]] inline void add_scaled_inline(T* y, const T* x, T factor,
                                                     std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) y[i] += factor * x[i];
}

// `rows` outputs of two vectors of pixels, of which the first `width` are written.
template <typename T, int rows>
[[gnu::always_inline]] inline void multiply_block(const T* weight, const T* bias, int in,
                                                  const T* x, std::size_t x_stride, T* y,
                                                  std::size_t y_stride, std::size_t width) {
  using Vector = typename VectorOf<T>::type;
  constexpr std::size_t kLanes = kVectorBytes / sizeof(T);
  Vector sum[rows][2];
  for (int o = 0; o < rows; ++o) sum[o][0] = sum[o][1] = Vector{} + bias[o];
  for (int i = 0; i < in; ++i, x += x_stride) {
    Vector a, b;
    std::memcpy(&a, x, sizeof a);
    std::memcpy(&b, x + kLanes, sizeof b);
    for (int o = 0; o < rows; ++o) {
      const T w = weight[static_cast<std::size_t>(o) * in + i];
      sum[o][0] += w * a;
      sum[o][1] += w * b;
    }
  }
  for (int o = 0; o < rows; ++o) {
    std::memcpy(y + o * y_stride, &sum[o][0], width * sizeof(T));
  }
}

template <typename T>
[[gnu::always_inline]] inline void multiply_rows_inline(const T* weight, const T* bias, int out,
                                                        int in, const T* x, std::size_t x_stride,
                                                        T* y, std::size_t y_stride,
                                                        std::size_t count) {
  constexpr std::size_t kWidth = 2 * kVectorBytes / sizeof(T);
  for (std::size_t p = 0; p < count; p += kWidth) {
    const std::size_t width = std::min(kWidth, count - p);
    int o = 0;
    for (; o + kOutputs <= out; o += kOutputs) {
      multiply_block<T, kOutputs>(weight + static_cast<std::size_t>(o) * in, bias + o, in, x + p,
                                  x_stride, y + o * y_stride + p, y_stride, width);
    }
    for (; o < out; ++o) {
      multiply_block<T, 1>(weight + static_cast<std::size_t>(o) * in, bias + o, in, x + p, x_stride,
                           y + o * y_stride + p, y_stride, width);
    }
  }
}

// Within bounds; what is no number becomes the lower one.
[[gnu::always_inline]] inline float clamped(float v, float least, float most) {
  const float above = v > least ? v : least;
  return above < most ? above : most;
}

[[gnu::always_inline]] inline void quantize_row_inline(float* v, float factor, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) v[i] = clamped(std::rint(v[i] * factor), -127, 127);
}

[[gnu::always_inline]] inline void rescale_row_inline(float* v, float factor, float offset,
                                                      bool to_int8, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) v[i] = __builtin_fmaf(v[i], factor, offset);
  if (!to_int8) return;
  for (std::size_t i = 0; i < count; ++i) v[i] = clamped(std::rint(v[i]), 0, 127);
}

#ifdef ELAN_ROW_MATH_TARGETS
// One set of functions for each instruction set, and which of them this processor has.
#define ELAN_ROW_MATH(NAME, TARGET)                                                               \
  template <typename T>                                                                           \
  [[gnu::target(TARGET)]] void add_scaled_##NAME(T* y, const T* x, T factor, std::size_t count) { \
    add_scaled_inline(y, x, factor, count);                                                       \
  }                                                                                               \
  template <typename T>                                                                           \
  [[gnu::target(TARGET)]] void multiply_rows_##NAME(                                              \
      const T* weight, const T* bias, int out, int in, const T* x, std::size_t x_stride, T* y,    \
      std::size_t y_stride, std::size_t count) {                                                  \
    multiply_rows_inline(weight, bias, out, in, x, x_stride, y, y_stride, count);                 \
  }                                                                                               \
  [[gnu::target(TARGET)]] void quantize_row_##NAME(float* v, float factor, std::size_t count) {   \
    quantize_row_inline(v, factor, count);                                                        \
  }                                                                                               \
  [[gnu::target(TARGET)]] void rescale_row_##NAME(float* v, float factor, float offset,           \
                                                  bool to_int8, std::size_t count) {              \
    rescale_row_inline(v, factor, offset, to_int8, count);                                        \
  }
ELAN_ROW_MATH(avx512, "avx512f,fma")
ELAN_ROW_MATH(avx2, "avx2,fma")
#undef ELAN_ROW_MATH

const bool kHasAvx512 =
    __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("fma") != 0;
const bool kHasAvx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
#endif

}  // namespace

template <typename T>
void add_scaled(T* y, const T* x, T factor, std::size_t count) {
#ifdef ELAN_ROW_MATH_TARGETS
  if (kHasAvx512) return add_scaled_avx512(y, x, factor, count);
  if (kHasAvx2) return add_scaled_avx2(y, x, factor, count);
#endif
  add_scaled_inline(y, x, factor, count);
}

template <typename T>
void multiply_rows(const T* weight, const T* bias, int out, int in, const T* x,
                   std::size_t x_stride, T* y, std::size_t y_stride, std::size_t count) {
#ifdef ELAN_ROW_MATH_TARGETS
  if (kHasAvx512) {
    return multiply_rows_avx512(weight, bias, out, in, x, x_stride, y, y_stride, count);
  }
  if (kHasAvx2) return multiply_rows_avx2(weight, bias, out, in, x, x_stride, y, y_stride, count);
#endif
  multiply_rows_inline(weight, bias, out, in, x, x_stride, y, y_stride, count);
}

void quantize_row(float* v, float factor, std::size_t count) {
#ifdef ELAN_ROW_MATH_TARGETS
  if (kHasAvx512) return quantize_row_avx512(v, factor, count);
  if (kHasAvx2) return quantize_row_avx2(v, factor, count);
#endif
  quantize_row_inline(v, factor, count);
}

void rescale_row(float* v, float factor, float offset, bool to_int8, std::size_t count) {
#ifdef ELAN_ROW_MATH_TARGETS
  if (kHasAvx512) return rescale_row_avx512(v, factor, offset, to_int8, count);
  if (kHasAvx2) return rescale_row_avx2(v, factor, offset, to_int8, count);
#endif
  rescale_row_inline(v, factor, offset, to_int8, count);
}

template void add_scaled(float*, const float*, float, std::size_t);
template void add_scaled(double*, const double*, double, std::size_t);
template void multiply_rows(const float*, const float*, int, int, const float*, std::size_t, float*,
                            std::size_t, std::size_t);
template void multiply_rows(const double*, const double*, int, int, const double*, std::size_t,
                            double*, std::size_t, std::size_t);

}  // namespace elan
