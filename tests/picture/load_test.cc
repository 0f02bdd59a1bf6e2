// What comes out of files: samples, orientation, pages, sources.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <thread>

#include "picture/fixtures.h"

namespace elan::picture {
namespace {

using Load = PictureTest;

template <typename T>
std::vector<double> sample(const ConstImageView& view, int x, int y) {
  const auto* row =
      reinterpret_cast<const T*>(view.data + static_cast<std::size_t>(y) * view.row_bytes);
  return {double(row[3 * x]), double(row[3 * x + 1]), double(row[3 * x + 2])};
}

VImage image_of(const Picture& picture) {
  const auto view = picture.rgb();
  return image_of_samples(view.data, view.row_bytes * static_cast<std::size_t>(view.height),
                          view.width, view.height, 3,
                          view.type == SampleType::u8 ? VIPS_FORMAT_UCHAR : VIPS_FORMAT_USHORT);
}

VImage grey_as_rgb(const VImage& grey) {
  return VImage::bandjoin({grey, grey, grey});
}

TEST_F(Load, LosslessFormatsGiveTheirSamplesExactly) {
  for (const int bands : {1, 3})
    for (const bool deep : {false, true}) {
      const VImage source = gradient(33, 21, bands, deep);
      for (const char* extension : {"png", "tif", "jxl", bands == 1 ? "pgm" : "ppm"}) {
        const fs::path path = file(std::string("in.") + extension);
        source.write_to_file(path.c_str(), std::string(extension) == "jxl"
                                               ? VImage::option()->set("lossless", true)
                                               : nullptr);
        const Picture picture = load({path}, {});
        EXPECT_EQ(picture.width(), 33);
        EXPECT_EQ(picture.height(), 21);
        EXPECT_EQ(picture.gray(), bands == 1) << extension;
        EXPECT_EQ(picture.type(), deep ? SampleType::u16 : SampleType::u8) << extension;
        EXPECT_EQ(picture.format(), format_of_extension(extension));
        EXPECT_FALSE(picture.alpha().has_value());
        EXPECT_TRUE(picture.warnings().empty()) << joined(picture.warnings());
        EXPECT_EQ(picture.memory(), 33U * 21 * 3 * (deep ? 2 : 1));
        const VImage expected = bands == 1 ? grey_as_rgb(source) : source;
        EXPECT_EQ(difference(image_of(picture), expected), 0) << extension << " " << bands << deep;
      }
    }
}

TEST_F(Load, LossyFormatsComeClose) {
  const VImage source = gradient(64, 48, 3);
  for (const char* extension : {"jpg", "webp", "avif", "heic"}) {
    if (!can_write(*format_of_extension(extension))) continue;
    const fs::path path = file(std::string("in.") + extension);
    source.write_to_file(path.c_str(), VImage::option()->set("Q", 100));
    const Picture picture = load({path}, {});
    EXPECT_EQ(picture.format(), format_of_extension(extension));
    EXPECT_EQ(picture.type(), SampleType::u8);
    EXPECT_LT(difference(image_of(picture), source), 12) << extension;
  }
}

TEST_F(Load, EveryFormatOfTheListIsReadAndWrittenHere) {
  for (const Format format : {Format::png, Format::jpeg, Format::webp, Format::tiff, Format::avif,
                              Format::heic, Format::gif, Format::pnm, Format::jxl}) {
    EXPECT_TRUE(can_read(format)) << to_string(format);
    EXPECT_TRUE(can_write(format)) << to_string(format);
    EXPECT_EQ(format_of_extension(extension_of(format)), format);
  }
  EXPECT_EQ(format_of_extension(".JPG"), Format::jpeg);
  EXPECT_EQ(format_of_extension("svg"), std::nullopt);
  EXPECT_EQ(format_of_extension(""), std::nullopt);
}

TEST_F(Load, OneBitPicturesAreBlackAndWhite) {
  const VImage bits = (gradient(40, 10, 1) > 127).copy();
  bits.write_to_file(file("in.png").c_str(), VImage::option()->set("bitdepth", 1));
  bits.write_to_file(file("in.tif").c_str(), VImage::option()->set("bitdepth", 1));
  bits.write_to_file(file("white.tif").c_str(),
                     VImage::option()->set("bitdepth", 1)->set("miniswhite", true));
  bits.write_to_file(file("in.pbm").c_str());
  for (const char* name : {"in.png", "in.tif", "white.tif", "in.pbm"}) {
    const Picture picture = load({file(name)}, {});
    EXPECT_TRUE(picture.gray()) << name;
    EXPECT_EQ(picture.type(), SampleType::u8) << name;
    EXPECT_EQ(difference(image_of(picture), grey_as_rgb(bits)), 0) << name;
  }
}

TEST_F(Load, PnmOfAnyLargestValueFillsTheRange) {
  write_file(file("a.pgm"), std::string("P5\n4 1\n100\n\x00\x32\x64\x19", 15));
  write_file(file("b.pgm"), "P2\n3 1\n1000\n0 500 1000\n");
  write_file(file("c.ppm"), "P3\n1 1\n15\n0 5 15\n");
  const Picture a = load({file("a.pgm")}, {});
  EXPECT_EQ(sample<std::uint8_t>(a.rgb(), 1, 0), std::vector<double>(3, 128));
  EXPECT_EQ(sample<std::uint8_t>(a.rgb(), 2, 0), std::vector<double>(3, 255));
  EXPECT_EQ(sample<std::uint8_t>(a.rgb(), 3, 0), std::vector<double>(3, 64));
  const Picture b = load({file("b.pgm")}, {});
  ASSERT_EQ(b.type(), SampleType::u16);
  EXPECT_EQ(sample<std::uint16_t>(b.rgb(), 1, 0), std::vector<double>(3, 32768));
  EXPECT_EQ(sample<std::uint16_t>(b.rgb(), 2, 0), std::vector<double>(3, 65535));
  const Picture c = load({file("c.ppm")}, {});
  EXPECT_EQ(sample<std::uint8_t>(c.rgb(), 0, 0), (std::vector<double>{0, 85, 255}));
}

TEST_F(Load, TenAndTwelveBitsFillTheRangeOfSixteen) {
  const VImage white =
      VImage::black(32, 32)
          .bandjoin_const(std::vector<double>{0, 0})
          .linear(0, 65535)
          .cast(VIPS_FORMAT_USHORT)
          .copy(VImage::option()->set("interpretation", VIPS_INTERPRETATION_RGB16));
  for (const auto& [name, bits] : {std::pair{"in.avif", 12}, {"in.heic", 10}, {"in.heic", 12}}) {
    white.write_to_file(file(name).c_str(), VImage::option()->set("bitdepth", bits)->set("Q", 100));
    const Picture picture = load({file(name)}, {});
    ASSERT_EQ(picture.type(), SampleType::u16);
    EXPECT_EQ(image_of(picture).min(), 65535) << name << " " << bits;
    for (const char* out : {"out.avif", "out.heic"}) {  // deep samples stay deep
      enlarge(file(name), file(out));
      EXPECT_EQ(reopen(file(out)).get_int("heif-bitdepth"), out[4] == 'a' ? 12 : bits) << name;
    }
  }
}

// A GIF of four pixels: red, transparent, blue, red. By hand, so that the palette is ours.
std::string gif_with_transparency() {
  const unsigned char bytes[] = {'G', 'I', 'F', '8', '9', 'a', 4, 0, 1, 0, 0x91, 0, 0, 255, 0, 0, 0,
                                 255, 0, 0, 0, 255, 0, 0, 0,    // palette
                                 0x21, 0xf9, 4, 1, 0, 0, 1, 0,  // index 1 is clear
                                 // codes of 3 bits: clear 0 1 2, then of 4: 0 end
                                 0x2c, 0, 0, 0, 0, 4, 0, 1, 0, 0, 2, 3, 0x44, 0x04, 0x05, 0, 0x3b};
  return {reinterpret_cast<const char*>(bytes), sizeof bytes};
}

TEST_F(Load, PalettesAndTheirTransparency) {
  const VImage four =
      image_of_samples("\xff\0\0\0\xff\0\0\0\xff\xff\0\0", 12, 4, 1, 3, VIPS_FORMAT_UCHAR)
          .copy(VImage::option()->set("interpretation", VIPS_INTERPRETATION_sRGB));
  const VImage clear = image_of_samples("\xff\0\xff\xff", 4, 4, 1, 1, VIPS_FORMAT_UCHAR);
  four.bandjoin(clear).write_to_file(file("in.png").c_str(),
                                     VImage::option()->set("palette", true));
  write_file(file("in.gif"), gif_with_transparency());
  ASSERT_EQ(read_file(file("in.png"))[25], 3) << "this libvips writes no palettes";
  for (const char* name : {"in.png", "in.gif"}) {
    const Picture picture = load({file(name)}, {});
    EXPECT_FALSE(picture.gray()) << name;
    ASSERT_TRUE(picture.alpha().has_value()) << name;
    EXPECT_EQ(sample<std::uint8_t>(*picture.alpha(), 0, 0), std::vector<double>(3, 255)) << name;
    EXPECT_EQ(sample<std::uint8_t>(*picture.alpha(), 1, 0), std::vector<double>(3, 0)) << name;
    EXPECT_EQ(sample<std::uint8_t>(picture.rgb(), 0, 0), (std::vector<double>{255, 0, 0})) << name;
    // a neighbour's colour in place of what the palette has there
    EXPECT_NE(sample<std::uint8_t>(picture.rgb(), 1, 0), (std::vector<double>{0, 255, 0})) << name;
    EXPECT_EQ(sample<std::uint8_t>(picture.rgb(), 2, 0), (std::vector<double>{0, 0, 255})) << name;
  }
}

TEST_F(Load, FirstPageWithAWarning) {
  const VImage first = gradient(12, 8, 3), second = first.invert();
  const VImage both = VImage::arrayjoin({first, second}, VImage::option()->set("across", 1)).copy();
  vips_image_set_int(both.get_image(), "page-height", 8);
  both.write_to_file(file("in.tif").c_str());
  both.write_to_file(file("in.webp").c_str(), VImage::option()->set("lossless", true));
  both.write_to_file(file("in.gif").c_str());
  for (const char* name : {"in.tif", "in.webp", "in.gif"}) {
    const Picture picture = load({file(name)}, {});
    EXPECT_EQ(picture.height(), 8) << name;
    EXPECT_EQ(joined(picture.warnings()), "only the first of its 2 pages is used") << name;
    EXPECT_LT(difference(image_of(picture), first), 40) << name;
  }
}

TEST_F(Load, PixelsAreUprightForEveryOrientation) {
  const VImage upright = gradient(24, 16, 3);
  for (int orientation = 1; orientation <= 8; ++orientation) {
    // stored = the inverse of what a viewer does with this orientation
    VImage stored = upright;
    switch (orientation) {
      case 2:
        stored = upright.fliphor();
        break;
      case 3:
        stored = upright.rot180();
        break;
      case 4:
        stored = upright.flipver();
        break;
      case 5:
        stored = upright.rot90().fliphor();
        break;
      case 6:
        stored = upright.rot270();
        break;
      case 7:
        stored = upright.rot270().fliphor();
        break;
      case 8:
        stored = upright.rot90();
        break;
      default:
        break;
    }
    stored = stored.copy_memory();
    vips_image_set_int(stored.get_image(), "orientation", orientation);
    for (const char* name : {"in.jpg", "in.tif", "in.png", "in.webp"}) {
      // PNG and WebP have it in EXIF only, which libvips makes when it writes a JPEG
      const bool borrowed = name[3] == 'p' || name[3] == 'w';
      (borrowed ? VImage::new_from_file(file("in.jpg").c_str()) : stored)
          .write_to_file(file(name).c_str());
      const Picture picture = load({file(name)}, {});
      ASSERT_EQ(picture.width(), 24) << name << orientation;
      ASSERT_EQ(picture.height(), 16) << name << orientation;
      EXPECT_LT((image_of(picture) - upright).abs().avg(), 5) << name << " " << orientation;
    }
  }
}

TEST_F(Load, InterlacedPicturesToo) {
  const VImage source = gradient(70, 50, 3);
  source.write_to_file(file("in.png").c_str(), VImage::option()->set("interlace", true));
  source.write_to_file(file("in.jpg").c_str(), VImage::option()->set("interlace", true));
  EXPECT_EQ(difference(image_of(load({file("in.png")}, {})), source), 0);
  EXPECT_LT(difference(image_of(load({file("in.jpg")}, {})), source), 30);
}

TEST_F(Load, ReadsDescriptorsAndPipes) {
  const VImage source = gradient(50, 40, 3);
  for (const char* name :
       {"in.png", "in.jpg", "in.tif", "in.webp", "in.avif", "in.gif", "in.jxl", "in.ppm"}) {
    source.write_to_file(file(name).c_str());
    const VImage expected = image_of(load({file(name)}, {}));
    const int descriptor = ::open(file(name).c_str(), O_RDONLY);
    EXPECT_EQ(difference(image_of(load({"standard input", descriptor}, {})), expected), 0) << name;
    EXPECT_EQ(::close(descriptor), 0) << "the caller's descriptor was closed";
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    std::jthread writer([&, bytes = read_file(file(name))] {
      for (std::size_t done = 0; done < bytes.size();) {
        const ssize_t n = ::write(ends[1], bytes.data() + done, bytes.size() - done);
        if (n <= 0) break;
        done += static_cast<std::size_t>(n);
      }
      ::close(ends[1]);
    });
    EXPECT_EQ(difference(image_of(load({"standard input", ends[0]}, {})), expected), 0) << name;
    ::close(ends[0]);
  }
}

TEST_F(Load, NamesAreTakenAsTheyAre) {
  const VImage source = gradient(8, 6, 3);
  source.write_to_file(file("in.png").c_str());
  const std::string bytes = read_file(file("in.png"));
  for (const std::string name : {"a b.png", "a[page=2].png", "-rf.png", "a,b.png", "100%.png",
                                 "%s%n.png", "a\nb.png", "\xff\xfe.png", "a.png[access=random]",
                                 "~", "$HOME", "'\"`;", "\xe5\x9b\xbe.png", "noextension"}) {
    write_file(file(name), bytes);
    EXPECT_EQ(difference(image_of(load({file(name)}, {})), source), 0) << name;
    const fs::path out = file("out-" + name);
    const Picture picture = load({file(name)}, {});
    save(picture, nearest(picture.rgb(), 2), {}, 16, 12, {out}, {});
    EXPECT_TRUE(fs::exists(out)) << name;
    EXPECT_EQ(read_file(out).substr(1, 3), "PNG") << name;
  }
  EXPECT_EQ(names().size(), 1U + 2 * 14);
}

TEST_F(Load, SixteenThreadsAtOnce) {
  const VImage source = gradient(64, 64, 4);
  source.write_to_file(file("in.png").c_str());
  write_file(file("bad.png"), read_file(file("in.png")).substr(0, 300));
  std::vector<std::jthread> threads;
  for (int t = 0; t < 16; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 4; ++i) {
        if (t % 4 == 0) {
          const std::string text =
              error_of(ErrorKind::input, [&] { (void)load({file("bad.png")}, {}); });
          EXPECT_NE(text.find("bad.png"), std::string::npos) << text;
        } else {
          enlarge(file("in.png"), file("out" + std::to_string(t) + ".png"));
        }
      }
    });
  threads.clear();
  for (int t = 1; t < 16; ++t) {
    if (t % 4 != 0) {
      EXPECT_EQ(read_file(file("out" + std::to_string(t) + ".png")), read_file(file("out1.png")));
    }
  }
}

}  // namespace
}  // namespace elan::picture
