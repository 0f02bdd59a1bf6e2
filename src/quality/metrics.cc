#include "quality/metrics.h"

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "elan/error.h"

namespace elan {
namespace {

constexpr int kWindow = 11;

struct Plane {
  int width = 0, height = 0;
  std::vector<double> values;

  Plane(int w, int h) : width(w), height(h), values(static_cast<std::size_t>(w) * h) {}
  [[nodiscard]] const double* row(int y) const {
    return values.data() + static_cast<std::size_t>(y) * width;
  }
  double* row(int y) { return values.data() + static_cast<std::size_t>(y) * width; }
};

Plane luma(const ConstImageView& image, int border) {
  Plane plane(image.width - 2 * border, image.height - 2 * border);
  for (int y = 0; y < plane.height; ++y) {
    const auto* rgb = reinterpret_cast<const std::uint8_t*>(
        image.data + static_cast<std::size_t>(y + border) * image.row_bytes + 3 * border);
    for (int x = 0; x < plane.width; ++x) {
      plane.row(y)[x] =
          16 + (65.481 * rgb[3 * x] + 128.553 * rgb[3 * x + 1] + 24.966 * rgb[3 * x + 2]) / 255;
    }
  }
  return plane;
}

std::array<double, kWindow> gaussian() {
  constexpr double kSigma = 1.5;
  constexpr int kCentre = kWindow / 2;
  std::array<double, kWindow> taps{};
  double sum = 0;
  for (int i = 0; i < kWindow; ++i) {
    const double d = i - kCentre;
    taps[i] = std::exp(-d * d / (2 * kSigma * kSigma));
    sum += taps[i];
  }
  for (double& tap : taps) tap /= sum;
  return taps;
}

// Gaussian mean of a(x) * b(x) over every window that lies inside.
Plane blurred_product(const Plane& a, const Plane& b) {
  static const std::array<double, kWindow> kTaps = gaussian();
  Plane across(a.width - kWindow + 1, a.height);
  for (int y = 0; y < across.height; ++y) {
    for (int x = 0; x < across.width; ++x) {
      double sum = 0;
      for (int i = 0; i < kWindow; ++i) sum += kTaps[i] * a.row(y)[x + i] * b.row(y)[x + i];
      across.row(y)[x] = sum;
    }
  }
  Plane out(across.width, across.height - kWindow + 1);
  for (int y = 0; y < out.height; ++y) {
    for (int i = 0; i < kWindow; ++i) {
      for (int x = 0; x < out.width; ++x) out.row(y)[x] += kTaps[i] * across.row(y + i)[x];
    }
  }
  return out;
}

double psnr(const Plane& a, const Plane& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    const double d = a.values[i] - b.values[i];
    sum += d * d;
  }
  if (sum == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(255.0 * 255.0 * static_cast<double>(a.values.size()) / sum);
}

double ssim(const Plane& a, const Plane& b) {
  constexpr double kC1 = (0.01 * 255) * (0.01 * 255);
  constexpr double kC2 = (0.03 * 255) * (0.03 * 255);
  Plane one(a.width, a.height);
  one.values.assign(one.values.size(), 1.0);
  const Plane mean_a = blurred_product(a, one), mean_b = blurred_product(b, one);
  const Plane square_a = blurred_product(a, a), square_b = blurred_product(b, b);
  const Plane product = blurred_product(a, b);
  double sum = 0;
  for (std::size_t i = 0; i < mean_a.values.size(); ++i) {
    const double ma = mean_a.values[i], mb = mean_b.values[i];
    const double variance = square_a.values[i] - ma * ma + square_b.values[i] - mb * mb;
    const double covariance = product.values[i] - ma * mb;
    sum += (2 * ma * mb + kC1) * (2 * covariance + kC2) /
           ((ma * ma + mb * mb + kC1) * (variance + kC2));
  }
  return sum / static_cast<double>(mean_a.values.size());
}

}  // namespace

Quality compare_luma(const ConstImageView& a, const ConstImageView& b, int border) {
  const auto describe = [](const ConstImageView& v) {
    return std::to_string(v.width) + "x" + std::to_string(v.height);
  };
  if (a.width != b.width || a.height != b.height || a.type != SampleType::u8 ||
      b.type != SampleType::u8) {
    throw Error(ErrorKind::input, "comparison: expected two 8-bit pictures of one size, found " +
                                      describe(a) + " and " + describe(b));
  }
  const int smallest = kWindow + 2 * border;
  if (a.width < smallest || a.height < smallest) {
    throw Error(ErrorKind::input, "comparison: expected at least " + std::to_string(smallest) +
                                      " pixels a side, found " + describe(a));
  }
  const Plane ya = luma(a, border), yb = luma(b, border);
  return {psnr(ya, yb), ssim(ya, yb)};
}

}  // namespace elan
