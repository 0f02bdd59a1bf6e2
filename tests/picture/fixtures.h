// Pictures made on the spot, a stand-in for the network, and a folder that goes away.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>
#include <vips/vips8>

#include "elan/error.h"
#include "picture/picture.h"

namespace elan::picture {

using vips::VImage;
namespace fs = std::filesystem;

// Every case gets an empty folder, removed afterwards.
class PictureTest : public testing::Test {
 protected:
  PictureTest();
  ~PictureTest() override;
  [[nodiscard]] fs::path file(const std::string& name) const { return folder_ / name; }
  [[nodiscard]] const fs::path& folder() const { return folder_; }
  // Names in the folder, hidden ones too, sorted.
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  fs::path folder_;
};

// A smooth picture in which every channel and direction differs: R rises with x, G with y, B falls
// with x + y. `bands` 1 to 4; the last of 2 and 4 is an alpha of 64..255.
VImage gradient(int width, int height, int bands, bool deep = false);

// A copy of densely packed samples.
VImage image_of_samples(const void* data, std::size_t size, int width, int height, int bands,
                        VipsBandFormat format);

// Samples of one pixel.
std::vector<double> pixel(const VImage& image, int x, int y);

// Largest absolute difference of two images of one size and number of bands.
double difference(const VImage& a, const VImage& b);

// Reads a file with libvips alone; every format.
VImage reopen(const fs::path& path);
void write_file(const fs::path& path, const std::string& bytes);
std::string read_file(const fs::path& path);

// The rows of `in` with every pixel repeated scale x scale times.
RowReader nearest(const ConstImageView& in, int scale);

// load(), enlarge by repetition, save(). Returns all warnings.
std::vector<std::string> enlarge(const fs::path& in, const fs::path& out, int scale = 2,
                                 SaveOptions options = {});

// The message of the Error that `call` throws, after checking its kind and that it is one line.
template <typename Call>
std::string error_of(ErrorKind kind, Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    const std::string text = error.what();
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    EXPECT_FALSE(text.empty());
    return text;
  }
  ADD_FAILURE() << "no error was thrown";
  return {};
}

// "a | b": what GoogleTest prints of warnings.
std::string joined(const std::vector<std::string>& lines);

}  // namespace elan::picture
