// How operands of products are stored and multiplied: FP32, BF16 by the instruction, BF16 by
// rounding FP32 values, 8 bits. Include inside the namespace of a translation unit, after its Vec.

// Nearest bfloat16, ties to even, as the upper half of the result. Not for NaN.
inline std::uint32_t round_bf16(float a) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &a, 4);
  return (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
}

inline Word word_of(std::uint32_t bits) {
  Word w;
  __builtin_memcpy(&w, &bits, 4);
  return w;
}

// What 8-bit operands need to know to be stored.
struct Quantiser {
  Vec::F inverse = Vec::set1(1.0f);  // of the scale
  int low = -127;                    // the smallest value; after a ReLU 0
};

struct Fp32 {
  static constexpr Operand kOperand = Operand::fp32;
  static constexpr int kPack = 1;
  using Op = Vec::F;      // of the activations
  using Weight = Vec::F;  // of the weights
  using Sum = Vec::F;

  static Op load(const Word* p) { return Vec::pin(Vec::load(p)); }
  static Weight broadcast(const Word* p) { return Vec::set1(*p); }
  static Op permute(Op row, Vec::Index i) { return Vec::permute(row, i); }
  static Sum mac(Sum sum, Op a, Weight b) { return Vec::fma(a, b, sum); }

  static Sum begin(const Matrix& m, int out) { return Vec::set1(m.bias[out]); }
  static Vec::F value(Sum sum, const Matrix&, int) { return sum; }

  // Scores of kPack keys on their way to powers of two.
  using Exponents = Vec::F;
  static constexpr float kScoreScale = 1;
  static Exponents exponents(Vec::F a, Vec::F) { return a; }
  static Exponents max(Exponents a, Exponents b) { return Vec::max(a, b); }
  static bool any_above(Exponents a, float limit) { return Vec::any_above(a, limit); }
  // Stores the powers and returns `sum` with them added.
  static Vec::F add_powers(Word* p, Exponents e, Vec::F sum) {
    const Vec::F power = Vec::exp2(e);
    Vec::store(p, power);
    return Vec::add(sum, power);
  }

  // Packs the first kPack vectors of channels (or keys) of the same pixels.
  static void store(Word* p, Vec::F a, Vec::F, Vec::F, Vec::F, const Quantiser&) {
    Vec::store(p, a);
  }
  // Packs kPack neighbouring pixels of one channel to a word.
  static void store_keys(Word* p, Vec::F a) { Vec::store(p, a); }
};

struct EmulatedBf16 : Fp32 {
  static constexpr Operand kOperand = Operand::bf16_emulated;
  static Vec::F round(Vec::F a) {
    float values[Vec::kLanes];
    Vec::store(values, a);
    for (float& value : values) value = word_of(round_bf16(value));
    return Vec::load(values);
  }
  static Vec::F add_powers(Word* p, Exponents e, Vec::F sum) {
    const Vec::F power = Vec::exp2(e);
    Vec::store(p, round(power));
    return Vec::add(sum, power);
  }
  static void store(Word* p, Vec::F a, Vec::F, Vec::F, Vec::F, const Quantiser&) {
    Vec::store(p, round(a));
  }
  static void store_keys(Word* p, Vec::F a) { Vec::store(p, round(a)); }
};

#ifdef __AVX512BF16__
struct Bf16 {
  static constexpr Operand kOperand = Operand::bf16;
  static constexpr int kPack = 2;
  using Op = __m512i;
  using Weight = __m512i;
  using Sum = Vec::F;

  static Op load(const Word* p) { return Vec::pin(_mm512_loadu_si512(p)); }
  static Weight broadcast(const Word* p) { return _mm512_castps_si512(_mm512_set1_ps(*p)); }
  static Op permute(Op row, Vec::Index i) { return _mm512_permutexvar_epi32(i, row); }
  static Sum mac(Sum sum, Op a, Weight b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }

  static Sum begin(const Matrix& m, int out) { return Vec::set1(m.bias[out]); }
  static Vec::F value(Sum sum, const Matrix&, int) { return sum; }

