#include "test_pictures.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "folder.h"

namespace elan::cli {
namespace {

// Box and Muller's method on a Mersenne Twister, worked out in Python.
TEST(TestPictures, NormalSamplesAreTheSameOnAllMachines) {
  const TestPicture picture = normal_picture(208, 304, 1);
  ASSERT_EQ(picture.rgb.size(), 208U * 304 * 3);
  EXPECT_FLOAT_EQ(picture.rgb[0], 1.3223786781134519F);
  EXPECT_FLOAT_EQ(picture.rgb[1], -0.023393165037135243F);
  EXPECT_FLOAT_EQ(picture.rgb[2], 0.7383606671238929F);
  EXPECT_FLOAT_EQ(picture.rgb[3], -0.3330623106610025F);
  double sum = 0, squares = 0;
  for (const float value : picture.rgb) {
    sum += value;
    squares += static_cast<double>(value) * value;
  }
  const auto count = static_cast<double>(picture.rgb.size());
  EXPECT_NEAR(sum / count, 0, 0.01);
  EXPECT_NEAR(squares / count, 1, 0.02);
}

TEST(TestPictures, AnOddNumberOfSamplesIsFilledToTheLast) {
  const TestPicture picture = normal_picture(1, 1, 1);
  ASSERT_EQ(picture.rgb.size(), 3U);
  EXPECT_FLOAT_EQ(picture.rgb[2], 0.7383606671238929F);
}

// What some systems leave beside each picture ("._a.png") is none.
TEST(TestPictures, OfAFolderAreThoseInSight) {
  const test::Folder folder;
  for (const char* name : {"b.png", "a.JPG", "._a.JPG", ".c.png", "text.txt"}) {
    folder.write(name, "");
  }
  std::vector<std::string> names;
  for (const auto& path : pictures_in(folder.str())) names.push_back(path.filename().string());
  EXPECT_EQ(names, (std::vector<std::string>{"a.JPG", "b.png"}));
}

}  // namespace
}  // namespace elan::cli
