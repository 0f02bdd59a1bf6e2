// Reference values for tests, read from tests/data (made by tools/make_golden.py in float64).
//
//   for (const char* name : kGoldenModels) {
//     const Golden golden = load_golden(name);           // "elan_light_x4"
//     for (const GoldenCase& c : golden.cases) { ... run c.input, compare with c.output ... }
//   }
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend.h"
#include "elan/image.h"
#include "elan/model.h"
#include "model/safetensors.h"

namespace elan::test {

inline constexpr std::array<const char*, 4> kGoldenModels{"elan_light_x2", "elan_light_x3",
                                                          "elan_light_x4", "elan_x4"};

struct GoldenCase {
  std::string size;  // "17x30": height x width of the input
  int height = 0, width = 0;
  std::vector<std::uint8_t> input;  // [height][width][3]
  std::vector<float> output;        // [scale * height][scale * width][3], not rounded
};

struct Golden {
  std::vector<GoldenCase> cases;
  std::string staged_size;                           // the case the stages belong to
  std::map<std::string, std::vector<float>> stages;  // canonical name -> planar values, padded

  [[nodiscard]] const GoldenCase& at(std::string_view size) const {
    return *std::find_if(cases.begin(), cases.end(),
                         [&](const GoldenCase& c) { return c.size == size; });
  }
};

inline std::string model_path(std::string_view name) {
  return std::string(ELANSR_MODELS) + "/" + std::string(name) + ".safetensors";
}

inline Golden load_golden_file(const std::string& path) {
  const auto file = Safetensors::read(path);
  Golden golden;
  if (file.metadata().contains("stages")) golden.staged_size = file.metadata().at("stages");
  for (const auto& [key, tensor] : file.entries()) {
    if (key.starts_with("stage.")) golden.stages[key.substr(6)] = file.floats(key);
    if (!key.starts_with("input.")) continue;
    GoldenCase c;
    c.size = key.substr(6);
    c.height = static_cast<int>(tensor.shape[0]);
    c.width = static_cast<int>(tensor.shape[1]);
    for (const std::byte b : file.bytes(key)) c.input.push_back(std::to_integer<std::uint8_t>(b));
    c.output = file.floats("output." + c.size);
    golden.cases.push_back(std::move(c));
  }
  return golden;
}

inline Golden load_golden(std::string_view name) {
  return load_golden_file(std::string(ELANSR_TEST_DATA) + "/" + std::string(name) + ".safetensors");
}

// One picture through a backend, float output [height][width][3], not rounded.
inline std::vector<float> run_golden(Backend& backend, const GoldenCase& c, int scale,
                                     const RunContext& context = {}) {
  std::vector<float> output(c.output.size());
  const ConstImageView in = view_of(c.input.data(), c.width, c.height);
  const ImageView out = view_of(output.data(), c.width * scale, c.height * scale);
  backend.run({&in, 1}, {&out, 1}, context);
  return output;
}

// Infinity if the sizes differ or a value is no number.
inline double max_abs_difference(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(double(a[i]) - double(b[i]));
    if (!(difference <= largest)) largest = std::isnan(difference) ? INFINITY : difference;
  }
  return largest;
}

}  // namespace elan::test
