// Attention in 8 bits, as docs/quantization.md has it, in the windows of a tile. Include inside the
// namespace of a translation unit, after its Vec and codecs.
//
// A block is two rows of one vector of queries. Since the integers depend on the largest score of a
// row, all scores of a block are computed before its powers; those of the next block are computed
// beside its powers, for products leave idle what powers need, and the other way round.
//
// Scores are sums on top of the bits of a float so large that its last place is 1: read as a float
// they need no conversion, and their differences are exact. Sums of keys' integers that an
// instruction adds for want of a sign are the same for all keys of a query, and so fall out of
// score - largest.

template <int W>
struct WindowAttentionInt8 {
  using F = Vec::F;
  using I = Vec::I;
  static constexpr bool kNarrow = W < Vec::kLanes;  // several windows in one vector
  static constexpr int R = 2;
  static constexpr int kPack = Int8::kPack;
  static constexpr int J = kPack;  // keys at a time
  static constexpr int kKeys = W * W;
  static constexpr int kKeyRow = kTile / kPack;           // words in a row of keys of v
  static constexpr int kBlock = R * Vec::kLanes;          // queries in a block
  static constexpr std::int32_t kZeroScore = 0x4b400000;  // 1.5 * 2^23

  // Where a block's queries begin, and the keys of its window (of the leftmost of its windows).
  struct Place {
    int x, y, key_x, key_y;
    explicit Place(int block)
        : x(block * Vec::kLanes % kTile),
          y(block * Vec::kLanes / kTile * R),
          key_x(x / W * W),
          key_y(y / W * W) {}
  };

  const AttentionTask& task;
  int steps;
  float factor;         // of scores, to octaves
  float floor;          // differences of scores below it count as this
  Word* scores;         // [keys][kBlock]
  Word* powers;         // [keys / kPack][kBlock]
  float* sums;          // [channels][kBlock]
  const Word* queries;  // [steps][256] with sign

  explicit WindowAttentionInt8(const AttentionTask& of)
      : task(of), steps((of.channels + kPack - 1) / kPack) {
    // 10 octaves below the largest score is 0, however far below.
    factor = task.octaves < 64 ? task.octaves : 64;
    const float range = -10 / factor;
    floor = range > -1 ? -1.0f : range > -8388608 ? range : -8388608.0f;
    scores = task.scratch;
    powers = scores + kKeys * kBlock;
    sums = powers + kKeys / kPack * kBlock;
    Word* const with_sign = sums + task.channels * kBlock;
    for (int i = 0; i < steps * kTilePixels; i += Vec::kLanes) {
      Vec::store_bytes(with_sign + i, Vec::with_sign(Vec::load_bytes(task.q + i)));
    }
    queries = with_sign;
  }

  // Word `first` (+ lane's window) of a row of words whose windows are `stride` wide.
  static I key(const Word* row, int first, Vec::Index index) {
    if constexpr (kNarrow) {
      return Vec::words(Vec::permute(Vec::load(row), index));
    } else {
      return Vec::broadcast_bytes(row + first);
    }
  }

