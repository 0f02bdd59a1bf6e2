// How operands of products are stored and multiplied: FP32, BF16 by the instruction, BF16 by
// rounding FP32 values. Include inside the namespace of a translation unit, after its Vec.

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

struct Fp32 {
  static constexpr int kPack = 1;
  static constexpr bool kValuesAreWords = true;
  using Op = Vec::F;

  static Op load(const Word* p) { return Vec::load(p); }
  static Op broadcast(const Word* p) { return Vec::set1(*p); }
  static Op permute(Op row, Vec::Index i) { return Vec::permute(row, i); }
  static Vec::F mac(Vec::F sum, Op a, Op b) { return Vec::fma(a, b, sum); }

  static Vec::F exp2(Vec::F a) { return Vec::exp2(a); }

  // Packs kPack vectors of channels (or keys) of the same pixels.
  static void store(Word* p, Vec::F a, Vec::F) { Vec::store(p, a); }
  static Word pack(float a, float) { return a; }
  // Packs kPack neighbouring pixels of one channel to a word.
  static void store_keys(Word* p, Vec::F a) { Vec::store(p, a); }
};

struct EmulatedBf16 : Fp32 {
  static constexpr bool kValuesAreWords = false;
  static Vec::F round(Vec::F a) {
    float values[Vec::kLanes];
    Vec::store(values, a);
    for (float& value : values) value = word_of(round_bf16(value));
    return Vec::load(values);
  }
  static void store(Word* p, Vec::F a, Vec::F) { Vec::store(p, round(a)); }
  static Word pack(float a, float) { return word_of(round_bf16(a)); }
  static void store_keys(Word* p, Vec::F a) { Vec::store(p, round(a)); }
};

#ifdef __AVX512BF16__
struct Bf16 {
  static constexpr int kPack = 2;
  static constexpr bool kValuesAreWords = false;
  using Op = __m512i;

  static Op load(const Word* p) { return _mm512_loadu_si512(p); }
  static Op broadcast(const Word* p) { return _mm512_castps_si512(_mm512_set1_ps(*p)); }
  static Op permute(Op row, Vec::Index i) { return _mm512_permutexvar_epi32(i, row); }
  static Vec::F mac(Vec::F sum, Op a, Op b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }

  static Vec::F exp2(Vec::F a) { return Vec::exp2_rough(a); }

  static void store(Word* p, Vec::F a, Vec::F b) {
    const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a));  // 16 of a, 16 of b
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi16(order, both));
  }
  static Word pack(float a, float b) { return word_of(round_bf16(b) | (round_bf16(a) >> 16)); }
  static void store_keys(Word* p, Vec::F a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(a)));
  }
};
#endif
