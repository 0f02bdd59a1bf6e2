// What is written: rows in order, settings of encoders, limits, sizes.
#include <cstdint>
#include <numeric>

#include "picture/fixtures.h"

namespace elan::picture {
namespace {

using Save = PictureTest;

constexpr Format kAll[] = {Format::png,  Format::jpeg, Format::webp, Format::tiff, Format::avif,
                           Format::heic, Format::gif,  Format::pnm,  Format::jxl};

Picture picture_of(const VImage& image, const fs::path& path) {
  image.write_to_file(path.c_str());
  return load({path}, {});
}

// Passes rows on and notes whether each was asked for once, in order.
struct Watcher {
  int next = 0;
  bool in_order = true;
  int calls = 0;
  RowReader watch(RowReader reader) {
    return [this, reader](int y, const ImageView& out) {
      in_order = in_order && y == next && out.height > 0;
      next = y + out.height;
      ++calls;
      reader(y, out);
    };
  }
};

TEST_F(Save, RowsAreAskedForOnceInOrderInEveryFormat) {
  const Picture picture = picture_of(gradient(600, 500, 4), file("in.png"));
  for (const Format format : kAll)
    for (const bool smaller : {false, true}) {
      const bool big = streams(format);  // several bands
      const int scale = big ? 6 : 1;
      Watcher rgb, alpha;
      SaveOptions options{.format = format};
      if (smaller) options.width = 500;
      const fs::path out = file("out." + std::string(extension_of(format)));
      save(picture, rgb.watch(nearest(picture.rgb(), scale)),
           alpha.watch(nearest(*picture.alpha(), scale)), 600 * scale, 500 * scale, {out}, options);
      EXPECT_TRUE(rgb.in_order && alpha.in_order) << to_string(format) << smaller;
      EXPECT_EQ(rgb.next, 500 * scale) << to_string(format) << smaller;
      EXPECT_EQ(alpha.next, 500 * scale) << to_string(format) << smaller;
      if (big) {
        EXPECT_GT(rgb.calls, 1) << to_string(format) << smaller;
      }
      const VImage back = reopen(out);
      EXPECT_EQ(back.width(), smaller ? 500 : 600 * scale);
      EXPECT_EQ(back.height(), smaller ? 417 : 500 * scale);
    }
}

TEST_F(Save, StreamedPixelsAreExact) {
  for (const int bands : {1, 3}) {
    const VImage source = gradient(700, 900, bands);
    const Picture picture = picture_of(source, file("in.png"));
    const VImage expected = source.zoom(5, 5);
    for (const char* name : {"out.png", "out.tif", "out.ppm"}) {
      enlarge(file("in.png"), file(name), 5);
      EXPECT_EQ(difference(reopen(file(name)), expected), 0) << name;
    }
  }
}

TEST_F(Save, LosslessIsLossless) {
  const VImage source = gradient(60, 40, 3);
  source.write_to_file(file("in.png").c_str());
  for (const char* name : {"out.png", "out.webp", "out.tif", "out.ppm", "out.jxl"}) {
    enlarge(file("in.png"), file(name), 2, {.lossless = true});
    EXPECT_EQ(difference(reopen(file(name)), source.zoom(2, 2)), 0) << name;
  }
}

TEST_F(Save, QualityChangesTheSizeAndDefaultsAreHigh) {
  VImage::gaussnoise(96, 96, VImage::option()->set("mean", 128)->set("sigma", 40))
      .bandjoin(gradient(96, 96, 1))
      .bandjoin(gradient(96, 96, 1))
      .cast(VIPS_FORMAT_UCHAR)
      .copy(VImage::option()->set("interpretation", VIPS_INTERPRETATION_sRGB))
      .write_to_file(file("in.png").c_str());
  for (const char* name : {"out.jpg", "out.webp", "out.avif", "out.heic", "out.jxl"}) {
    const auto size = [&](std::optional<int> quality) {
      EXPECT_EQ(joined(enlarge(file("in.png"), file(name), 1, {.quality = quality})), "");
      return fs::file_size(file(name));
    };
    EXPECT_LT(size(20), size(60)) << name;
    EXPECT_LT(size(60), size({})) << name;
  }
  enlarge(file("in.png"), file("out.jpg"));
  EXPECT_STREQ(reopen(file("out.jpg")).get_string("jpeg-chroma-subsample"), "4:4:4");
}

TEST_F(Save, OptionsThatDoNotFitAreUsageErrors) {
  const Picture picture = picture_of(gradient(10, 10, 3), file("in.png"));
  const auto refused = [&](SaveOptions options) {
    return error_of(ErrorKind::usage, [&] { check_output(picture, 40, 40, options); });
  };
  EXPECT_EQ(refused({.format = Format::jpeg, .lossless = true}),
            "JPEG cannot be written without loss");
  for (const Format format : {Format::avif, Format::heic, Format::gif})
    EXPECT_NE(refused({.format = format, .lossless = true}).find("without loss"),
              std::string::npos);
  refused({.format = Format::webp, .quality = 80, .lossless = true});
  EXPECT_NE(refused({.format = Format::jpeg, .quality = 0}).find("found 0"), std::string::npos);
  refused({.format = Format::jpeg, .quality = 101});
  EXPECT_NE(refused({.width = 41, .height = 40}).find("found 41x40"), std::string::npos);
  refused({.width = -1});
  EXPECT_NO_THROW(check_output(picture, 40, 40, {.quality = 80}));
  EXPECT_EQ(joined(enlarge(file("in.png"), file("out.png"), 1, {.quality = 80})),
            "the quality has no effect: PNG is lossless");
}

TEST_F(Save, LimitsOfFormatsAreKnownBeforeComputing) {
  const Picture picture = picture_of(gradient(10, 10, 3), file("in.png"));
  const std::pair<Format, int> limits[] = {{Format::webp, 16383}, {Format::jpeg, 65500},
                                           {Format::gif, 65535},  {Format::avif, 16384},
                                           {Format::heic, 16384}, {Format::png, 1000000}};
  for (const auto& [format, limit] : limits) {
    EXPECT_NO_THROW(check_output(picture, limit, 10, {.format = format}));
    const std::string text = error_of(
        ErrorKind::input, [&] { check_output(picture, 10, limit + 1, {.format = format}); });
    EXPECT_NE(text.find("at most " + std::to_string(limit)), std::string::npos) << text;
    EXPECT_NE(text.find("found 10x" + std::to_string(limit + 1)), std::string::npos) << text;
    // what counts is the size that is written
    EXPECT_NO_THROW(
        check_output(picture, 10, limit + 1, {.format = format, .width = 5, .height = 5}));
  }
}

// The encoders agree with our numbers: a strip of the largest side is written and read.
TEST_F(Save, LimitsAreReached) {
  const Picture picture = picture_of(gradient(4, 1, 3), file("in.png"));
  const RowReader black = [](int, const ImageView& out) {
    for (int y = 0; y < out.height; ++y)
      std::fill_n(out.data + static_cast<std::size_t>(y) * out.row_bytes, out.width * 3,
                  std::byte{});
  };
  const std::pair<Format, int> limits[] = {{Format::webp, 16383}, {Format::jpeg, 65500},
                                           {Format::gif, 65535},  {Format::avif, 16384},
                                           {Format::heic, 16384}, {Format::png, 1000000}};
  for (const auto& [format, limit] : limits) {
    const fs::path out = file("out." + std::string(extension_of(format)));
    const int rows = format == Format::heic ? 64 : 4;  // x265 refuses flatter ones
    save(picture, black, {}, limit, rows, {out}, {.format = format});
    EXPECT_EQ(load({out}, {}).width(), limit) << to_string(format);
  }
}

// libheif writes an empty file and libvips calls it a success when x265 refuses a picture.
TEST_F(Save, AnEncoderThatRefusesIsNoticed) {
  const Picture picture = picture_of(gradient(512, 1, 3), file("in.png"));
  const std::string text = error_of(ErrorKind::input, [&] {
    save(picture, nearest(picture.rgb(), 16), {}, 8192, 16, {file("out.heic")},
         {.format = Format::heic});
  });
  EXPECT_NE(text.find("the encoder refuses"), std::string::npos) << text;
  EXPECT_EQ(names(), std::vector<std::string>{"in.png"});
}

TEST_F(Save, DeepSamplesAreRoundedWhereTheFormatHasNone) {
  const VImage source = gradient(40, 30, 3, true);
  source.write_to_file(file("in.png").c_str());
  for (const char* name : {"out.jpg", "out.webp", "out.gif"}) {
    const std::string warnings = joined(enlarge(file("in.png"), file(name), 1, {.quality = {}}));
    EXPECT_NE(warnings.find("16-bit samples reduced to 8"), std::string::npos) << warnings;
  }
  enlarge(file("in.png"), file("out.webp"), 1, {.lossless = true});
  EXPECT_EQ(difference(reopen(file("out.webp")), (source / 257.0).rint()), 0);
  for (const char* name : {"out.png", "out.tif", "out.ppm", "out.jxl"}) {
    enlarge(file("in.png"), file(name), 1, {.lossless = true});
    EXPECT_EQ(difference(reopen(file(name)), source), 0) << name;
  }
}

TEST_F(Save, GreyIsTheRoundedMeanOfTheThree) {
  const Picture picture = picture_of(gradient(6, 4, 1), file("in.png"));
  const RowReader uneven = [](int, const ImageView& out) {
    for (int y = 0; y < out.height; ++y)
      for (int x = 0; x < out.width; ++x) {
        auto* rgb = out.data + static_cast<std::size_t>(y) * out.row_bytes + 3 * x;
        rgb[0] = std::byte{10};
        rgb[1] = std::byte{11};
        rgb[2] = std::byte{11};
      }
  };
  for (const Format format : {Format::png, Format::tiff, Format::pnm, Format::jxl}) {
    const fs::path out = file("out." + std::string(extension_of(format)));
    save(picture, uneven, {}, 12, 8, {out}, {.format = format, .lossless = true});
    const VImage back = reopen(out);
    EXPECT_EQ(back.bands(), 1) << to_string(format);
    EXPECT_EQ(back.min(), 11) << to_string(format);  // 32 / 3 is nearer to 11
    EXPECT_EQ(back.max(), 11) << to_string(format);
  }
}

TEST_F(Save, SmallerSizesKeepProportionsAndValues) {
  const VImage source = gradient(100, 60, 3);
  source.write_to_file(file("in.png").c_str());
  enlarge(file("in.png"), file("out.png"), 4, {.width = 150});
  VImage back = reopen(file("out.png"));
  EXPECT_EQ(back.width(), 150);
  EXPECT_EQ(back.height(), 90);
  EXPECT_LT(
      (back - source.resize(1.5, VImage::option()->set("kernel", VIPS_KERNEL_LINEAR))).abs().avg(),
      2);
  enlarge(file("in.png"), file("out.png"), 4, {.width = 333, .height = 222});
  back = reopen(file("out.png"));
  EXPECT_EQ(back.width(), 333);
  EXPECT_EQ(back.height(), 222);
  enlarge(file("in.png"), file("out.png"), 4, {.height = 30});
  EXPECT_EQ(reopen(file("out.png")).width(), 50);
}

// Green under nothing must not reach the red edge when it is made smaller.
TEST_F(Save, SmallerSizesWeighColoursByAlpha) {
  const Picture picture =
      picture_of(gradient(32, 32, 3)
                     .linear(std::vector<double>{0, 0, 0}, std::vector<double>{255, 0, 0})
                     .bandjoin((gradient(32, 32, 1) > 127))
                     .cast(VIPS_FORMAT_UCHAR)
                     .copy(VImage::option()->set("interpretation", VIPS_INTERPRETATION_sRGB)),
                 file("in.png"));
  const RowReader red_then_green = [&](int y, const ImageView& out) {
    nearest(picture.rgb(), 4)(y, out);
    for (int row = 0; row < out.height; ++row)
      for (int x = 0; x < out.width; ++x)
        if (x < 64) {
          auto* rgb = out.data + static_cast<std::size_t>(row) * out.row_bytes + 3 * x;
          rgb[0] = std::byte{0};
          rgb[1] = std::byte{255};
        }
  };
  save(picture, red_then_green, nearest(*picture.alpha(), 4), 128, 128, {file("out.png")},
       {.width = 50});
  const VImage back = reopen(file("out.png"));
  const VImage visible = back.extract_band(3) > 8;
  EXPECT_LT(visible.ifthenelse(back.extract_band(1), 0).max(), 8);
}

TEST_F(Save, WhatAReaderThrowsComesOutAndNothingStays) {
  const Picture picture = picture_of(gradient(64, 64, 3), file("in.png"));
  for (const Format format : kAll) {
    const RowReader fails = [](int, const ImageView&) {
      throw Error(ErrorKind::device, "no memory left");
    };
    const fs::path out = file("out." + std::string(extension_of(format)));
    EXPECT_EQ(error_of(ErrorKind::device,
                       [&] { save(picture, fails, {}, 256, 256, {out}, {.format = format}); }),
              "no memory left");
  }
  EXPECT_EQ(names(), std::vector<std::string>{"in.png"});
}

// At the first, a middle and the last rows, where encoders may have stopped listening to errors.
TEST_F(Save, WhatAReaderThrowsAtAnyRowComesOut) {
  const Picture picture = picture_of(gradient(64, 64, 4), file("in.png"));
  for (const Format format : kAll)
    for (const int bad_row : {0, 1, 64, 200, 254, 255})
      for (const bool in_alpha : {false, true}) {
        const auto failing = [&](const ConstImageView& plane, bool fails) {
          return [&, fails, inner = nearest(plane, 4)](int y, const ImageView& out) {
            inner(y, out);
            if (fails && y <= bad_row && bad_row < y + out.height)
              throw Error(ErrorKind::device, "no memory left");
          };
        };
        const fs::path out = file("out." + std::string(extension_of(format)));
        EXPECT_EQ(error_of(ErrorKind::device,
                           [&] {
                             save(picture, failing(picture.rgb(), !in_alpha),
                                  failing(*picture.alpha(), in_alpha), 256, 256, {out},
                                  {.format = format});
                           }),
                  "no memory left")
            << to_string(format) << bad_row << in_alpha;
        EXPECT_EQ(names(), std::vector<std::string>{"in.png"});
      }
}

TEST_F(Save, StopsWhenAskedAndNothingStays) {
  const Picture picture = picture_of(gradient(500, 500, 3), file("in.png"));
  for (const Format format : {Format::png, Format::jpeg, Format::webp, Format::tiff}) {
    std::stop_source stop;
    const RowReader inner = nearest(picture.rgb(), 8);
    const RowReader stops = [&](int y, const ImageView& out) {
      inner(y, out);
      stop.request_stop();
    };
    const fs::path out = file("out." + std::string(extension_of(format)));
    error_of(ErrorKind::cancelled, [&] {
      save(picture, stops, {}, 4000, 4000, {out}, {.format = format}, stop.get_token());
    });
  }
  EXPECT_EQ(names(), std::vector<std::string>{"in.png"});
}

// At least what was measured for 2048x2048 pixels of noise (docs/formats.md).
TEST_F(Save, MemoryCoversWhatEncodersWereSeenToTake) {
  const Picture plain = picture_of(gradient(64, 64, 3), file("plain.png"));
  const Picture rich = picture_of(gradient(64, 64, 4, true), file("rich.png"));
  const struct {
    SaveOptions save;
    double plain, rich;  // bytes a pixel
  } seen[] = {{{.format = Format::webp}, 21.4, 57.8},
              {{.format = Format::webp, .lossless = true}, 37.8, 51.3},
              {{.format = Format::gif}, 34.4, 41.4},
              {{.format = Format::jxl}, 54.5, 94.5},
              {{.format = Format::jxl, .lossless = true}, 99.8, 142.7},
              {{.format = Format::avif}, 40.0, 79.5},
              {{.format = Format::heic}, 35.4, 72.9}};
  for (const auto& s : seen) {
    const auto each = [&](const Picture& picture) {
      return double(save_memory(picture, 2048, 2048, s.save)) / (2048.0 * 2048.0);
    };
    EXPECT_GE(each(plain), s.plain) << to_string(s.save.format) << s.save.lossless;
    EXPECT_GE(each(rich), s.rich) << to_string(s.save.format) << s.save.lossless;
  }
}

TEST_F(Save, MemoryIsSmallForStreamsAndGrowsWithTheRest) {
  const Picture picture = picture_of(gradient(64, 64, 3), file("in.png"));
  for (const Format format : kAll) {
    const std::size_t small = save_memory(picture, 4096, 4096, {.format = format});
    const std::size_t large = save_memory(picture, 4096, 4 * 4096, {.format = format});
    if (streams(format)) {
      EXPECT_EQ(small, large) << to_string(format);
      EXPECT_LT(large, std::size_t{256} << 20);
    } else {
      EXPECT_GE(large - small, std::size_t{3} * 4096 * 4096 * 3) << to_string(format);
    }
  }
}

}  // namespace
}  // namespace elan::picture
