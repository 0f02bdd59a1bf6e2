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
};
