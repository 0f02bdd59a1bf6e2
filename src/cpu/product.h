// Matrix products over the 256 pixels of a tile. Include inside the namespace of a translation
// unit, after its Vec and codecs. `In` is the codec of what is multiplied, `Out` that of the
// operand that the result becomes.

// Sums of O outputs for kRows rows of one vector of pixels; `row` is the first output.
template <typename In, int O, int Stride>
[[gnu::always_inline]] inline void multiply_block(const Matrix& m, const Word* weights,
                                                  const Word* in, int row,
                                                  typename In::Sum (&sum)[O][Vec::kRows]) {
#pragma GCC unroll 8
  for (int o = 0; o < O; ++o) {
#pragma GCC unroll 8
    for (int r = 0; r < Vec::kRows; ++r) sum[o][r] = In::begin(m, row + o);
  }
  const std::int32_t* offsets = m.offsets;
  for (int s = 0; s < m.steps; ++s, weights += O) {
    const Word* p = in + offsets[s];
    typename In::Op x[Vec::kRows];
#pragma GCC unroll 8
    for (int r = 0; r < Vec::kRows; ++r) x[r] = In::load(p + r * Stride);
#pragma GCC unroll 8
    for (int o = 0; o < O; ++o) {
      const typename In::Weight w = Vec::pin(In::broadcast(weights + o));
#pragma GCC unroll 8
      for (int r = 0; r < Vec::kRows; ++r) sum[o][r] = In::mac(sum[o][r], x[r], w);
    }
  }
}

template <typename Out, int O>
[[gnu::always_inline]] inline void store_operand(Word* out, int row,
                                                 const Vec::F (&y)[O][Vec::kRows],
                                                 const Quantiser& quantiser) {
  constexpr auto kept = [](int o) { return o < O ? o : O - 1; };
#pragma GCC unroll 8
  for (int o = 0; o < O; o += Out::kPack) {
    Word* p = out + (row + o) / Out::kPack * kTilePixels;
#pragma GCC unroll 8
    for (int r = 0; r < Vec::kRows; ++r) {
      Out::store(p + r * kTile, y[o][r], y[kept(o + 1)][r], y[kept(o + 2)][r], y[kept(o + 3)][r],
                 quantiser);
    }
  }
}

// `row` is the first of O outputs, `pixel` the first of the block's.
template <typename Out, int O>
[[gnu::always_inline]] inline void store_block(const ProductTask& task, int row, int pixel,
                                               Vec::F (&y)[O][Vec::kRows]) {
  Quantiser quantiser{Vec::set1(task.format.inverse), -127};
  switch (task.store) {
    case Store::residual:
#pragma GCC unroll 8
      for (int o = 0; o < O; ++o) {
        const float* p = task.residual + (row + o) * kTilePixels + pixel;
#pragma GCC unroll 8
        for (int r = 0; r < Vec::kRows; ++r) y[o][r] = Vec::add(y[o][r], Vec::load(p + r * kTile));
      }
      [[fallthrough]];
    case Store::values:
      if (task.operand != nullptr) store_operand<Out, O>(task.operand + pixel, row, y, quantiser);
#pragma GCC unroll 8
      for (int o = 0; o < O; ++o) {
        float* p = task.values + (row + o) * kTilePixels + pixel;
#pragma GCC unroll 8
        for (int r = 0; r < Vec::kRows; ++r) Vec::store(p + r * kTile, y[o][r]);
      }
      break;
    case Store::operand_relu:
      quantiser.low = 0;
      if constexpr (Out::kOperand != Operand::int8) {
#pragma GCC unroll 8
        for (int o = 0; o < O; ++o) {
#pragma GCC unroll 8
          for (int r = 0; r < Vec::kRows; ++r) y[o][r] = Vec::max(y[o][r], Vec::set1(0.0f));
        }
      }
      [[fallthrough]];
    case Store::operand:
      if constexpr (Out::kOperand == Operand::int8) {
        if (task.format.inverse == 1.0f) {
          store_operand<ScaledInt8, O>(task.operand + pixel, row, y, quantiser);
          break;
        }
      }
      store_operand<Out, O>(task.operand + pixel, row, y, quantiser);
      break;
    case Store::keys:
#pragma GCC unroll 8
      for (int o = 0; o < O; ++o) {
        Word* p = task.operand + ((row + o) * kTilePixels + pixel) / Out::kPack;
#pragma GCC unroll 8
        for (int r = 0; r < Vec::kRows; ++r) Out::store_keys(p + r * kTile / Out::kPack, y[o][r]);
      }
      break;
  }
}

