// Matrix products over the 256 pixels of a tile. Include inside the namespace of a translation
// unit, after its Vec and codecs.

// Sums of O outputs for kRows rows of one vector of pixels, starting from the biases.
template <typename Codec, int O, int Stride>
inline void multiply_block(const Word* weights, const Word* in, const std::int32_t* offsets,
                           int steps, const float* bias, Vec::F (&sum)[O][Vec::kRows]) {
#pragma GCC unroll 8
  for (int o = 0; o < O; ++o) {
#pragma GCC unroll 8
    for (int r = 0; r < Vec::kRows; ++r) sum[o][r] = Vec::set1(bias[o]);
  }
  for (int s = 0; s < steps; ++s, weights += O) {
    const Word* p = in + offsets[s];
    typename Codec::Op x[Vec::kRows];
#pragma GCC unroll 8
    for (int r = 0; r < Vec::kRows; ++r) x[r] = Vec::pin(Codec::load(p + r * Stride));
#pragma GCC unroll 8
    for (int o = 0; o < O; ++o) {
      const typename Codec::Op w = Vec::pin(Codec::broadcast(weights + o));
#pragma GCC unroll 8
      for (int r = 0; r < Vec::kRows; ++r) sum[o][r] = Codec::mac(sum[o][r], x[r], w);
    }
  }
}

template <typename Codec, int O>
inline void store_operand(Word* out, int row, const Vec::F (&y)[O][Vec::kRows]) {
#pragma GCC unroll 8
  for (int o = 0; o < O; o += Codec::kPack) {
    Word* p = out + (row + o) / Codec::kPack * kTilePixels;
#pragma GCC unroll 8
    for (int r = 0; r < Vec::kRows; ++r) {
      Codec::store(p + r * kTile, y[o][r],
                   y[o + Codec::kPack - 1 < O ? o + Codec::kPack - 1 : o][r]);
    }
  }
}

// `row` is the first of O outputs, `pixel` the first of the block's.
template <typename Codec, int O>
inline void store_block(const ProductTask& task, int row, int pixel, Vec::F (&y)[O][Vec::kRows]) {
  switch (task.store) {
    case Store::residual:
#pragma GCC unroll 8
      for (int o = 0; o < O; ++o) {
        const float* p = task.residual + (row + o) * kTilePixels + pixel;
#pragma GCC unroll 8
        for (int r = 0; r < Vec::kRows; ++r) y[o][r] = Vec::add(y[o][r], Vec::load(p + r * kTile));
      }
      if (task.operand != nullptr) store_operand<Codec, O>(task.operand + pixel, row, y);
      [[fallthrough]];
    case Store::values:
#pragma GCC unroll 8
      for (int o = 0; o < O; ++o) {
        float* p = task.values + (row + o) * kTilePixels + pixel;
#pragma GCC unroll 8
        for (int r = 0; r < Vec::kRows; ++r) Vec::store(p + r * kTile, y[o][r]);
      }
      break;
    case Store::operand_relu:
#pragma GCC unroll 8
      for (int o = 0; o < O; ++o) {
#pragma GCC unroll 8
        for (int r = 0; r < Vec::kRows; ++r) y[o][r] = Vec::max(y[o][r], Vec::set1(0.0f));
      }
      [[fallthrough]];
    case Store::operand:
      store_operand<Codec, O>(task.operand + pixel, row, y);
      break;
    case Store::keys:
#pragma GCC unroll 8
      for (int o = 0; o < O; ++o) {
        Word* p = task.operand + ((row + o) * kTilePixels + pixel) / Codec::kPack;
#pragma GCC unroll 8
        for (int r = 0; r < Vec::kRows; ++r) {
          Codec::store_keys(p + r * kTile / Codec::kPack, y[o][r]);
        }
      }
      break;
  }
}

template <typename Codec, int O, int Stride>
inline void product_block(const ProductTask& task, const Word* weights, int row, int y, int x) {
  const Matrix& m = *task.weights;
  Vec::F sum[O][Vec::kRows];
  multiply_block<Codec, O, Stride>(weights, task.in + y * Stride + x, m.offsets, m.steps,
                                   m.bias + row, sum);
  store_block<Codec, O>(task, row, y * kTile + x, sum);
}

template <typename Codec, int Stride>
void product_strided(const ProductTask& task) {
  const Matrix& m = *task.weights;
  for (int y = 0; y < kTile; y += Vec::kRows) {
    for (int x = 0; x < kTile; x += Vec::kLanes) {
      const Word* weights = m.words;
      for (int row = 0; row < m.outs;) {
        const int outs = m.outs - row < m.block ? m.outs - row : m.block;
        switch (outs) {
          case 6:
            product_block<Codec, 6, Stride>(task, weights, row, y, x);
            break;
          case 5:
            product_block<Codec, 5, Stride>(task, weights, row, y, x);
            break;
          case 4:
            product_block<Codec, 4, Stride>(task, weights, row, y, x);
            break;
          case 3:
            product_block<Codec, 3, Stride>(task, weights, row, y, x);
            break;
          case 2:
            product_block<Codec, 2, Stride>(task, weights, row, y, x);
            break;
          default:
            product_block<Codec, 1, Stride>(task, weights, row, y, x);
            break;
        }
        weights += outs * m.steps;
        row += outs;
      }
    }
  }
}

template <typename Codec>
void product(const ProductTask& task) {
  if (task.in_stride == kTile) {
    product_strided<Codec, kTile>(task);
  } else {
    product_strided<Codec, kHaloStride>(task);
  }
}
