#include "test_pictures.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <numbers>
#include <random>
#include <system_error>

#include "elan/error.h"
#include "picture/picture.h"
#include "terminal.h"

namespace elan::cli {
namespace {

namespace fs = std::filesystem;

// Those called NAME_LR.* alone, where there are some.
std::vector<fs::path> small_pictures_in(const fs::path& folder) {
  std::vector<fs::path> all = pictures_in(folder), small;
  std::copy_if(all.begin(), all.end(), std::back_inserter(small),
               [](const fs::path& path) { return path.stem().native().ends_with("_LR"); });
  return small.empty() ? all : small;
}

}  // namespace

std::vector<fs::path> pictures_in(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const fs::path& path = it->path();
    const bool hidden = path.filename().native().starts_with('.');
    if (!hidden && picture::format_of_extension(path.extension().string()) &&
        it->is_regular_file()) {
      paths.push_back(path);
    }
  }
  if (error) {
    throw Error(ErrorKind::input,
                printable(folder.native(), false) +
                    ": expected a readable folder of pictures, found: " + error.message());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::vector<fs::path> find_test_pictures(const std::vector<std::string>& names, int scale) {
  std::vector<fs::path> paths;
  for (const std::string& name : names) {
    if (!fs::is_directory(name)) {
      paths.emplace_back(name);
      continue;
    }
    std::vector<fs::path> found = small_pictures_in(name);
    const fs::path sub = fs::path(name) / ("x" + std::to_string(scale));
    if (found.empty() && fs::is_directory(sub)) found = small_pictures_in(sub);
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
  const ConstImageView view = crop > 0 ? middle_of(picture.rgb(), crop) : picture.rgb();
  TestPicture result{valid_utf8(path.stem().native()), path, view.width, view.height, {}};
  const std::size_t row = static_cast<std::size_t>(view.width) * 3;
  result.rgb.resize(row * static_cast<std::size_t>(view.height));
  for (int y = 0; y < view.height; ++y) {
    const auto at = static_cast<std::size_t>(y);
    read_samples(view.data + at * view.row_bytes, view.type, row, result.rgb.data() + at * row);
  }
  return result;
}

int spread_place(int whole, int side, unsigned number) {
  if (whole <= side) return 0;
  const unsigned spread = number * 2654435761U >> 8;  // Knuth's multiplicative hash
  return static_cast<int>(spread % static_cast<unsigned>(whole - side + 1));
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

ConstImageView middle_of(const ConstImageView& picture, int side) {
  const int width = std::min(side, picture.width), height = std::min(side, picture.height);
  return picture.crop((picture.width - width) / 2, (picture.height - height) / 2, width, height);
}

void read_samples(const std::byte* from, SampleType type, std::size_t count, float* to) {
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

std::vector<float> enlarge(Engine& engine, const ConstImageView& picture) {
  const int scale = engine.model().scale(), width = picture.width * scale,
            height = picture.height * scale;
  std::vector<float> out(static_cast<std::size_t>(width) * height * 3);
  engine.upscale(picture, view_of(out.data(), width, height));
  return out;
}

}  // namespace elan::cli
