// A folder that lives as long as a test, and tiny pictures to put into it.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <utility>

namespace elan::test {

namespace fs = std::filesystem;

// A PPM picture of flowing colours.
inline std::string ppm(int width = 8, int height = 8) {
  std::string text = "P6\n" + std::to_string(width) + " " + std::to_string(height) + "\n255\n";
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      text +=
          {static_cast<char>(x * 20), static_cast<char>(y * 20), static_cast<char>(x * 5 + y * 9)};
    }
  }
  return text;
}

// The samples of a PPM without its header, which may hold a comment (the time of writing).
inline std::string ppm_samples(const std::string& text) {
  std::istringstream in(text);
  std::string line;
  for (int lines = 0; lines < 3 && std::getline(in, line);) {
    if (!line.starts_with('#')) ++lines;
  }
  return {std::istreambuf_iterator<char>(in), {}};
}

// Width and height of a PPM; {0, 0} when it is none or holds other than that many pixels.
inline std::pair<int, int> ppm_size(const std::string& text) {
  std::istringstream in(text);
  std::string line;
  while (std::getline(in, line) && (line == "P6" || line.starts_with('#'))) {
  }
  int width = 0, height = 0;
  if (!text.starts_with("P6\n") || std::sscanf(line.c_str(), "%d %d", &width, &height) != 2) {
    return {};
  }
  const auto pixels = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  return ppm_samples(text).size() == 3 * pixels ? std::pair{width, height} : std::pair{0, 0};
}

// A PNG of this size that ends after its header.
inline std::string png_header(std::uint32_t width, std::uint32_t height) {
  std::string chunk = "IHDR";
  for (const std::uint32_t side : {width, height}) {
    for (int shift = 24; shift >= 0; shift -= 8) chunk += static_cast<char>(side >> shift);
  }
  chunk += std::string("\x08\x02\x00\x00\x00", 5);  // 8 bits, RGB
  std::uint32_t crc = ~0U;
  for (const char c : chunk) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320U : 0U);
  }
  crc = ~crc;
  std::string text = std::string("\x89PNG\r\n\x1a\n") + std::string("\0\0\0\x0d", 4) + chunk;
  for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(crc >> shift);
  return text;
}

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "elan-cli-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
    fs::permissions(path_, fs::perms(0755));
  }
  ~Folder() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  [[nodiscard]] std::string operator/(const std::string& name) const {
    return (path_ / name).string();
  }
  [[nodiscard]] std::string str() const { return path_.string(); }

  std::string write(const std::string& name, const std::string& content) const {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << content;
    return *this / name;
  }
  [[nodiscard]] std::string read(const std::string& name) const {
    std::ifstream in(path_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  // Files below, relative, temporary and hidden ones too.
  [[nodiscard]] std::set<std::string> files() const {
    std::set<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(path_)) {
      if (!entry.is_directory()) names.insert(fs::relative(entry.path(), path_).string());
    }
    return names;
  }

 private:
  fs::path path_;
};

}  // namespace elan::test
