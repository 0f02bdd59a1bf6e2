// Inputs that are refused: one line that names the file, what was expected and what was found.
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <random>
#include <thread>

#include "picture/fixtures.h"
#include "picture/vips_tools.h"

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

std::string samples_of(const Picture& picture) {
  const auto* data = reinterpret_cast<const char*>(picture.rgb().data);
  return {data, picture.rgb().row_bytes * static_cast<std::size_t>(picture.height())};
}

// Reads what is written into a pipe, whose length nobody knows.
Picture load_from_pipe(const std::string& bytes) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("no pipe");
  const bool fits = ::write(ends[1], bytes.data(), bytes.size()) == std::ssize(bytes);
  ::close(ends[1]);
  EXPECT_TRUE(fits);
  const struct Closer {
    int end;
    ~Closer() { ::close(end); }
  } closer{ends[0]};
  return load({"a pipe", ends[0]}, {});
}

// Cut at every length, it is refused, or what is missing carries no samples (a trailer). Several
// threads at once, so that those of libvips overtake each other.
TEST_F(BadInput, NoTruncationGoesUnnoticed) {
  const VImage noise =
      VImage::gaussnoise(23, 17, VImage::option()->set("mean", 128)->set("sigma", 60))
          .bandjoin(gradient(23, 17, 2))
          .cast(VIPS_FORMAT_UCHAR)
          .copy(VImage::option()->set("interpretation", VIPS_INTERPRETATION_sRGB));
  for (const char* name : {"a.png", "a.jpg", "a.webp", "a.tif", "a.gif", "a.jxl", "a.ppm"}) {
    noise.write_to_file(file(name).c_str());
    const std::string bytes = read_file(file(name));
    const std::string whole = samples_of(load_from_pipe(bytes));
    std::atomic<std::size_t> next = 1;
    std::atomic<int> refusals = 0;
    const auto cut = [&] {
      for (std::size_t size = next++; size < bytes.size(); size = next++) {
        try {
          const Picture picture = load_from_pipe(bytes.substr(0, size));
          EXPECT_EQ(samples_of(picture), whole) << name << " cut to " << size;
        } catch (const Error& error) {
          EXPECT_EQ(error.kind(), ErrorKind::input) << error.what();
          ++refusals;
        }
      }
    };
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < 4; ++i) threads.emplace_back(cut);
    }
    EXPECT_GT(refusals, static_cast<int>(bytes.size()) / 2) << name;
  }
}

// The last rows are missing, which libvips' thread pool may fail to report.
TEST_F(BadInput, MissingLastRowsAreNoticedEveryTime) {
  const std::string cut = "P6 8 8 255\n" + std::string(150, 'x');
  std::atomic<int> refusals = 0;
  const auto repeat = [&] {
    for (int round = 0; round < 500; ++round) {
      try {
        (void)load_from_pipe(cut);
      } catch (const Error&) {
        ++refusals;
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back(repeat);
  }
  EXPECT_EQ(refusals, 2000);
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
  write_file(file("whole.ppm"), "P6 20 20 255\n" + std::string(1200, 'x'));
  EXPECT_NE(refused("whole.ppm", {.max_memory = 1000}).find("more than the 1000 bytes"),
            std::string::npos);
  gradient(100, 100, 3).write_to_file(file("fits.png").c_str());
  EXPECT_NO_THROW((void)load({file("fits.png")}, {.max_memory = 30000}));
  EXPECT_NE(refused("fits.png", {.max_memory = 29999}).find("29.3 KiB"), std::string::npos);
}

// Sizes whose product overflows 64 bits, and sizes that the bytes of the file cannot fill.
TEST_F(BadInput, PnmThatClaimsMoreThanItHas) {
  const char* sides = "expected a picture of 1 to 10000000 pixels a side, found ";
  for (const char* size : {"2000000000 2000000000", "4294967296 4294967296", "10000001 1",
                           "1 99999999999999999999999", "0 5", "5 0", "0 0"})
    for (const char* kind : {"P1", "P2", "P3", "P4", "P5", "P6"})
      EXPECT_NE(refused_bytes("a.ppm", std::string(kind) + " " + size + " 255\nabc").find(sides),
                std::string::npos);
  EXPECT_NE(refused_bytes("a.pfm", "PF 0 0 -1.0\nabc").find(sides), std::string::npos);
  EXPECT_NE(refused_bytes("a.ppm", "P6 10000000 10000000 255\nabc")
                .find("expected a PNM picture of 300000000000025 bytes at least for "
                      "10000000x10000000 pixels, found one truncated to 28"),
            std::string::npos);
  for (const char* header : {"P6 -5 5 255\n", "P6 5 x 255\n", "P6 5 5 0\n", "P6 5 5", "P6 5 5 255",
                             "P6 # a comment without an end"})
    EXPECT_NE(refused_bytes("a.ppm", header).find("header is damaged or cut off"),
              std::string::npos)
        << header;
}

TEST_F(BadInput, PnmOfExactlyItsBytesIsRead) {
  const std::pair<const char*, std::size_t> exact[] = {{"P4 9 3\n", 6},
                                                       {"P5 9 3 255\n", 27},
                                                       {"P5 # 1 1\n9 3\n# 7\n65535\n", 54},
                                                       {"P6\n9 3\n255\n", 81},
                                                       {"P6 9 3 256\n", 162}};
  for (const auto& [header, bytes] : exact) {
    write_file(file("a.ppm"), header + std::string(bytes, 'x'));
    EXPECT_EQ(load({file("a.ppm")}, {}).width(), 9) << header;
    const std::string text = refused_bytes("b.ppm", header + std::string(bytes - 1, 'x'));
    EXPECT_NE(text.find("truncated to "), std::string::npos) << text;
  }
  write_file(file("a.ppm"), "P2 3 1 9\n1 2 3\n");
  EXPECT_EQ(load({file("a.ppm")}, {}).width(), 3);
}

TEST_F(BadInput, ZeroSized) {
  refused_bytes("a.png", png_claiming(0, 5));
  refused_bytes("b.png", png_claiming(5, 0));
  refused_bytes("a.ppm", "P6 0 0 255\n");
  refused_bytes("a.gif", std::string("GIF89a\0\0\0\0\x80\0\0", 13));
}

// Two pictures fail at once: neither gets the other's reason.
TEST_F(BadInput, MessagesBelongToTheirPicture) {
  vips_error("old", "left over");
  {
    VipsMessages alone;
    vips_error("source", "bad seek");
    vips_error("VipsForeignLoad", "in general words");
    EXPECT_EQ(alone.take(), " (source: bad seek)");
    EXPECT_EQ(alone.take(), "");
  }
  VipsMessages first;
  {
    VipsMessages second;
    vips_error("vipspng", "read error");
    EXPECT_EQ(second.take(), "");  // perhaps of the first
    EXPECT_STREQ(vips_error_buffer(), "");
  }
  vips_error("vipspng", "read error");
  EXPECT_EQ(first.take(), "");  // perhaps of the second, though that has ended
  EXPECT_STREQ(vips_error_buffer(), "");
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
