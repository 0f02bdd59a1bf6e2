#include "quality/compare.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "elan/error.h"

namespace elan {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The bits of a float but for the last 15 are the number of its bin.
constexpr int kDroppedBits = 15;
constexpr std::uint32_t kFirst = (127U - 40U) << 23 >> kDroppedBits;  // 2^-40
constexpr std::uint32_t kLast = (127U + 40U) << 23 >> kDroppedBits;   // 2^40

float sample(const ConstImageView& view, int x, int y) {
  float value = 0;
  std::memcpy(&value,
              view.data + static_cast<std::size_t>(y) * view.row_bytes +
                  static_cast<std::size_t>(x) * sizeof value,
              sizeof value);
  return value;
}

float level(float value) {
  return std::isfinite(value) ? std::nearbyint(std::clamp(value, 0.0F, 255.0F)) : -2 * 255.0F;
}

}  // namespace

void ErrorStatistics::Histogram::add(double value) {
  if (bins_.empty()) bins_.resize(kLast - kFirst + 2);
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value)) >> kDroppedBits;
  ++bins_[bits < kFirst ? 0 : std::min(bits, kLast) - kFirst + 1];
}

void ErrorStatistics::Histogram::add(const Histogram& other) {
  bins_.resize(std::max(bins_.size(), other.bins_.size()));
  for (std::size_t i = 0; i < other.bins_.size(); ++i) bins_[i] += other.bins_[i];
}

double ErrorStatistics::Histogram::median(std::size_t count) const {
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < bins_.size(); ++i) {
    below += bins_[i];
    if (below * 2 < count) continue;
    if (i == 0) return 0;
    const auto bits = (kFirst + static_cast<std::uint32_t>(i) - 1) << kDroppedBits;
    return std::bit_cast<float>(bits | 1U << (kDroppedBits - 1));
  }
  return 0;
}

void ErrorStatistics::add(double value, double reference) {
  double error = std::abs(value - reference);
  double relative = error / (std::abs(reference) + kRelativeFloor);
  if (!std::isfinite(error)) error = relative = static_cast<double>(kInfinity);
  ++count_;
  max_abs_ = std::max(max_abs_, error);
  max_rel_ = std::max(max_rel_, relative);
  sum_abs_ += error;
  sum_rel_ += relative;
  abs_.add(error);
  rel_.add(relative);
}

void ErrorStatistics::add(const ErrorStatistics& other) {
  count_ += other.count_;
  max_abs_ = std::max(max_abs_, other.max_abs_);
  max_rel_ = std::max(max_rel_, other.max_rel_);
  sum_abs_ += other.sum_abs_;
  sum_rel_ += other.sum_rel_;
  abs_.add(other.abs_);
  rel_.add(other.rel_);
}

ErrorSummary ErrorStatistics::summary() const {
  if (count_ == 0) return {};
  const auto count = static_cast<double>(count_);
  return {count_,           max_abs_, abs_.median(count_),
          sum_abs_ / count, max_rel_, rel_.median(count_),
          sum_rel_ / count};
}

void PictureErrors::add(const PictureErrors& other) {
  values.add(other.values);
  pixels += other.pixels;
  pixels_off += other.pixels_off;
}

PictureErrors compare_pictures(const ConstImageView& picture, const ConstImageView& reference,
                               int cells) {
  if (picture.width != reference.width || picture.height != reference.height ||
      picture.type != SampleType::f32 || reference.type != SampleType::f32) {
    throw Error(ErrorKind::input,
                "comparison: expected two float pictures of one size, found " +
                    std::to_string(picture.width) + "x" + std::to_string(picture.height) + " and " +
                    std::to_string(reference.width) + "x" + std::to_string(reference.height));
  }
  PictureErrors errors;
  ErrorMap& map = errors.map;
  std::vector<std::size_t> counts;
  if (cells > 0) {
    map.cell = (std::max(picture.width, picture.height) + cells - 1) / cells;
    map.columns = (picture.width + map.cell - 1) / map.cell;
    map.rows = (picture.height + map.cell - 1) / map.cell;
    map.mean.resize(static_cast<std::size_t>(map.columns) * map.rows);
    counts.resize(map.mean.size());
  }
  for (int y = 0; y < picture.height; ++y) {
    for (int x = 0; x < picture.width; ++x) {
      bool off = false;
      double sum = 0;
      for (int c = 0; c < 3; ++c) {
        const float a = sample(picture, 3 * x + c, y), b = sample(reference, 3 * x + c, y);
        errors.values.add(a, b);
        off |= !(std::abs(level(a) - level(b)) <= 1);
        sum += std::abs(static_cast<double>(a) - b);
      }
      ++errors.pixels;
      errors.pixels_off += off ? 1 : 0;
      if (cells > 0) {
        const std::size_t at = static_cast<std::size_t>(y / map.cell) * map.columns + x / map.cell;
        map.mean[at] += sum;
        counts[at] += 3;
      }
    }
  }
  for (std::size_t i = 0; i < counts.size(); ++i) map.mean[i] /= static_cast<double>(counts[i]);
  return errors;
}

}  // namespace elan
