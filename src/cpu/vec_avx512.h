// Vectors of 16 floats. Include inside the namespace of a translation unit compiled for AVX-512.
struct Vec {
  using F = __m512;
  using Index = __m512i;
  static constexpr int kLanes = 16;
  static constexpr int kRows = 4;  // rows of pixels in a register block
  static constexpr int kKeys = 4;  // keys in a register block of the attention

  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F a) { _mm512_storeu_ps(p, a); }
  static F set1(float a) { return _mm512_set1_ps(a); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F fused(F a, F b, F c) { return fma(a, b, c); }  // rounds once
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static bool any_above(F a, float limit) {
    return _mm512_cmp_ps_mask(a, set1(limit), _CMP_GT_OQ) != 0;
  }

  // Keeps the compiler from loading a value again for every use of it.
  template <typename T>
  static T pin(T a) {
    asm("" : "+v"(a));
    return a;
  }

  // Lanes N to 15 of a, then the first N of b.
  template <int N>
  static F slide(F a, F b) {
    return _mm512_castsi512_ps(
        _mm512_alignr_epi32(_mm512_castps_si512(b), _mm512_castps_si512(a), N));
  }

  // For windows narrower than a vector: lane l takes element l / Window * Stride + first.
  template <int Window, int Stride>
  static Index window_index(int first) {
    constexpr int k = Window == 8 ? 3 : 2;
    const __m512i group =
        _mm512_setr_epi32(0, 1 >> k, 2 >> k, 3 >> k, 4 >> k, 5 >> k, 6 >> k, 7 >> k, 8 >> k, 9 >> k,
                          10 >> k, 11 >> k, 12 >> k, 13 >> k, 14 >> k, 15 >> k);
    constexpr int kShift = Stride == 8 ? 3 : Stride == 4 ? 2 : Stride == 2 ? 1 : 0;
    return _mm512_add_epi32(_mm512_slli_epi32(group, kShift), _mm512_set1_epi32(first));
  }
  static F permute(F a, Index i) { return _mm512_permutexvar_ps(i, a); }

  // 2^a for a <= 126, relative error below 1e-7; anything below -125 gives about 2^-125.
  // a = n / 16 + r: 2^(n / 16) from a table of mantissas, 2^r from a cubic.
  static F exp2(F a) {
    const F magic = set1(12582912.0f / 16);  // ulp 1/16: rounds to sixteenths
    a = max(a, set1(-125.0f));
    const F n = add(a, magic);
    const F r = sub(a, sub(n, magic));
    F p = fma(set1(0.0555041087f), r, set1(0.2402265070f));
    p = fma(p, r, set1(0.6931471806f));
    return scale(n, fma(p, r, set1(1.0f)));
  }

  // Four 8-bit channels of 16 pixels each, as operands and as weights; dot() is exact.
  using I = __m512i;
  static I load_bytes(const Word* p) { return _mm512_loadu_si512(p); }
  static I broadcast_bytes(const Word* p) {  // as an integer: on Zen 4 twice as fast as a float
    std::int32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return set1(word);
  }
  static I set1(std::int32_t a) { return _mm512_set1_epi32(a); }
  // Of a <= 0 and b < 0: by their bits, which spares the units that multiply.
  static F max_of_negative(F a, F b) { return floats(_mm512_min_epu32(words(a), words(b))); }
  static F floats(I a) { return _mm512_castsi512_ps(a); }
  static I words(F a) { return _mm512_castps_si512(a); }
  static F to_float(I a) { return _mm512_cvtepi32_ps(a); }
  static I max(I a, I b) { return _mm512_max_epi32(a, b); }

  // rint(a), halves to even, clamped to low..127, as an operand.
  static I to_bytes(F a, F b, F c, F d, int low) {
    const F top = set1(127.0f);
    const auto integers = [&](F x) { return _mm512_cvtps_epi32(_mm512_min_ps(x, top)); };
    const I words = _mm512_packs_epi16(_mm512_packs_epi32(integers(a), integers(b)),
                                       _mm512_packs_epi32(integers(c), integers(d)));
    const I bytes = _mm512_max_epi8(by_lane(words), _mm512_set1_epi8(static_cast<char>(low)));
    return _mm512_xor_si512(bytes, _mm512_set1_epi8(static_cast<char>(kZeroByte)));
  }
  // rint(255 * 2^a), -100 <= a <= 0, of four vectors as an operand; where those have a sign, less
  // 128. The power is as good as exp2's, by a table of 32 and a quadratic.
  static I powers(const F (&a)[4]) {
    // The bits of 255 * 2^(k/32) less k << 18; adding n << 18 leaves the exponent right.
    alignas(64) static constexpr std::uint32_t kTable[32] = {
        0x437f0000, 0x437e4ab9, 0x437d2519, 0x437c0f76, 0x437b0a2c, 0x437a1595, 0x43793210,
        0x43785ffb, 0x43779fb8, 0x4376f1ad, 0x4376563d, 0x4375cdd3, 0x437558d8, 0x4374f7b9,
        0x4374aae7, 0x437472d2, 0x43744fee, 0x437442b4, 0x43744b9b, 0x43746b20, 0x4374a1c3,
        0x4374f004, 0x43755668, 0x4375d575, 0x43766db8, 0x43771fbc, 0x4377ec12, 0x4378d34e,
        0x4379d606, 0x437af4d5, 0x437c3058, 0x437d892f};
    const F magic = set1(12582912.0f / 32);  // ulp 1/32
    I e[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const F n = add(a[i], magic);
      const F r = sub(a[i], sub(n, magic));
      const F p = fma(fma(set1(0.2402265070f), r, set1(0.6931573436f)), r, set1(1.0f));
      const I top = _mm512_add_epi32(_mm512_permutex2var_epi32(_mm512_load_si512(kTable), words(n),
                                                               _mm512_load_si512(kTable + 16)),
                                     _mm512_slli_epi32(words(n), 18));
      e[i] = words(fma(p, floats(top), set1(12582912.0f)));  // the integer in the lowest byte
    }
    const I lowest =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
    I bytes = _mm512_mask_shuffle_epi8(e[0], 0x2222222222222222, e[1], lowest);
    bytes = _mm512_mask_shuffle_epi8(bytes, 0x4444444444444444, e[2], lowest);
    bytes = _mm512_mask_shuffle_epi8(bytes, 0x8888888888888888, e[3], lowest);
    return _mm512_xor_si512(bytes, _mm512_set1_epi8(static_cast<char>(kZeroByte ^ 128)));
  }
  // An operand's bytes as weights.
  static I with_sign(I a) {
    return _mm512_xor_si512(a, _mm512_set1_epi8(static_cast<char>(kZeroByte)));
  }
  static void store_bytes(Word* p, I a) { _mm512_storeu_si512(p, a); }
  // rint(a), halves to even, clamped to -127..127: one byte with a sign for each lane.
  static void store_signed(Word* p, F a) {
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_min_ps(a, set1(127.0f)));
    const __m128i bytes = _mm_max_epi8(_mm512_cvtsepi32_epi8(rounded), _mm_set1_epi8(-127));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
  }

