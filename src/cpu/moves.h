// Movements of tiles: with their neighbourhood, between rolled grids, into the output picture.
// Include inside the namespace of a translation unit, after its Vec and codecs.

template <typename Codec>
void halo(const HaloTask& task) {
  constexpr int kPack = Codec::kPack;
  for (int step = 0; step < task.steps; ++step) {
    const int a = task.channels[step * kPack];
    const int b = task.channels[step * kPack + kPack - 1];
    for (int y = -kHalo; y < kTile + kHalo; ++y) {
      const float* const* tiles = task.x + (y < 0 ? 0 : y < kTile ? 3 : 6);
      const int row = (y & (kTile - 1)) * kTile;
      Word* out = task.out + step * kHaloPlane + kHaloOrigin + y * kHaloStride;
      const auto value = [&](int tile, int channel, int x) {
        return tiles[tile] == nullptr || channel < 0 ? 0.0f
                                                     : tiles[tile][channel * kTilePixels + row + x];
      };
      for (int x = 0; x < kHalo; ++x) {
        const int left = kTile - kHalo + x;
        out[x - kHalo] = Codec::pack(value(0, a, left), value(0, b, left));
        out[kTile + x] = Codec::pack(value(2, a, x), value(2, b, x));
      }
      for (int x = 0; x < kTile; x += Vec::kLanes) {
        const auto values = [&](int channel) {
          return tiles[1] == nullptr || channel < 0
                     ? Vec::set1(0.0f)
                     : Vec::load(tiles[1] + channel * kTilePixels + row + x);
        };
        Codec::store(out + x, values(a), values(b));
      }
    }
  }
}

// Rows are N words; the tile starts at word S of them, S > 0, and at row `rows`.
template <int N, int S>
void roll_rows(const RollTask& task, int rows) {
  for (int plane = 0; plane < task.planes; ++plane) {
    for (int y = 0; y < kTile; ++y) {
      const bool lower = y + rows >= kTile;
      const int at = plane * (kTile * N) + ((y + rows) & (kTile - 1)) * N;
      Word* out = task.out + plane * (kTile * N) + y * N;
      __builtin_memcpy(out, task.from[lower ? 2 : 0] + at + S, (N - S) * sizeof(Word));
      __builtin_memcpy(out + N - S, task.from[lower ? 3 : 1] + at, S * sizeof(Word));
    }
  }
}

inline void roll(const RollTask& task) {
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

inline void shuffle(const ShuffleTask& task) {
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
