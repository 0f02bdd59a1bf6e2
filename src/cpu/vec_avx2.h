// Vectors of 8 floats. Include inside the namespace of a translation unit compiled for AVX2 + FMA.
struct Vec {
  using F = __m256;
  using Index = __m256i;
  static constexpr int kLanes = 8;
  static constexpr int kRows = 2;
  static constexpr int kKeys = 4;

  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F a) { _mm256_storeu_ps(p, a); }
  static F set1(float a) { return _mm256_set1_ps(a); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F fused(F a, F b, F c) { return fma(a, b, c); }  // rounds once
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static bool any_above(F a, float limit) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a, set1(limit), _CMP_GT_OQ)) != 0;
  }

  // Keeps the compiler from loading a value again for every use of it.
  template <typename T>
  static T pin(T a) {
    asm("" : "+x"(a));
    return a;
  }

  // Lanes N to 7 of a, then the first N of b.
  template <int N>
  static F slide(F a, F b) {
    static_assert(N == 4);
    return _mm256_permute2f128_ps(a, b, 0x21);
  }

  // For windows narrower than a vector (4): lane l takes element l / 4 * Stride + first.
  template <int Window, int Stride>
  static Index window_index(int first) {
    return _mm256_add_epi32(_mm256_setr_epi32(0, 0, 0, 0, Stride, Stride, Stride, Stride),
                            _mm256_set1_epi32(first));
  }
  static F permute(F a, Index i) { return _mm256_permutevar8x32_ps(a, i); }

  // 2^a for a <= 126, relative error below 2e-7; anything below -125 gives about 2^-125.
  static F exp2(F a) {
    const F magic = set1(12582912.0f);  // ulp 1: rounds to integers
    a = max(a, set1(-125.0f));
    const F n = add(a, magic);
    const F r = sub(a, sub(n, magic));
    F p = fma(set1(1.535336188e-4f), r, set1(1.339887440e-3f));
    p = fma(p, r, set1(9.618437357e-3f));
    p = fma(p, r, set1(5.550332548e-2f));
    p = fma(p, r, set1(2.402264791e-1f));
    p = fma(p, r, set1(6.931472028e-1f));
    p = fma(p, r, set1(1.0f));
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(n), 23)));
  }

  // Four 8-bit channels of 8 pixels each, as operands and as weights; dot() is exact.
  using I = __m256i;
  static I load_bytes(const Word* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static I broadcast_bytes(const Word* p) { return _mm256_castps_si256(_mm256_set1_ps(*p)); }
  static I set1(std::int32_t a) { return _mm256_set1_epi32(a); }
  static F max_of_negative(F a, F b) { return max(a, b); }
  static F floats(I a) { return _mm256_castsi256_ps(a); }
  static I words(F a) { return _mm256_castps_si256(a); }
  static F to_float(I a) { return _mm256_cvtepi32_ps(a); }
  static I max(I a, I b) { return _mm256_max_epi32(a, b); }

  // rint(a), halves to even, clamped to low..127, as an operand.
  static I to_bytes(F a, F b, F c, F d, int low) {
    const F top = set1(127.0f);
    const auto integers = [&](F x) { return _mm256_cvtps_epi32(_mm256_min_ps(x, top)); };
    const I words = _mm256_packs_epi16(_mm256_packs_epi32(integers(a), integers(b)),
                                       _mm256_packs_epi32(integers(c), integers(d)));
    const I bytes = _mm256_max_epi8(by_lane(words), _mm256_set1_epi8(static_cast<char>(low)));
    return _mm256_xor_si256(bytes, _mm256_set1_epi8(static_cast<char>(kZeroByte)));
  }
  // rint(255 * 2^a), a <= 0, of four vectors as an operand; where those have a sign, less 128.
  static I powers(const F (&a)[4]) {
    const auto integers = [](F x) { return _mm256_cvtps_epi32(mul(set1(255.0f), exp2(x))); };
    const I words = _mm256_packus_epi16(_mm256_packs_epi32(integers(a[0]), integers(a[1])),
                                        _mm256_packs_epi32(integers(a[2]), integers(a[3])));
    return _mm256_xor_si256(by_lane(words), _mm256_set1_epi8(static_cast<char>(kZeroByte ^ 128)));
  }
  // An operand's bytes as weights.
  static I with_sign(I a) {
    return _mm256_xor_si256(a, _mm256_set1_epi8(static_cast<char>(kZeroByte)));
  }
  static void store_bytes(Word* p, I a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
  // rint(a), halves to even, clamped to -127..127: one byte with a sign for each lane.
  static void store_signed(Word* p, F a) {
    const __m256i rounded = _mm256_cvtps_epi32(_mm256_min_ps(a, set1(127.0f)));
    const __m128i shorts =
        _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
    const __m128i bytes = _mm_max_epi8(_mm_packs_epi16(shorts, shorts), _mm_set1_epi8(-127));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), bytes);
  }

#ifdef __AVXVNNI__
  // The instruction takes one operand without sign.
  static constexpr std::uint8_t kZeroByte = 128;
  using Bytes = I;
  static Bytes bytes(I a) { return a; }
  // Not the intrinsic: g++ 12 copies every sum before and after it.
  static I dot(I sum, Bytes x, I w) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(x), "x"(w));
    return sum;
  }
#else
  // |x| * (w with the sign of x): pairs of such products fit 16 bits.
  static constexpr std::uint8_t kZeroByte = 0;
  struct Bytes {
    I magnitude, signs;
  };
  static Bytes bytes(I a) { return {_mm256_abs_epi8(a), a}; }
  static I dot(I sum, const Bytes& x, I w) {
    const I pairs = _mm256_maddubs_epi16(x.magnitude, _mm256_sign_epi8(w, x.signs));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
#endif

 private:
  // From the order that packing twice leaves.
  static I by_lane(I bytes) {
    const I order = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    return _mm256_shuffle_epi8(bytes, order);
  }
};
