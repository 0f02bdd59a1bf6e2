// Movements of tiles: with their neighbourhood, between rolled grids, into the output picture.
// Include inside the namespace of a translation unit, after its Vec and codecs.

// Columns -4 to 19 of a row, from the row itself and those of the tiles left and right.
struct HaloRow {
  const float *left, *middle, *right;

  // The vector of columns [first, first + kLanes).
  template <int First>
  Vec::F columns() const {
    constexpr int kLast = kTile - Vec::kLanes;
    if constexpr (First < 0) {
      return Vec::slide<Vec::kLanes - 4>(Vec::load(left + kLast), Vec::load(middle));
    } else if constexpr (First > kLast) {
      return Vec::slide<4>(Vec::load(middle + kLast), Vec::load(right));
    } else {
      return Vec::load(middle + First);
    }
  }
};

template <typename Codec, int First>
inline void store_halo_row(Word* out, const HaloRow& a, const HaloRow& b) {
  const Vec::F second = b.columns<First>();
  Codec::store(out + First, a.columns<First>(), second, second, second, Quantiser());
  constexpr int kEnd = kTile + 4 - Vec::kLanes;
  constexpr int kNext = First + Vec::kLanes;
  if constexpr (First < kEnd) store_halo_row<Codec, (kNext < kEnd ? kNext : kEnd)>(out, a, b);
}

// Where a channel's rows are in the tiles left, in the middle and right.
struct HaloSource {
  const float* base[3];
  int row_stride[3];

  HaloSource(const float* const* tiles, int channel, const float* zeros) {
    for (int i = 0; i < 3; ++i) {
      const bool there = tiles[i] != nullptr && channel >= 0;
      base[i] = there ? tiles[i] + channel * kTilePixels : zeros;
      row_stride[i] = there ? kTile : 0;
    }
  }
  HaloRow row(int y) const {
    return {base[0] + y * row_stride[0], base[1] + y * row_stride[1], base[2] + y * row_stride[2]};
  }
};

// Vectors of a neighbour that is not there, or of a channel that fills up a word.
struct HaloZeros {
  alignas(64) float words[kTile];
};

// `channels` is [steps][Codec::kPack].
template <typename Codec>
void gather_halo(const HaloTask& task, const HaloZeros& zeros) {
  for (int step = 0; step < task.steps; ++step) {
    const int a = task.channels != nullptr ? task.channels[step * Codec::kPack] : step;
    const int b =
        task.channels != nullptr ? task.channels[step * Codec::kPack + Codec::kPack - 1] : step;
    Word* out = task.out + step * kHaloPlane + kHaloOrigin - kHalo * kHaloStride;
    const auto rows = [&](const float* const* tiles, int first, int last) {
      const HaloSource from_a(tiles, a, zeros.words), from_b(tiles, b, zeros.words);
      for (int y = first; y < last; ++y, out += kHaloStride) {
        store_halo_row<Codec, -4>(out, from_a.row(y), from_b.row(y));
      }
    };
    rows(task.x, kTile - kHalo, kTile);
    rows(task.x + 3, 0, kTile);
    rows(task.x + 6, 0, kHalo);
  }
}

void halo(const HaloTask& task) {
  HaloZeros zeros{};
  switch (task.operand) {
    case Operand::fp32:
      return gather_halo<Fp32>(task, zeros);
    case Operand::int8:  // operands already: whole words move
      __builtin_memset(zeros.words, Vec::kZeroByte, sizeof zeros.words);
      return gather_halo<Fp32>(task, zeros);
    default:
      return gather_halo<Half>(task, zeros);
  }
}

// Rows are N words; the tile starts at word S of them, S > 0, and at row `rows`.
template <int N, int S>
void roll_rows(const RollTask& task, int rows) {
  for (int plane = 0; plane < task.planes; ++plane) {
    Word* out = task.out + plane * (kTile * N);
    const auto copy = [&](const Word* left, const Word* right, int count) {
      left += plane * (kTile * N);
      right += plane * (kTile * N);
      for (int y = 0; y < count; ++y, out += N, left += N, right += N) {
        if constexpr (N == 16 && Vec::kLanes == 16) {
          Vec::store(out, Vec::slide<S>(Vec::load(left), Vec::load(right)));
        } else {
          __builtin_memcpy(out, left + S, (N - S) * sizeof(Word));
          __builtin_memcpy(out + N - S, right, S * sizeof(Word));
        }
      }
    };
    copy(task.from[0] + rows * N, task.from[1] + rows * N, kTile - rows);
    copy(task.from[2], task.from[3], rows);
  }
}

