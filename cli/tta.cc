#include "tta.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "engine/band_source.h"
#include "engine/tiles.h"

namespace elan::cli {
namespace {

constexpr std::size_t kFloatPixel = 3 * sizeof(float);

struct Rect {
  int x = 0, y = 0, width = 0, height = 0;
};

int round_up(int value) {
  return (value + kTileGrid - 1) / kTileGrid * kTileGrid;
}

// Where `r` of a width x height picture lies once the picture is turned.
Rect turned(const Rect& r, int width, int height, const Orientation& o) {
  Rect t = r;
  if (o.flip_x) t.x = width - r.x - r.width;
  if (o.flip_y) t.y = height - r.y - r.height;
  if (o.transpose) {
    std::swap(t.x, t.y);
    std::swap(t.width, t.height);
  }
  return t;
}

// The pixel of the upright picture that is at (x, y) of the turned one.
std::pair<int, int> upright(int x, int y, int width, int height, const Orientation& o) {
  if (o.transpose) std::swap(x, y);
  return {o.flip_x ? width - 1 - x : x, o.flip_y ? height - 1 - y : y};
}

// One axis of what must be computed to get [begin, begin + size) right: overlap on both sides,
// ends on the grid or at the picture's end.
std::pair<int, int> with_overlap(int begin, int size, int whole) {
  const int from = std::max(0, begin - kTileOverlap) / kTileGrid * kTileGrid;
  return {from, std::min(whole, round_up(begin + size + kTileOverlap))};
}

// Side of the largest area computed for a tile of this side in any orientation.
int computed_side(int tile) {
  return tile + 2 * (kTileOverlap + kTileGrid);
}

class TtaSource : public BandedRows {
 public:
  TtaSource(Engine& engine, const ConstImageView& picture, SampleType out_type, RunOptions run,
            const TtaPlan& plan)
      : BandedRows(picture, engine.model().scale(), out_type),
        engine_(engine),
        run_(std::move(run)),
        tile_width_(plan.tile == 0 ? picture.width : std::min(plan.tile, picture.width)),
        tile_height_(plan.tile == 0 ? picture.height : std::min(plan.tile, picture.height)) {}

 private:
  int compute_band(int begin) override {
    const int end = std::min(in().height, begin + tile_height_);
    const ImageView band = hold(end - begin);
    for (int x = 0; x < in().width; x += tile_width_) {
      const Rect core{x, begin, std::min(tile_width_, in().width - x), end - begin};
      sum_.assign(static_cast<std::size_t>(core.width) * core.height * scale() * scale() * 3, 0.0F);
      for (const Orientation& o : orientations()) add(core, o);
      store(core, band.crop(x * scale(), 0, core.width * scale(), band.height));
    }
    return end;
  }

  // Enlarges the turned surroundings of `core` and adds the core's part to sum_.
  void add(const Rect& core, const Orientation& o) {
    const int turned_width = o.transpose ? in().height : in().width;
    const int turned_height = o.transpose ? in().width : in().height;
    const Rect target = turned(core, in().width, in().height, o);
    const auto [left, right] = with_overlap(target.x, target.width, turned_width);
    const auto [top, bottom] = with_overlap(target.y, target.height, turned_height);
    const Rect area{left, top, right - left, bottom - top};

    const std::size_t pixel = 3 * size_of(in().type);
    input_.resize(pixel * static_cast<std::size_t>(area.width) * area.height);
    std::byte* to = input_.data();
    for (int y = 0; y < area.height; ++y) {
      for (int x = 0; x < area.width; ++x, to += pixel) {
        const auto [from_x, from_y] = upright(area.x + x, area.y + y, in().width, in().height, o);
        std::memcpy(to,
                    in().data + static_cast<std::size_t>(from_y) * in().row_bytes +
                        static_cast<std::size_t>(from_x) * pixel,
                    pixel);
      }
    }
    const int big_width = area.width * scale();
    result_.resize(static_cast<std::size_t>(big_width) * area.height * scale() * 3);
    const ConstImageView turned_in(
        BasicImageView<const std::byte>{input_.data(), area.width, area.height, in().type,
                                        pixel * static_cast<std::size_t>(area.width)});
    RunOptions run;
    run.stop = run_.stop;
    run.warning = run_.warning;
    const double part =
        static_cast<double>(core.width) * core.height / (8.0 * in().width * in().height);
    if (run_.progress) {
      run.progress = [&](double share) { run_.progress(done_ + part * share); };
    }
    engine_.upscale(turned_in, view_of(result_.data(), big_width, area.height * scale()), run);
    done_ += part;

    float* sum = sum_.data();
    for (int y = 0; y < core.height * scale(); ++y) {
      for (int x = 0; x < core.width * scale(); ++x, sum += 3) {
        const Rect at = turned({core.x * scale() + x, core.y * scale() + y, 1, 1},
                               in().width * scale(), in().height * scale(), o);
        const float* value =
            result_.data() + (static_cast<std::size_t>(at.y - area.y * scale()) * big_width +
                              static_cast<std::size_t>(at.x - area.x * scale())) *
                                 3;
        for (int c = 0; c < 3; ++c) sum[c] += value[c];
      }
    }
  }

