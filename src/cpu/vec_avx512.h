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
    return _mm512_add_epi32(_mm512_slli_epi32(group, Stride == 8   ? 3
                                                     : Stride == 4 ? 2
                                                                   : 1),
                            _mm512_set1_epi32(first));
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

  // Relative error below 2e-6: far less than what is lost when the result becomes bfloat16.
  static F exp2_rough(F a) {
    const F magic = set1(12582912.0f / 16);
    a = max(a, set1(-125.0f));
    const F n = add(a, magic);
    const F r = sub(a, sub(n, magic));
    const F p = fma(set1(0.2402265070f), r, set1(0.6931471806f));
    return scale(n, fma(p, r, set1(1.0f)));
  }

 private:
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