// Four pixels to a word: by bytes, for a tile may start within a word.
template <int S>
void roll_bytes(const RollTask& task) {
  const auto bytes = [](const Word* words) { return reinterpret_cast<const char*>(words); };
  char* out = reinterpret_cast<char*>(task.out);
  for (int plane = 0; plane < task.planes; ++plane) {
    const auto copy = [&](const char* left, const char* right, int count) {
      left += plane * kTilePixels;
      right += plane * kTilePixels;
      for (int y = 0; y < count; ++y, out += kTile, left += kTile, right += kTile) {
        __builtin_memcpy(out, left + S, kTile - S);
        __builtin_memcpy(out + kTile - S, right, S);
      }
    };
    copy(bytes(task.from[0]) + S * kTile, bytes(task.from[1]) + S * kTile, kTile - S);
    copy(bytes(task.from[2]), bytes(task.from[3]), S);
  }
}

void roll(const RollTask& task) {
  if (task.pixels_per_word == 4) {
    switch (task.roll) {
      case 2:
        return roll_bytes<2>(task);
      case 4:
        return roll_bytes<4>(task);
      default:
        return roll_bytes<8>(task);
    }
  }
  if (task.pixels_per_word == 1) {
    switch (task.roll) {
      case 2:
        return roll_rows<16, 2>(task, 2);
      case 4:
        return roll_rows<16, 4>(task, 4);
      case 8:
        return roll_rows<16, 8>(task, 8);
      case 12:
        return roll_rows<16, 12>(task, 12);
      default:
        return roll_rows<16, 14>(task, 14);
    }
  }
  switch (task.roll) {
    case 2:
      return roll_rows<8, 1>(task, 2);
    case 4:
      return roll_rows<8, 2>(task, 4);
    default:
      return roll_rows<8, 4>(task, 8);
  }
}

template <typename T>
inline void convert_row(const float* rgb, int samples, T* out) {
  constexpr float kScale = sizeof(T) == 2 ? 257.0f : 1.0f;
  constexpr float kTop = sizeof(T) == 2 ? 65535.0f : 255.0f;
  constexpr float kMagic = 12582912.0f;  // adding it rounds to an integer, ties to even
  for (int i = 0; i < samples; ++i) {
    float v = rgb[i] * kScale;
    v = v > 0.0f ? v : 0.0f;
    v = v < kTop ? v : kTop;
    out[i] = static_cast<T>(static_cast<std::int32_t>((v + kMagic) - kMagic));
  }
}

inline void shuffle_scaled(const ShuffleTask& task, const int scale) {
  float* rgb = task.scratch;  // [16 * scale][3]
  const int samples = task.out.width * 3;
  for (int y = 0; y < task.out.height; ++y) {
    for (int channel = 0; channel < 3; ++channel) {
      const float mean = task.mean[channel];
      for (int dx = 0; dx < scale; ++dx) {
        const float* from = task.y +
                            (channel * scale * scale + y % scale * scale + dx) * kTilePixels +
                            y / scale * kTile;
        for (int x = 0; x < kTile; ++x) rgb[(x * scale + dx) * 3 + channel] = from[x] + mean;
      }
    }
    std::byte* row = task.out.data + static_cast<std::size_t>(y) * task.out.row_bytes;
    switch (task.out.type) {
      case SampleType::u8:
        convert_row(rgb, samples, reinterpret_cast<std::uint8_t*>(row));
        break;
      case SampleType::u16:
        convert_row(rgb, samples, reinterpret_cast<std::uint16_t*>(row));
        break;
      case SampleType::f32:
        __builtin_memcpy(row, rgb, static_cast<std::size_t>(samples) * sizeof(float));
        break;
    }
  }
}

void shuffle(const ShuffleTask& task) {
  switch (task.scale) {  // the inlined copies know the stride
    case 2:
      return shuffle_scaled(task, 2);
    case 3:
      return shuffle_scaled(task, 3);
    case 4:
      return shuffle_scaled(task, 4);
    default:
      return shuffle_scaled(task, task.scale);
  }
}
