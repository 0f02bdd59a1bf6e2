// Plain C++ for any machine: vectors of 4 floats that a compiler may or may not keep in registers.
struct Vec {
  struct F {
    float v[4];
  };
  using Index = int;  // no window is narrower than a vector
  static constexpr int kLanes = 4;
  static constexpr int kRows = 2;
  static constexpr int kKeys = 2;

  template <typename Fn>
  static F each(Fn&& fn) {
    return {{fn(0), fn(1), fn(2), fn(3)}};
  }
  static F load(const float* p) {
    return each([&](int i) { return p[i]; });
  }
  static void store(float* p, F a) {
    for (int i = 0; i < 4; ++i) p[i] = a.v[i];
  }
  static F set1(float a) { return {{a, a, a, a}}; }
  static F add(F a, F b) {
    return each([&](int i) { return a.v[i] + b.v[i]; });
  }
  static F sub(F a, F b) {
    return each([&](int i) { return a.v[i] - b.v[i]; });
  }
  static F mul(F a, F b) {
    return each([&](int i) { return a.v[i] * b.v[i]; });
  }
  static F div(F a, F b) {
    return each([&](int i) { return a.v[i] / b.v[i]; });
  }
  static F fma(F a, F b, F c) {
    return each([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
  }
  static F max(F a, F b) {
    return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static bool any_above(F a, float limit) {
    return a.v[0] > limit || a.v[1] > limit || a.v[2] > limit || a.v[3] > limit;
  }

  // Keeps the compiler from loading a value again for every use of it.
  template <typename T>
  static T pin(T a) {
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
    return each([&](int i) {
      const float x = a.v[i] > -125.0f ? a.v[i] : -125.0f;
      const int n = static_cast<int>(x + 256.5f) - 256;
      const float r = x - static_cast<float>(n);
      float p = 1.535336188e-4f;
      for (const float c : {1.339887440e-3f, 9.618437357e-3f, 5.550332548e-2f, 2.402264791e-1f,
                            6.931472028e-1f, 1.0f}) {
        p = p * r + c;
      }
      std::int32_t bits;
      __builtin_memcpy(&bits, &p, 4);
      bits += n * (1 << 23);
      __builtin_memcpy(&p, &bits, 4);
      return p;
    });
  }

  // Four 8-bit channels of 4 pixels each, as operands and as weights.
  struct I {
    std::int32_t v[4];
  };
  struct Bytes {
    std::int8_t v[16];
  };
  static constexpr std::uint8_t kZeroByte = 0;
  static I load_bytes(const Word* p) {
    I a;
    __builtin_memcpy(&a, p, sizeof a);
    return a;
  }
  static I broadcast_bytes(const Word* p) {
    std::int32_t a;
    __builtin_memcpy(&a, p, sizeof a);
    return set1(a);
  }
  static I set1(std::int32_t a) { return {{a, a, a, a}}; }
  static F max_of_negative(F a, F b) { return max(a, b); }
  static F floats(I a) {
    F b;
    __builtin_memcpy(&b, &a, sizeof b);
    return b;
  }
  static I words(F a) { return load_bytes(a.v); }
  static F to_float(I a) {
    return each([&](int i) { return static_cast<float>(a.v[i]); });
  }
  static I max(I a, I b) {
    for (int i = 0; i < 4; ++i) a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
    return a;
  }
  // Rounds once, whatever the machine has.
  static F fused(F a, F b, F c) {
    return each([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
  }
  static Bytes bytes(I a) {
    Bytes b;
    __builtin_memcpy(&b, &a, sizeof b);
    return b;
  }
  static I dot(I sum, const Bytes& x, I w) {
    const Bytes weights = bytes(w);
    for (int i = 0; i < 16; ++i) sum.v[i / 4] += x.v[i] * weights.v[i];
    return sum;
  }

  // rint(a), halves to even, clamped to low..127, as an operand.
  static I to_bytes(F a, F b, F c, F d, int low) {
    const F* const channels[4] = {&a, &b, &c, &d};
    Bytes bytes;
    for (int i = 0; i < 16; ++i) bytes.v[i] = to_byte(channels[i % 4]->v[i / 4], low);
    return words_of(bytes);
  }
  // rint(255 * 2^a), a <= 0, of four vectors as an operand; those have a sign, so less 128.
  static I powers(const F (&a)[4]) {
    const F keys[4] = {exp2(a[0]), exp2(a[1]), exp2(a[2]), exp2(a[3])};
    Bytes bytes;
    for (int i = 0; i < 16; ++i) {
      const float rounded = (255.0f * keys[i % 4].v[i / 4] + kMagic) - kMagic;
      bytes.v[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(rounded) - 128);
    }
    return words_of(bytes);
  }
  static I with_sign(I a) { return a; }  // an operand's bytes as weights
  static void store_bytes(Word* p, I a) { __builtin_memcpy(p, &a, sizeof a); }
  // Likewise clamped to -127..127: one byte with a sign for each lane.
  static void store_signed(Word* p, F a) {
    std::int8_t bytes[4];
    for (int i = 0; i < 4; ++i) bytes[i] = to_byte(a.v[i], -127);
    __builtin_memcpy(p, bytes, sizeof bytes);
  }

 private:
  static constexpr float kMagic = 12582912.0f;  // adding it rounds to an integer

  static I words_of(const Bytes& bytes) {
    I words;
    __builtin_memcpy(&words, &bytes, sizeof words);
    return words;
  }
  static std::int8_t to_byte(float x, int low) {
    x = x > static_cast<float>(low) ? x : static_cast<float>(low);
    x = x < 127.0f ? x : 127.0f;
    return static_cast<std::int8_t>((x + kMagic) - kMagic);
  }
};
