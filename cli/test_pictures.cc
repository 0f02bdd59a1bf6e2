#include "test_pictures.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <random>

#include "elan/error.h"
#include "picture/picture.h"
#include "terminal.h"

namespace elan::cli {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> pictures_in(const fs::path& folder) {
  std::vector<fs::path> all, low;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const fs::path& path = entry.path();
    if (!entry.is_regular_file() || !picture::format_of_extension(path.extension().string())) {
      continue;
    }
    all.push_back(path);
    if (path.stem().native().ends_with("_LR")) low.push_back(path);
  }
  std::vector<fs::path>& chosen = low.empty() ? all : low;
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

// The samples of a row as floats, 0..255.
void read_row(const std::byte* from, SampleType type, std::size_t count, float* to) {
  for (std::size_t i = 0; i < count; ++i) {
    if (type == SampleType::u8) {
      to[i] = static_cast<float>(std::to_integer<int>(from[i]));
    } else {
      std::uint16_t value = 0;
      std::memcpy(&value, from + i * sizeof value, sizeof value);
      to[i] = static_cast<float>(value) / 257.0F;
    }
  }
}

}  // namespace

std::vector<fs::path> find_test_pictures(const std::vector<std::string>& names, int scale) {
  std::vector<fs::path> paths;
  for (const std::string& name : names) {
    if (!fs::is_directory(name)) {
      paths.emplace_back(name);
      continue;
    }
    std::vector<fs::path> found = pictures_in(name);
    const fs::path sub = fs::path(name) / ("x" + std::to_string(scale));
    if (found.empty() && fs::is_directory(sub)) found = pictures_in(sub);
    if (found.empty()) {
      throw Error(ErrorKind::input,
                  printable(name, false) + ": expected pictures in the folder, found none");
    }
    paths.insert(paths.end(), found.begin(), found.end());
  }
  return paths;
}

TestPicture load_test_picture(const fs::path& path, int crop) {
  const picture::Picture picture = picture::load({path}, {});
  ConstImageView view = picture.rgb();
  if (crop > 0) {
    const int width = std::min(crop, view.width), height = std::min(crop, view.height);
    view = view.crop((view.width - width) / 2, (view.height - height) / 2, width, height);
  }
  TestPicture result{valid_utf8(path.stem().native()), path, view.width, view.height, {}};
  const std::size_t row = static_cast<std::size_t>(view.width) * 3;
  result.rgb.resize(row * static_cast<std::size_t>(view.height));
  for (int y = 0; y < view.height; ++y) {
    const auto at = static_cast<std::size_t>(y);
    read_row(view.data + at * view.row_bytes, view.type, row, result.rgb.data() + at * row);
  }
  return result;
}

TestPicture normal_picture(int width, int height, std::uint32_t seed) {
  TestPicture result{"normal-" + std::to_string(seed), {}, width, height, {}};
  result.rgb.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 3);
  std::mt19937 random(seed);
  // In (0, 1): std::normal_distribution may differ from one library to the next.
  const auto uniform = [&] { return (static_cast<double>(random()) + 0.5) / 4294967296.0; };
  for (std::size_t i = 0; i < result.rgb.size(); i += 2) {
    const double radius = std::sqrt(-2 * std::log(uniform()));
    const double angle = 2 * std::numbers::pi * uniform();
    result.rgb[i] = static_cast<float>(radius * std::cos(angle));
    if (i + 1 < result.rgb.size()) {
      result.rgb[i + 1] = static_cast<float>(radius * std::sin(angle));
    }
  }
  return result;
}

std::vector<float> enlarge(Engine& engine, const TestPicture& picture) {
  const int scale = engine.model().scale();
  std::vector<float> out(picture.rgb.size() * static_cast<std::size_t>(scale * scale));
  engine.upscale(picture.view(),
                 view_of(out.data(), picture.width * scale, picture.height * scale));
  return out;
}

}  // namespace elan::cli
