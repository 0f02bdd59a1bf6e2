// Pictures that a command measures something on, as floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "elan/engine.h"
#include "elan/image.h"

namespace elan::cli {

inline constexpr int kLongestSide = 65536;  // of a picture that is made up

struct TestPicture {
  std::string name;
  std::filesystem::path path;  // empty: made up
  int width = 0, height = 0;
  std::vector<float> rgb;  // [height][width][3], 0..255

  [[nodiscard]] ConstImageView view() const { return view_of(rgb.data(), width, height); }
};

// The pictures in a folder, by their extensions, sorted, without hidden ones. Throws Error (input)
// for a folder that cannot be read.
std::vector<std::filesystem::path> pictures_in(const std::filesystem::path& folder);

// Files as named, and the pictures in folders, sorted by name: those called NAME_LR.* alone where
// there are some, and of a folder without pictures those in its subfolder xSCALE. Throws Error
// (input) for names that are neither, and for folders without pictures.
std::vector<std::filesystem::path> find_test_pictures(const std::vector<std::string>& names,
                                                      int scale);

// `crop`: at most that many pixels a side, from the middle; 0: all. Throws Error (input).
TestPicture load_test_picture(const std::filesystem::path& path, int crop = 0);

// Independent samples of the standard normal distribution; equal on all machines for one seed.
TestPicture normal_picture(int width, int height, std::uint32_t seed);

// At most `side` pixels each way, from the middle.
ConstImageView middle_of(const ConstImageView& picture, int side);

// Where a crop of `side` lies within `whole`: spread evenly, the same for the same number; 0 where
// there is no room.
int spread_place(int whole, int side, unsigned number);

// `count` samples as floats, 0..255.
void read_samples(const std::byte* from, SampleType type, std::size_t count, float* to);

// The engine's result, not rounded: [height][width][3].
std::vector<float> enlarge(Engine& engine, const ConstImageView& picture);

}  // namespace elan::cli
