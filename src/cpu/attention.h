// softmax(q q^T) v in the windows of a tile. Include inside the namespace of a translation unit,
// after its Vec and codecs.
//
// A block is kRows rows of one vector of queries. Keys go by in chunks of at most 64: powers of
// two of their scores are kept in L1, then multiplied with v. The exponent is taken relative to a
// reference m that starts as |q|^2 (the score of the query with itself), so the sum is at least 1;
// scores far above m are rare and then move it up.

inline constexpr int kChunk = 64;          // keys
inline constexpr float kMaxExponent = 60;  // 2^60 * 256 keys * v stays far inside FP32

template <typename Codec, int W>
struct WindowAttention {
  using F = Vec::F;
  using Op = typename Codec::Op;
  using Exponents = typename Codec::Exponents;
  static constexpr int R = Vec::kRows;
  static constexpr int J = Vec::kKeys;
  static constexpr int kPack = Codec::kPack;
  static constexpr bool kNarrow = W < Vec::kLanes;  // several windows in one vector
  static constexpr int kKeyRow = kTile / kPack;     // words in a row of keys of v
  static constexpr int kBlock = R * Vec::kLanes;    // queries in a block

  const AttentionTask& task;
  int steps;
  int x, y;               // first query of the block
  int key_x, key_y;       // first key of its window (of the leftmost of its windows)
  Word* powers;           // [kChunk / kPack][kBlock]
  float* sums;            // [channels][kBlock]
  F less_m[R], total[R];  // less_m: the negative reference

  // Word of key `first` (+ lane's window) in a row of words whose windows are `stride` wide.
  static Op key(const Word* row, int first, Vec::Index index) {
    if constexpr (kNarrow) {
      return Codec::permute(Codec::load(row), index);
    } else {
      return Codec::broadcast(row + first);
    }
  }

  // s = q q^T - m for the J keys from column kx of row ky of the window.
  [[gnu::always_inline]] void scores(int ky, int kx, F (&s)[J][R]) const {
    const Word* queries = task.q + y * kTile + x;
    const Word* keys = task.q + (key_y + ky) * kTile + (kNarrow ? x : key_x);
    Vec::Index index[J];
    for (int j = 0; j < J; ++j) index[j] = Vec::window_index<W, W>(kx + j);
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) s[j][r] = less_m[r];
    }
    for (int step = 0; step < steps; ++step, queries += kTilePixels, keys += kTilePixels) {
      Op q[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) q[r] = Codec::load(queries + r * kTile);
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j) {
        const Op k = key(keys, kx + j, index[j]);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) s[j][r] = Codec::mac(s[j][r], q[r], k);
      }
    }
  }

  // Adds the chunk's keys [first, last) of the window to the sums; powers start at `first`.
  template <int C>
  void add_values(int channel, int first, int last) const {
    F sum[C][R];
    float* out = sums + channel * kBlock;
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sum[c][r] = Vec::load(out + c * kBlock + r * Vec::kLanes);
    }
    const Word* p = powers;
    const Word* values = task.v + channel * (kTilePixels / kPack);
    for (int n = first; n < last; n += kPack, p += kBlock) {
      const int ky = n / W, kx = n % W;
      const Word* row = values + (key_y + ky) * kKeyRow + (kNarrow ? x : key_x) / kPack;
      const Vec::Index index = Vec::window_index<W, W / kPack>(kx / kPack);
      Op power[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) power[r] = Codec::load(p + r * Vec::kLanes);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        const Op v = key(row + c * (kTilePixels / kPack), kx / kPack, index);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sum[c][r] = Codec::mac(sum[c][r], power[r], v);
      }
    }
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) Vec::store(out + c * kBlock + r * Vec::kLanes, sum[c][r]);
    }
  }

  void add_values(int first, int last) const {
    int c = 0;
    for (; c + 5 <= task.channels; c += 5) add_values<5>(c, first, last);
    for (; c < task.channels; ++c) add_values<1>(c, first, last);
  }

  // Some score is far above its reference: moves the reference up and scales what was summed.
  // `s` is [J][R] vectors in memory: only this rare path may cost their place in registers.
  [[gnu::noinline]] void raise(float* s) {
    for (int r = 0; r < R; ++r) {
      F top = Vec::set1(0.0f);
      for (int j = 0; j < J; ++j) top = Vec::max(top, Vec::load(s + (j * R + r) * Vec::kLanes));
      const F factor = Vec::exp2(Vec::mul(Vec::set1(-1 / Codec::kScoreScale), top));
      less_m[r] = Vec::sub(less_m[r], top);
      total[r] = Vec::mul(total[r], factor);
      for (int j = 0; j < J; ++j) {
        float* p = s + (j * R + r) * Vec::kLanes;
        Vec::store(p, Vec::sub(Vec::load(p), top));
      }
      for (int c = 0; c < task.channels; ++c) {
        float* p = sums + c * kBlock + r * Vec::kLanes;
        Vec::store(p, Vec::mul(Vec::load(p), factor));
      }
    }
  }

  // Powers of J keys to p.
  [[gnu::always_inline]] void add_powers(const Exponents (&e)[J / kPack][R], Word* p) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      F sum = total[r];