template <typename In, typename Out, int O, int Stride>
inline void product_block(const ProductTask& task, const Word* weights, int row, int y, int x) {
  const Matrix& m = *task.weights;
  typename In::Sum sum[O][Vec::kRows];
  multiply_block<In, O, Stride>(m, weights, task.in + y * Stride + x, row, sum);
  Vec::F values[O][Vec::kRows];
#pragma GCC unroll 8
  for (int o = 0; o < O; ++o) {
#pragma GCC unroll 8
    for (int r = 0; r < Vec::kRows; ++r) values[o][r] = In::value(sum[o][r], m, row + o);
  }
  store_block<Out, O>(task, row, y * kTile + x, values);
}

// A block's share of ProductTask::ahead.
class Ahead {
 public:
  Ahead(const ProductTask& task, int blocks)
      : next_(task.ahead),
        end_(next_ + task.ahead_words),
        step_(task.ahead_words / blocks + kLine) {}
  void fetch() {
    const Word* const last = end_ - next_ < step_ ? end_ : next_ + step_;
    for (; next_ < last; next_ += kLine) __builtin_prefetch(next_, 0, 2);
  }

 private:
  static constexpr int kLine = 16;  // words
  const Word *next_, *end_;
  std::ptrdiff_t step_;
};

template <typename In, typename Out, int Stride>
void product_strided(const ProductTask& task) {
  // Blocks of an 8-bit matrix are of 4 outputs, one word of the result, and so are those of a
  // matrix whose result is 8-bit.
  constexpr bool kLarge = In::kOperand != Operand::int8 && Out::kOperand != Operand::int8;
  const Matrix& m = *task.weights;
  Ahead ahead(task, (m.outs + m.block - 1) / m.block * (kTilePixels / (Vec::kRows * Vec::kLanes)));
  for (int y = 0; y < kTile; y += Vec::kRows) {
    for (int x = 0; x < kTile; x += Vec::kLanes) {
      const Word* weights = m.words;
      for (int row = 0; row < m.outs;) {
        const int outs = m.outs - row < m.block ? m.outs - row : m.block;
        ahead.fetch();
        switch (outs) {
          case 6:
            if constexpr (kLarge) product_block<In, Out, 6, Stride>(task, weights, row, y, x);
            break;
          case 5:
            if constexpr (kLarge) product_block<In, Out, 5, Stride>(task, weights, row, y, x);
            break;
          case 4:
            product_block<In, Out, 4, Stride>(task, weights, row, y, x);
            break;
          case 3:
            product_block<In, Out, 3, Stride>(task, weights, row, y, x);
            break;
          case 2:
            product_block<In, Out, 2, Stride>(task, weights, row, y, x);
            break;
          default:
            product_block<In, Out, 1, Stride>(task, weights, row, y, x);
            break;
        }
        weights += outs * m.steps;
        row += outs;
      }
    }
  }
}

template <typename In, typename Out>
void product_between(const ProductTask& task) {
  if (task.in_stride == kTile) {
    product_strided<In, Out, kTile>(task);
  } else {
    product_strided<In, Out, kHaloStride>(task);
  }
}

template <typename In>
void product_of(const ProductTask& task) {
  switch (task.operand == nullptr ? Operand::fp32 : task.format.operand) {
    case Operand::fp32:
      return product_between<In, Fp32>(task);
    case Operand::int8:
      return product_between<In, Int8>(task);
    default:
      return product_between<In, Half>(task);
  }
}

void product(const ProductTask& task) {
  switch (task.weights->operand) {
    case Operand::int8:
      return product_of<Int8>(task);
#ifdef __AVX512BF16__
    case Operand::bf16:
      return product_of<Bf16>(task);
#endif
    default:  // emulated BF16 is rounded FP32
      return product_of<Fp32>(task);
  }
}

template <typename Out>
void pack_values(const PackTask& task) {
  const Quantiser quantiser{Vec::set1(task.format.inverse), -127};
  const auto channel = [&](int c) {
    return task.values + (c < task.rows ? c : task.rows - 1) * kTilePixels;
  };
  for (int c = 0; c < task.rows; c += Out::kPack) {
    Word* out = task.operand + c / Out::kPack * kTilePixels;
    for (int i = 0; i < kTilePixels; i += Vec::kLanes) {
      Out::store(out + i, Vec::load(channel(c) + i), Vec::load(channel(c + 1) + i),
                 Vec::load(channel(c + 2) + i), Vec::load(channel(c + 3) + i), quantiser);
    }
  }
}

void pack(const PackTask& task) {
  switch (task.format.operand) {
    case Operand::fp32:
      return pack_values<Fp32>(task);
    case Operand::int8:
      return pack_values<Int8>(task);
    default:
      return pack_values<Half>(task);
  }
}
