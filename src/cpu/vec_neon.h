// Vectors of 4 floats on AArch64.
struct Vec {
  using F = float32x4_t;
  using Index = int;  // no window is narrower than a vector
  static constexpr int kLanes = 4;
  static constexpr int kRows = 4;
  static constexpr int kKeys = 4;

  static F load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, F a) { vst1q_f32(p, a); }
  static F set1(float a) { return vdupq_n_f32(a); }
  static F add(F a, F b) { return vaddq_f32(a, b); }
  static F sub(F a, F b) { return vsubq_f32(a, b); }
  static F mul(F a, F b) { return vmulq_f32(a, b); }
  static F div(F a, F b) { return vdivq_f32(a, b); }
  static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static F fused(F a, F b, F c) { return fma(a, b, c); }  // rounds once
  static F max(F a, F b) { return vmaxq_f32(a, b); }
  static bool any_above(F a, float limit) { return vmaxvq_f32(a) > limit; }

  // Keeps the compiler from loading a value again for every use of it.
  template <typename T>
  static T pin(T a) {
    asm("" : "+w"(a));
    return a;
  }

  // Lanes N to 3 of a, then the first N of b.
  template <int N>
  static F slide(F a, F b) {
    static_assert(N == 0 || N == 4);
    return N == 0 ? a : b;
  }

  template <int Window, int Stride>
  static Index window_index(int) {
    return 0;
  }
  static F permute(F a, Index) { return a; }

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
    return vreinterpretq_f32_s32(
        vaddq_s32(vreinterpretq_s32_f32(p), vshlq_n_s32(vreinterpretq_s32_f32(n), 23)));
  }

  // Four 8-bit channels of 4 pixels each, as operands and as weights; dot() is exact.
  using I = int32x4_t;
  using Bytes = int8x16_t;
  static constexpr std::uint8_t kZeroByte = 0;
  static I load_bytes(const Word* p) { return vreinterpretq_s32_f32(vld1q_f32(p)); }
  static I broadcast_bytes(const Word* p) { return vreinterpretq_s32_f32(vdupq_n_f32(*p)); }
  static I set1(std::int32_t a) { return vdupq_n_s32(a); }
  static F max_of_negative(F a, F b) { return max(a, b); }
  static F floats(I a) { return vreinterpretq_f32_s32(a); }
  static I words(F a) { return vreinterpretq_s32_f32(a); }
  static F to_float(I a) { return vcvtq_f32_s32(a); }
  static I max(I a, I b) { return vmaxq_s32(a, b); }
  static Bytes bytes(I a) { return vreinterpretq_s8_s32(a); }
  static I dot(I sum, Bytes x, I w) {
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, x, bytes(w));
#else
    // The sum of two products fits 16 bits.
    const int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(bytes(w)));
    const int16x8_t high = vmull_high_s8(x, bytes(w));
    return vpadalq_s16(sum, vpaddq_s16(low, high));
#endif
  }

  // rint(a), halves to even, clamped to low..127, as an operand.
  static I to_bytes(F a, F b, F c, F d, int low) {
    const auto shorts = [](F x, F y) {
      return vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(x)), vqmovn_s32(vcvtnq_s32_f32(y)));
    };
    const int8x16_t words = vcombine_s8(vqmovn_s16(shorts(a, b)), vqmovn_s16(shorts(c, d)));
    return vreinterpretq_s32_s8(
        vmaxq_s8(by_lane(words), vdupq_n_s8(static_cast<std::int8_t>(low))));
  }
  // rint(255 * 2^a), a <= 0, of four vectors as an operand; those have a sign, so less 128.
  static I powers(const F (&a)[4]) {
    const auto shorts = [](F x) { return vmovn_s32(vcvtnq_s32_f32(mul(set1(255.0f), exp2(x)))); };
    const int8x16_t words = vcombine_s8(vmovn_s16(vcombine_s16(shorts(a[0]), shorts(a[1]))),
                                        vmovn_s16(vcombine_s16(shorts(a[2]), shorts(a[3]))));
    return vreinterpretq_s32_s8(veorq_s8(by_lane(words), vdupq_n_s8(-128)));
  }
  static I with_sign(I a) { return a; }  // an operand's bytes as weights
  static void store_bytes(Word* p, I a) { vst1q_f32(p, vreinterpretq_f32_s32(a)); }
  // rint(a), halves to even, clamped to -127..127: one byte with a sign for each lane.
  static void store_signed(Word* p, F a) {
    const int16x4_t shorts = vqmovn_s32(vcvtnq_s32_f32(a));
    const int8x8_t bytes = vmax_s8(vqmovn_s16(vcombine_s16(shorts, shorts)), vdup_n_s8(-127));
    vst1_lane_f32(p, vreinterpret_f32_s8(bytes), 0);
  }

 private:
  // From the order that packing twice leaves.
  static int8x16_t by_lane(int8x16_t bytes) {
    static constexpr std::uint8_t kOrder[16] = {0, 4, 8,  12, 1, 5, 9,  13,
                                                2, 6, 10, 14, 3, 7, 11, 15};
    return vqtbl1q_s8(bytes, vld1q_u8(kOrder));
  }
};