#pragma GCC unroll 8
      for (int j = 0; j < J / kPack; ++j) {
        sum = Codec::add_powers(p + j * kBlock + r * Vec::kLanes, e[j][r], sum);
      }
      total[r] = sum;
    }
  }

  [[gnu::always_inline]] static Exponents exponents(const F (&s)[J][R],
                                                    Exponents (&e)[J / kPack][R]) {
#pragma GCC unroll 8
    for (int j = 0; j < J / kPack; ++j) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        e[j][r] = Codec::exponents(s[j * kPack][r], s[j * kPack + kPack - 1][r]);
      }
    }
    Exponents top = e[0][0];
#pragma GCC unroll 8
    for (int j = 0; j < J / kPack; ++j) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) top = Codec::max(top, e[j][r]);
    }
    return top;
  }

  void run() {
    const Word* queries = task.q + y * kTile + x;
    for (int r = 0; r < R; ++r) {
      F square = Vec::set1(0.0f);
      for (int step = 0; step < steps; ++step) {
        const Op q = Codec::load(queries + step * kTilePixels + r * kTile);
        square = Codec::mac(square, q, q);
      }
      less_m[r] = Vec::sub(Vec::set1(0.0f), square);
      total[r] = Vec::set1(0.0f);
    }
    for (int i = 0; i < task.channels * kBlock; i += Vec::kLanes) {
      Vec::store(sums + i, Vec::set1(0.0f));
    }

    int first = 0;  // of the keys whose powers are not yet multiplied
    for (int n = 0; n < W * W; n += J) {
      F s[J][R];
      scores(n / W, n % W, s);
      Exponents e[J / kPack][R];
      const Exponents top = exponents(s, e);
      if (__builtin_expect(Codec::any_above(top, kMaxExponent), 0)) {
        add_values(first, n);
        first = n;
        float memory[J * R * Vec::kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < J * R; ++i) Vec::store(memory + i * Vec::kLanes, s[i / R][i % R]);
        raise(memory);
#pragma GCC unroll 16
        for (int i = 0; i < J * R; ++i) s[i / R][i % R] = Vec::load(memory + i * Vec::kLanes);
        exponents(s, e);
      }
      add_powers(e, powers + (n - first) / kPack * kBlock);
      if (n + J - first == kChunk || n + J == W * W) {
        add_values(first, n + J);
        first = n + J;
      }
    }
    F inverse[R];
    for (int r = 0; r < R; ++r) inverse[r] = Vec::div(Vec::set1(1.0f), total[r]);
    store_attention(task, x, y, sums, inverse);
  }

  static void tile(const AttentionTask& task) {
    for (int y = 0; y < kTile; y += R) {
      for (int x = 0; x < kTile; x += Vec::kLanes) {
        WindowAttention block{
            task,         (task.channels + kPack - 1) / kPack, x,  y, x / W * W, y / W * W,
            task.scratch, task.scratch + kChunk * kBlock,      {}, {}};
        block.run();
      }
    }
  }
};

template <typename Codec>
void attention_in(const AttentionTask& task) {
  switch (task.window) {
    case 4:
      return WindowAttention<Codec, 4>::tile(task);
    case 8:
      return WindowAttention<Codec, 8>::tile(task);
    default:
      return WindowAttention<Codec, 16>::tile(task);
  }
}

void attention(const AttentionTask& task) {
  switch (task.operand) {
    case Operand::fp32:
      return attention_in<Fp32>(task);
    case Operand::int8:
      return attention_int8(task);
    default:
      return attention_in<Half>(task);
  }
}