#ifdef __AVX512VNNI__
  // The instruction takes one operand without sign.
  static constexpr std::uint8_t kZeroByte = 128;
  using Bytes = I;
  static Bytes bytes(I a) { return a; }
  // Not the intrinsic: g++ 12 copies every sum before and after it.
  static I dot(I sum, Bytes x, I w) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
  }
#else
  // |x| * (w with the sign of x): pairs of such products fit 16 bits.
  static constexpr std::uint8_t kZeroByte = 0;
  struct Bytes {
    I magnitude;
    __mmask64 negative;
  };
  static Bytes bytes(I a) { return {_mm512_abs_epi8(a), _mm512_movepi8_mask(a)}; }
  static I dot(I sum, const Bytes& x, I w) {
    const I with_sign = _mm512_mask_sub_epi8(w, x.negative, _mm512_setzero_si512(), w);
    const I pairs = _mm512_maddubs_epi16(x.magnitude, with_sign);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
#endif

 private:
  // From the order that packing twice leaves.
  static I by_lane(I bytes) {
    const I order =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    return _mm512_shuffle_epi8(bytes, order);
  }

  // p * 2^(n / 16), n the low bits of `shifted`.
  static F scale(F shifted, F p) {
    // The table holds the bits of 2^(k/16) less k << 19; adding n << 19 leaves the exponent right.
    const __m512i table =
        _mm512_setr_epi32(0x3f800000, 0x3f7daac3, 0x3f7b95c2, 0x3f79c3d3, 0x3f7837f0, 0x3f76f532,
                          0x3f75fed7, 0x3f75583f, 0x3f7504f3, 0x3f7508a4, 0x3f75672a, 0x3f76248c,
                          0x3f7744fd, 0x3f78ccdf, 0x3f7ac0c7, 0x3f7d257d);
    const __m512i bits = _mm512_castps_si512(shifted);
    const __m512i power =
        _mm512_add_epi32(_mm512_permutexvar_epi32(bits, table), _mm512_slli_epi32(bits, 19));
    return mul(p, _mm512_castsi512_ps(power));
  }
};
