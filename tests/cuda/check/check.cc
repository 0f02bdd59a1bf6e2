#include "cuda/check/check.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <random>

namespace elan::check {

Difference compare(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return {INFINITY, INFINITY};
  Difference e;
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(double(a[i]) - double(b[i]));
    if (!(d <= e.largest)) e.largest = std::isnan(d) ? INFINITY : d;
    sum += d;
  }
  e.mean = std::isfinite(e.largest) ? sum / static_cast<double>(std::max<std::size_t>(a.size(), 1))
                                    : INFINITY;
  return e;
}

Picture noise(int width, int height, std::uint32_t seed) {
  Picture p{width, height, std::vector<std::uint8_t>(static_cast<std::size_t>(width) * height * 3)};
  std::mt19937 random(seed);
  for (auto& v : p.rgb) v = static_cast<std::uint8_t>(random());
  return p;
}

Picture drawn(int width, int height, std::uint32_t seed) {
  Picture p{width, height, {}};
  std::mt19937 random(seed);
  const auto number = [&](double least, double most) {
    return least + (most - least) * static_cast<double>(random()) / 4294967295.0;
  };
  double wave[3][4];
  for (auto& w : wave) {
    w[0] = number(0.02, 0.5);
    w[1] = number(0.02, 0.5);
    w[2] = number(0, 6);
    w[3] = number(40, 70);
  }
  const double left = number(0, width), top = number(0, height);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const bool inside = x > left && y > top;
      for (const auto& w : wave) {
        double v = 128 + w[3] * std::sin(w[0] * x + w[1] * y + w[2]);
        if (inside) v = 255 - v;
        v += static_cast<double>(random() % 21) - 10;
        p.rgb.push_back(static_cast<std::uint8_t>(std::clamp(v, 0.0, 255.0)));
      }
    }
  }
  return p;
}

std::vector<float> run(Backend& backend, const ConstImageView& in, int scale,
                       const RunContext& context) {
  std::vector<float> out(static_cast<std::size_t>(in.width) * in.height * 3 * scale * scale, NAN);
  const ImageView view = view_of(out.data(), in.width * scale, in.height * scale);
  backend.run({&in, 1}, {&view, 1}, context);
  return out;
}

void Results::note(const std::string& model, Precision precision, const std::string& what,
                   const Difference& difference, bool ok) {
  ++checks_;
  failed_ += ok ? 0 : 1;
  const std::string kind(to_string(precision));
  std::printf("%-14s %-5s %-34s %10.3g %10.3g  %s\n", model.c_str(), kind.c_str(), what.c_str(),
              difference.largest, difference.mean, ok ? "" : "FAILED");
  std::fflush(stdout);
  char line[320];
  std::snprintf(
      line, sizeof line,
      R"({"model": "%s", "precision": "%s", "case": "%s", "max": %.6g, "mean": %.4g, "ok": %s})",
      model.c_str(), kind.c_str(), what.c_str(), std::min(difference.largest, 1e30),
      std::min(difference.mean, 1e30), ok ? "true" : "false");
  json_ += (json_.empty() ? "" : ",\n") + std::string(line);
}

void Results::note(const std::string& what, bool ok, const std::string& detail) {
  ++checks_;
  failed_ += ok ? 0 : 1;
  std::printf("%-20s %-34s  %s%s\n", "", what.c_str(), ok ? "" : "FAILED ", detail.c_str());
  std::fflush(stdout);
  json_ += (json_.empty() ? "" : ",\n") + (R"({"case": ")" + what + R"(", "ok": )") +
           (ok ? "true}" : "false}");
}

void Results::write(const std::string& path) const {
  std::ofstream file(path);
  file << "{\"device\": \"" << cuda_status() << "\", \"checks\": " << checks_
       << ", \"failed\": " << failed_ << ", \"results\": [\n"
       << json_ << "\n]}\n";
}

}  // namespace elan::check