  // Scores of a block's queries with the J keys from a key on, while they are summed.
  struct Scores {
    I sum[J][R];
    Vec::Index index[J];
    const Word *query, *keys;
    int kx;
  };
  [[gnu::always_inline]] void begin(const Place& at, int n, Scores& s) const {
    s.kx = n % W;
    s.query = queries + at.y * kTile + at.x;
    s.keys = task.q + (at.key_y + n / W) * kTile + (kNarrow ? at.x : at.key_x);
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j) {
      s.index[j] = Vec::window_index<W, W>(s.kx + j);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) s.sum[j][r] = Vec::set1(kZeroScore);
    }
  }
  // The next `count` words of channels.
  [[gnu::always_inline]] static void add(Scores& s, int count) {
    for (int step = 0; step < count; ++step, s.query += kTilePixels, s.keys += kTilePixels) {
      I q[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) q[r] = Vec::pin(Vec::load_bytes(s.query + r * kTile));
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j) {
        const Vec::Bytes k = Vec::bytes(key(s.keys, s.kx + j, s.index[j]));
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) s.sum[j][r] = Vec::dot(s.sum[j][r], k, q[r]);
      }
    }
  }
  [[gnu::always_inline]] void end(const Scores& s, int n, I (&largest)[R]) const {
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        largest[r] = Vec::max(largest[r], s.sum[j][r]);
        Vec::store_bytes(scores + (n + j) * kBlock + r * Vec::kLanes, s.sum[j][r]);
      }
    }
  }

  // e of row r and the J keys from key n; adds them to `total`, less 128 where bytes have a sign.
  [[gnu::always_inline]] void exponentiate(int n, int r, F largest, I& total) const {
    const F by = Vec::set1(factor), low = Vec::set1(floor);
    const I ones = Vec::set1(std::int32_t{0x01010101});
    const Word* s = scores + n * kBlock + r * Vec::kLanes;
    F a[kPack];
#pragma GCC unroll 4
    for (int i = 0; i < kPack; ++i) {
      const F below = Vec::sub(Vec::load(s + i * kBlock), largest);
      a[i] = Vec::pin(Vec::mul(by, Vec::max_of_negative(below, low)));  // a product of its own
    }
    const I e = Vec::powers(a);
    Vec::store_bytes(powers + n / kPack * kBlock + r * Vec::kLanes, e);
    total = Vec::dot(total, Vec::bytes(e), ones);
  }

  // Sums of e v for C channels.
  template <int C>
  void multiply_values(const Place& at, int channel) const {
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
      const Word* row = values + (at.key_y + ky) * kKeyRow + (kNarrow ? at.x : at.key_x) / kPack;
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

  void score(const Place& at, I (&largest)[R]) const {
    for (int r = 0; r < R; ++r) largest[r] = Vec::set1(std::int32_t{0});
    for (int n = 0; n < kKeys; n += J) {
      Scores s;
      begin(at, n, s);
      add(s, steps);
      end(s, n, largest);
    }
  }

  void exponentiate(const F (&largest)[R], I (&total)[R]) const {
    for (int r = 0; r < R; ++r) {
      for (int n = 0; n < kKeys; n += J) exponentiate(n, r, largest[r], total[r]);
    }
  }

  // Both for one block and the scores of the next, each in the place of one that is done with.
  void exponentiate_and_score(const F (&largest)[R], I (&total)[R], const Place& next,
                              I (&next_largest)[R]) const {
    for (int r = 0; r < R; ++r) next_largest[r] = Vec::set1(std::int32_t{0});
    for (int n = 0; n < kKeys; n += J) {
      Scores s;
      begin(next, n, s);
      exponentiate(n, 0, largest[0], total[0]);
      add(s, steps / 2);
      exponentiate(n, 1, largest[1], total[1]);
      add(s, steps - steps / 2);
      end(s, n, next_largest);
    }
  }

  void tile() const {
    constexpr int kBlocks = kTilePixels / kBlock;
    constexpr bool kBeside = Vec::kLanes == 16;  // with fewer registers sums would go to memory
    I next_largest[R];
    score(Place(0), next_largest);
    for (int block = 0; block < kBlocks; ++block) {
      const Place at(block), next(block + 1);
      F largest[R];
      I total[R];
      for (int r = 0; r < R; ++r) {
        largest[r] = Vec::floats(next_largest[r]);
        total[r] = Vec::set1(Vec::kZeroByte == 0 ? 128 * kKeys : 0);
      }
      const bool last = block + 1 == kBlocks;
      if (kBeside && !last) {
        exponentiate_and_score(largest, total, next, next_largest);
      } else {
        exponentiate(largest, total);
        if (!last) score(next, next_largest);
      }
      constexpr int C = 5;
      int c = 0;
      for (; c + C <= task.channels; c += C) multiply_values<C>(at, c);
      for (; c < task.channels; ++c) multiply_values<1>(at, c);
      F scale[R];
      for (int r = 0; r < R; ++r) {
        scale[r] = Vec::div(Vec::set1(task.v_scale), Vec::to_float(total[r]));
      }
      store_attention(task, at.x, at.y, sums, scale);
    }
  }
};

void attention_int8(const AttentionTask& task) {
  switch (task.window) {
    case 4:
      return WindowAttentionInt8<4>(task).tile();
    case 8:
      return WindowAttentionInt8<8>(task).tile();
    default:
      return WindowAttentionInt8<16>(task).tile();
  }
}