  // Scores as 16-bit integers, 128 to an octave, so that the upper bits are a bfloat16's exponent
  // and the lower seven nearly its mantissa: what is missing comes from a table. 2^a is right to
  // 0.6 %, no worse than what bfloat16 scores are; the sum is of just these powers.
  using Exponents = __m512i;  // of key a and key b: four pixels of a, the same of b, and so on
  static constexpr float kScoreScale = kBf16ScoreScale;
  static Exponents exponents(Vec::F a, Vec::F b) {
    return _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
  }
  static Exponents max(Exponents a, Exponents b) { return _mm512_max_epi16(a, b); }
  static bool any_above(Exponents a, float limit) {
    return _mm512_cmpgt_epi16_mask(a, _mm512_set1_epi16(static_cast<short>(limit * kScoreScale))) !=
           0;
  }
  static Vec::F add_powers(Word* p, Exponents e, Vec::F sum) {
    // 127 << 7 and the difference of mantissa and fraction, for each second fraction.
    alignas(64) static constexpr std::uint16_t kTable[64] = {
        16256, 16255, 16255, 16254, 16254, 16253, 16252, 16252, 16251, 16251, 16251, 16250, 16250,
        16249, 16249, 16248, 16248, 16248, 16247, 16247, 16247, 16247, 16246, 16246, 16246, 16246,
        16246, 16245, 16245, 16245, 16245, 16245, 16245, 16245, 16245, 16245, 16245, 16245, 16245,
        16245, 16245, 16246, 16246, 16246, 16246, 16246, 16247, 16247, 16247, 16248, 16248, 16248,
        16249, 16249, 16250, 16250, 16251, 16251, 16252, 16253, 16253, 16254, 16255, 16255,
    };
    const __m512i low = _mm512_load_si512(kTable), high = _mm512_load_si512(kTable + 32);
    e = _mm512_max_epi16(e, _mm512_set1_epi16(-127 * 128));  // 0 from 2^-127 down
    const __m512i bits =
        _mm512_add_epi16(e, _mm512_permutex2var_epi16(low, _mm512_srli_epi16(e, 1), high));
    const __m512i order =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
    const __m512i powers = _mm512_shuffle_epi8(bits, order);
    _mm512_storeu_si512(p, powers);
    return mac(sum, powers, _mm512_set1_epi32(0x3f803f80));
  }

  static void store(Word* p, Vec::F a, Vec::F b, Vec::F, Vec::F, const Quantiser&) {
    const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a));  // 16 of a, 16 of b
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi16(order, both));
  }
  static void store_keys(Word* p, Vec::F a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(a)));
  }
};
using Half = Bf16;
#else
using Half = EmulatedBf16;
#endif

// 8 bits, see docs/quantization.md: exact integers, and the same rounding everywhere.
struct Int8 {
  static constexpr Operand kOperand = Operand::int8;
  static constexpr int kPack = 4;
  using Op = Vec::Bytes;
  using Weight = Vec::I;
  using Sum = Vec::I;

  static Op load(const Word* p) { return Vec::bytes(Vec::pin(Vec::load_bytes(p))); }
  static Weight broadcast(const Word* p) { return Vec::broadcast_bytes(p); }
  static Sum mac(Sum sum, const Op& a, Weight b) { return Vec::dot(sum, a, b); }

  static Sum begin(const Matrix& m, int out) { return Vec::set1(m.start[out]); }
  static Vec::F value(Sum sum, const Matrix& m, int out) {
    return Vec::fused(Vec::to_float(sum), Vec::set1(m.scale[out]), Vec::set1(m.bias[out]));
  }

  static void store(Word* p, Vec::F a, Vec::F b, Vec::F c, Vec::F d, const Quantiser& q) {
    Vec::store_bytes(p, Vec::to_bytes(Vec::mul(a, q.inverse), Vec::mul(b, q.inverse),
                                      Vec::mul(c, q.inverse), Vec::mul(d, q.inverse), q.low));
  }
  // Neighbouring pixels of one channel, as weights: with a sign.
  static void store_keys(Word* p, Vec::F a) { Vec::store_signed(p, a); }
};

// Of values that are divided by the scale already.
struct ScaledInt8 : Int8 {
  static void store(Word* p, Vec::F a, Vec::F b, Vec::F c, Vec::F d, const Quantiser& q) {
    Vec::store_bytes(p, Vec::to_bytes(a, b, c, d, q.low));
  }
};
