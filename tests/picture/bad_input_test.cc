// Inputs that are refused: one line that names the file, what was expected and what was found.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <random>

#include "picture/fixtures.h"

namespace elan::picture {
namespace {

class BadInput : public PictureTest {
 protected:
  std::string refused(const std::string& name, const LoadOptions& options = {}) {
    const std::string text = error_of(ErrorKind::input, [&] { (void)load({file(name)}, options); });
    EXPECT_NE(text.find(name), std::string::npos) << text;
    RecordProperty("message", text);
    return text;
  }
  std::string refused_bytes(const std::string& name, const std::string& bytes) {
    write_file(file(name), bytes);
    return refused(name);
  }
};

void put_big_endian(std::string& bytes, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 255);
}

// A PNG of a header and nothing else that counts.
std::string png_claiming(std::uint32_t width, std::uint32_t height) {
  std::string chunk = "IHDR";
  put_big_endian(chunk, width);
  put_big_endian(chunk, height);
  chunk += std::string("\x08\x02\0\0\0", 5);
  std::uint32_t crc = 0xffffffff;
  for (const char c : chunk) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320U : 0U);
  }
  std::string bytes("\x89PNG\r\n\x1a\n\0\0\0\x0d", 12);
  bytes += chunk;
  put_big_endian(bytes, ~crc);
  return bytes + std::string("\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82", 24);
}

TEST_F(BadInput, WhatIsNoFile) {
  EXPECT_NE(refused("missing.png").find("No such file"), std::string::npos);
  fs::create_directory(file("folder.png"));
  EXPECT_NE(refused("folder.png").find("found a folder"), std::string::npos);
  write_file(file("secret.png"), "x");
  fs::permissions(file("secret.png"), fs::perms::none);
  fs::permissions(folder(), fs::perms::all);
  const bool root = ::geteuid() == 0;
  if (root) {
    ASSERT_EQ(::seteuid(65534), 0);
  }
  EXPECT_NE(refused("secret.png").find("Permission denied"), std::string::npos);
  if (root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
}

TEST_F(BadInput, WhatIsNoPicture) {
  EXPECT_NE(refused_bytes("empty.png", "").find("found an empty file"), std::string::npos);
  EXPECT_NE(refused_bytes("text.png", "This is no picture.\n").find("expected a picture in one of"),
            std::string::npos);
  std::mt19937 random(3);
  for (int round = 0; round < 20; ++round) {
    std::string bytes;
    for (int i = 0; i < 5000; ++i) bytes += static_cast<char>(random());
    refused_bytes("random" + std::to_string(round), bytes);
  }
}

// libvips could read all of these.
TEST_F(BadInput, WhatIsNotOnTheList) {
  const std::string expected = "expected a picture in one of the formats PNG, JPEG, WebP, TIFF";
  EXPECT_NE(refused_bytes("a.svg", "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>")
                .find(expected),
            std::string::npos);
  EXPECT_NE(refused_bytes("a.png", "%PDF-1.4\n1 0 obj\n").find(expected), std::string::npos);
  EXPECT_NE(refused_bytes("a.exr", std::string("\x76\x2f\x31\x01\x02\0\0\0", 8)).find(expected),
            std::string::npos);
  EXPECT_NE(refused_bytes("a.csv", "1,2\n3,4\n").find(expected), std::string::npos);
  EXPECT_NE(refused_bytes("a.mat", "2 2\n1 2\n3 4\n").find(expected), std::string::npos);
  EXPECT_NE(refused_bytes("a.hdr", "#?RADIANCE\n\n-Y 1 +X 1\n").find(expected), std::string::npos);
  gradient(8, 8, 3).write_to_file(file("a.v").c_str());
  EXPECT_NE(refused("a.v").find(expected), std::string::npos);
  gradient(8, 8, 3).write_to_file(file("a.jp2").c_str());
  EXPECT_NE(refused("a.jp2").find(expected), std::string::npos);
}

TEST_F(BadInput, LoadersOutsideTheListAreBlocked) {
  EXPECT_THROW(VImage::svgload_buffer(nullptr), vips::VError);
  vips_error_clear();
  write_file(file("a.svg"), "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>");
  VipsImage* out = nullptr;
  EXPECT_NE(vips_svgload(file("a.svg").c_str(), &out, nullptr), 0);
  vips_error_clear();
}

TEST_F(BadInput, TruncatedAnywhere) {
  const VImage noise =
      VImage::gaussnoise(120, 90, VImage::option()->set("mean", 128)->set("sigma", 60))
          .bandjoin(gradient(120, 90, 1))
          .bandjoin(gradient(120, 90, 1))
          .cast(VIPS_FORMAT_UCHAR)
          .copy(VImage::option()->set("interpretation", VIPS_INTERPRETATION_sRGB));
  for (const char* name :
       {"a.png", "a.jpg", "a.webp", "a.tif", "a.gif", "a.avif", "a.heic", "a.jxl", "a.ppm"}) {
    noise.write_to_file(file(name).c_str());
    const std::string bytes = read_file(file(name));
    const auto at = [&](double share) {
      return static_cast<std::size_t>(share * double(bytes.size()));
    };
    for (const std::size_t size : {std::size_t{1}, std::size_t{7}, std::size_t{20}, std::size_t{60},
                                   at(0.1), at(0.5), at(0.6), at(0.9), bytes.size() - 200})
      refused_bytes(std::string("cut-") + std::to_string(size) + name, bytes.substr(0, size));
  }
}

// Whatever happens to the bytes, it is a picture or one line.
TEST_F(BadInput, DamagedAnywhere) {
  std::mt19937 random(5);
  const VImage source = gradient(60, 50, 3);
  for (const char* name :
       {"a.png", "a.jpg", "a.webp", "a.tif", "a.gif", "a.avif", "a.jxl", "a.ppm"}) {
    source.write_to_file(file(name).c_str());
    const std::string bytes = read_file(file(name));
    for (int round = 0; round < 40; ++round) {
      std::string damaged = bytes;
      for (int i = 0; i < 3; ++i)
        damaged[random() % (round < 20 ? std::min<std::size_t>(200, bytes.size()) : bytes.size())] =
            static_cast<char>(random());
      write_file(file("damaged"), damaged);
      try {
        EXPECT_GT(load({file("damaged")}, {.max_memory = 64 << 20}).width(), 0);
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::input) << error.what();
        EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
      }
    }
  }
}

