// Attention in 8 bits, as docs/quantization.md has it, in the windows of a tile. Include inside the
// namespace of a translation unit, after its Vec and codecs.
//
// A block is kRows rows of one vector of queries. Since the integers depend on the largest score of
// a row, all scores of a block are computed first. Sums of keys' integers that an instruction adds
// for want of a sign are the same for all keys of a query, and so fall out of score - largest.

template <int W>
struct WindowAttentionInt8 {
  using F = Vec::F;
  using I = Vec::I;
  static constexpr int R = Vec::kRows < 2 ? Vec::kRows : 2;
  static constexpr int J = Vec::kKeys;
  static constexpr int kPack = Int8::kPack;
  static constexpr bool kNarrow = W < Vec::kLanes;  // several windows in one vector
  static constexpr int kKeys = W * W;
  static constexpr int kKeyRow = kTile / kPack;   // words in a row of keys of v
  static constexpr int kBlock = R * Vec::kLanes;  // queries in a block

  const AttentionTask& task;
  const Word* queries;  // [steps][256] with sign
  int steps;
  int x, y;          // first query of the block
  int key_x, key_y;  // first key of its window (of the leftmost of its windows)
  float* scores;     // [keys][kBlock]
  Word* powers;      // [keys / kPack][kBlock]
  float* sums;       // [channels][kBlock]
  F largest[R], total[R];

  // Word `first` (+ lane's window) of a row of words whose windows are `stride` wide.
  static I key(const Word* row, int first, Vec::Index index) {
    if constexpr (kNarrow) {
      return Vec::words(Vec::permute(Vec::load(row), index));
    } else {
      return Vec::broadcast_bytes(row + first);
    }
  }

  void multiply_keys() {
    for (int r = 0; r < R; ++r) largest[r] = Vec::set1(-16777216.0f);
    for (int n = 0; n < kKeys; n += J) {
      const int ky = n / W, kx = n % W;
      const Word* query = queries + y * kTile + x;
      const Word* keys = task.q + (key_y + ky) * kTile + (kNarrow ? x : key_x);
      Vec::Index index[J];
      I sum[J][R];
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j) {
        index[j] = Vec::window_index<W, W>(kx + j);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sum[j][r] = Vec::set1(std::int32_t{0});
      }
      for (int step = 0; step < steps; ++step, query += kTilePixels, keys += kTilePixels) {
        I q[R];
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) q[r] = Vec::pin(Vec::load_bytes(query + r * kTile));
#pragma GCC unroll 8
        for (int j = 0; j < J; ++j) {
          const Vec::Bytes k = Vec::bytes(key(keys, kx + j, index[j]));
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r) sum[j][r] = Vec::dot(sum[j][r], k, q[r]);
        }
      }
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j) {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          const F s = Vec::to_float(sum[j][r]);
          largest[r] = Vec::max(largest[r], s);
          Vec::store(scores + (n + j) * kBlock + r * Vec::kLanes, s);
        }
      }
    }
  }

  // e for all keys, and its sum.
  void exponentiate() {
    const F octaves = Vec::set1(task.octaves), top = Vec::set1(255.0f);
    for (int r = 0; r < R; ++r) {
      I sum = Vec::set1(std::int32_t{0});
      for (int n = 0; n < kKeys; n += kPack) {
        I e[kPack];
#pragma GCC unroll 4
        for (int i = 0; i < kPack; ++i) {
          const F s = Vec::load(scores + (n + i) * kBlock + r * Vec::kLanes);
          const F power = Vec::exp2(Vec::mul(octaves, Vec::sub(s, largest[r])));
          e[i] = Vec::round(Vec::mul(top, power));
          sum = Vec::add(sum, e[i]);
        }
        Vec::store_bytes(powers + n / kPack * kBlock + r * Vec::kLanes,
                         Vec::unsigned_bytes(e[0], e[1], e[2], e[3]));
      }
      total[r] = Vec::to_float(sum);
    }
  }

  // Sums of e v for C channels.
  template <int C>
  void multiply_values(int channel) const {
    constexpr std::uint32_t kLeast = 0x80808080u;  // -128 in each byte
    const Vec::Bytes least = Vec::bytes(Vec::set1(static_cast<std::int32_t>(kLeast)));
    I sum[C][R], offset[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      offset[c] = Vec::set1(std::int32_t{0});
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sum[c][r] = Vec::set1(std::int32_t{0});
    }
    const Word* p = powers;
    const Word* values = task.v + channel * (kTilePixels / kPack);
    for (int n = 0; n < kKeys; n += kPack, p += kBlock) {
      const int ky = n / W, kx = n % W;
      const Word* row = values + (key_y + ky) * kKeyRow + (kNarrow ? x : key_x) / kPack;
      const Vec::Index index = Vec::window_index<W, W / kPack>(kx / kPack);
      Vec::Bytes power[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        power[r] = Vec::bytes(Vec::pin(Vec::load_bytes(p + r * Vec::kLanes)));
      }
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        const I v = Vec::pin(key(row + c * (kTilePixels / kPack), kx / kPack, index));
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sum[c][r] = Vec::dot(sum[c][r], power[r], v);
        // Where bytes have a sign, 128 times v is missing. Else e itself was multiplied.
        if constexpr (Vec::kZeroByte == 0) offset[c] = Vec::dot(offset[c], least, v);
      }
    }
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        Vec::store(sums + (channel + c) * kBlock + r * Vec::kLanes,
                   Vec::sub(Vec::to_float(sum[c][r]), Vec::to_float(offset[c])));
      }
    }
  }

  void run() {
    multiply_keys();
    exponentiate();
    int c = 0;
    for (; c + 5 <= task.channels; c += 5) multiply_values<5>(c);
    for (; c < task.channels; ++c) multiply_values<1>(c);
    F factor[R];
    for (int r = 0; r < R; ++r) factor[r] = Vec::div(Vec::set1(task.v_scale), total[r]);
    store_attention(task, x, y, sums, factor);
  }

  static void tile(const AttentionTask& task) {
    const int steps = (task.channels + kPack - 1) / kPack;
    float* const scores = task.scratch;
    Word* const powers = scores + kKeys * kBlock;
    float* const sums = powers + kKeys / kPack * kBlock;
    Word* const queries = sums + task.channels * kBlock;
    // What is multiplied with an operand has a sign.
    for (int i = 0; i < steps * kTilePixels; ++i) {
      std::uint32_t word;
      __builtin_memcpy(&word, task.q + i, sizeof word);
      word ^= Vec::kZeroByte * 0x01010101u;
      __builtin_memcpy(queries + i, &word, sizeof word);
    }
    for (int y = 0; y < kTile; y += R) {
      for (int x = 0; x < kTile; x += Vec::kLanes) {
        WindowAttentionInt8 block{task,      queries, steps,  x,    y,  x / W * W,
                                  y / W * W, scores,  powers, sums, {}, {}};
        block.run();
      }
    }
  }
};

void attention_int8(const AttentionTask& task) {
  switch (task.window) {
    case 4:
      return WindowAttentionInt8<4>::tile(task);
    case 8:
      return WindowAttentionInt8<8>::tile(task);
    default:
      return WindowAttentionInt8<16>::tile(task);
  }
}