  // Averages, rounds and clamps sum_ into the core's part of the band.
  void store(const Rect& core, const ImageView& out) {
    const std::size_t samples = static_cast<std::size_t>(core.width) * scale() * 3;
    for (int y = 0; y < core.height * scale(); ++y) {
      const float* sum = sum_.data() + static_cast<std::size_t>(y) * samples;
      std::byte* row = out.data + static_cast<std::size_t>(y) * out.row_bytes;
      for (std::size_t i = 0; i < samples; ++i) {
        const float mean = sum[i] / 8;
        if (type() == SampleType::u8) {
          const auto v = static_cast<std::uint8_t>(std::nearbyint(std::clamp(mean, 0.0F, 255.0F)));
          row[i] = static_cast<std::byte>(v);
        } else if (type() == SampleType::u16) {
          const auto v =
              static_cast<std::uint16_t>(std::nearbyint(std::clamp(mean * 257.0F, 0.0F, 65535.0F)));
          std::memcpy(row + i * sizeof v, &v, sizeof v);
        } else {
          std::memcpy(row + i * sizeof mean, &mean, sizeof mean);
        }
      }
    }
  }

  Engine& engine_;
  RunOptions run_;
  int tile_width_, tile_height_;
  double done_ = 0;
  std::vector<std::byte> input_;
  std::vector<float> sum_, result_;
};

}  // namespace

std::array<Orientation, 8> orientations() {
  std::array<Orientation, 8> all;
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i] = {(i & 1) != 0, (i & 2) != 0, (i & 4) != 0};
  }
  return all;
}

TtaPlan plan_tta(const Engine& engine, int width, int height, SampleType out_type, int tile,
                 std::size_t reserved) {
  const auto scale = static_cast<std::size_t>(engine.model().scale());
  // Beside the engine: sum, result, turned input and the band.
  const auto try_tile = [&](int side) -> TtaPlan {
    const bool whole = side == 0;
    const auto core_w = static_cast<std::size_t>(whole ? width : std::min(side, width));
    const auto core_h = static_cast<std::size_t>(whole ? height : std::min(side, height));
    const int area_w = whole ? width : std::min(width, computed_side(side));
    const int area_h = whole ? height : std::min(height, computed_side(side));
    const std::size_t area = static_cast<std::size_t>(area_w) * static_cast<std::size_t>(area_h);
    const std::size_t ours =
        (core_w * core_h + area) * scale * scale * kFloatPixel +
        area * 3 * size_of(SampleType::u16) +
        static_cast<std::size_t>(width) * core_h * scale * scale * 3 * size_of(out_type);
    const TilePlan upright = engine.plan(area_w, area_h, reserved + ours);
    const TilePlan turned = engine.plan(area_h, area_w, reserved + ours);
    const bool fits = upright.whole() && turned.whole();
    return {side, fits ? ours + std::max(upright.memory, turned.memory) : 0};
  };
  if (tile != 0) {
    const TtaPlan plan = try_tile(tile);
    if (plan.memory != 0) return plan;
    throw Error(ErrorKind::memory, "memory: tiles of " + std::to_string(tile) +
                                       " pixels do not fit with --tta; a smaller --tile or a "
                                       "larger --max-memory helps");
  }
  for (int side = 0;;) {
    const bool last = side != 0 && side <= kSmallestTile;
    try {
      const TtaPlan plan = try_tile(side);
      if (plan.memory != 0) return plan;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::memory || last) throw;
    }
    if (last) {
      throw Error(ErrorKind::memory,
                  "memory: even the smallest tiles do not fit with --tta; a larger --max-memory "
                  "helps");
    }
    const int from = side == 0 ? round_up(std::max(width, height)) : side;
    side = std::max(kSmallestTile, from * 3 / 4 / kTileGrid * kTileGrid);
  }
}

std::unique_ptr<RowSource> stream_tta(Engine& engine, const ConstImageView& in, SampleType out_type,
                                      const RunOptions& run, int tile, std::size_t reserved) {
  const TtaPlan plan = plan_tta(engine, in.width, in.height, out_type, tile, reserved);
  return std::make_unique<TtaSource>(engine, in, out_type, run, plan);
}

}  // namespace elan::cli
