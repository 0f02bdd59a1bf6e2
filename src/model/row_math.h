// The two inner loops of the reference, compiled for several instruction sets: it runs on small
// pictures thousands of times while a model is calibrated. Every element is computed by the same
// multiplications and additions in the same order, without fused ones, so that all instruction
// sets give the same bits. T is float or double.
#pragma once

#include <cstddef>

namespace elan {

// y += factor * x.
template <typename T>
void add_scaled(T* y, const T* x, T factor, std::size_t count);

constexpr std::size_t kRowPadding = 32;  // elements

// y[o][p] = bias[o] + sum over i of weight[o][i] * x[i][p], in the order of i, for p < count. Rows
// of x and y begin `x_stride` and `y_stride` elements apart; those of x are read up to the next
// multiple of kRowPadding.
template <typename T>
void multiply_rows(const T* weight, const T* bias, int out, int in, const T* x,
                   std::size_t x_stride, T* y, std::size_t y_stride, std::size_t count);

// Of each value v: rint(v * factor), from -127 to 127; what is no number becomes -127.
void quantize_row(float* v, float factor, std::size_t count);

// Of each value v: fma(v, factor, offset); with `to_int8` then rounded, from 0 to 127.
void rescale_row(float* v, float factor, float offset, bool to_int8, std::size_t count);

}  // namespace elan