TEST_F(BadInput, HugeClaimsAreRefusedFromTheHeader) {
  write_file(file("huge.png"), png_claiming(100000, 100000));
  EXPECT_EQ(refused("huge.png", {.max_memory = std::size_t{1} << 30}),
            "'" + file("huge.png").native() +
                "': a picture of 100000x100000 pixels needs 27.9 GiB to decode, more than the 1.0 "
                "GiB allowed");
  write_file(file("huge.ppm"), "P6 200000 200000 255\n");
  EXPECT_NE(refused("huge.ppm", {.max_memory = 1000}).find("more than the 1000 bytes"),
            std::string::npos);
  gradient(100, 100, 3).write_to_file(file("fits.png").c_str());
  EXPECT_NO_THROW((void)load({file("fits.png")}, {.max_memory = 30000}));
  EXPECT_NE(refused("fits.png", {.max_memory = 29999}).find("29.3 KiB"), std::string::npos);
}

TEST_F(BadInput, ZeroSized) {
  refused_bytes("a.png", png_claiming(0, 5));
  refused_bytes("b.png", png_claiming(5, 0));
  refused_bytes("a.ppm", "P6 0 0 255\n");
  refused_bytes("a.gif", std::string("GIF89a\0\0\0\0\x80\0\0", 13));
}

TEST_F(BadInput, SamplesTheNetworkCannotTake) {
  const VImage source = gradient(10, 8, 3);
  const std::pair<VipsBandFormat, const char*> formats[] = {
      {VIPS_FORMAT_FLOAT, "floating-point"}, {VIPS_FORMAT_DOUBLE, "one that is"},
      {VIPS_FORMAT_INT, "32-bit signed"},    {VIPS_FORMAT_UINT, "32-bit"},
      {VIPS_FORMAT_SHORT, "16-bit signed"},  {VIPS_FORMAT_CHAR, "8-bit signed"},
      {VIPS_FORMAT_COMPLEX, "one that is"}};
  for (const auto& [format, found] : formats) {
    source.cast(format).write_to_file(file("a.tif").c_str());
    const std::string text = refused("a.tif");
    EXPECT_NE(text.find(std::string("found ") + found), std::string::npos) << text;
  }
  source.cast(VIPS_FORMAT_FLOAT).write_to_file(file("a.pfm").c_str());
  EXPECT_NE(refused("a.pfm").find("floating-point"), std::string::npos);
  source.bandjoin(source).write_to_file(file("a.tif").c_str());
  EXPECT_NE(refused("a.tif").find("found 6 bands"), std::string::npos);
}

}  // namespace
}  // namespace elan::picture
