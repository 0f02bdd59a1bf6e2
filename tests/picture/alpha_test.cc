#include "picture/alpha.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

#include "picture/fixtures.h"

namespace elan::picture {
namespace {

using Alpha = PictureTest;

constexpr int kSide = 64;
constexpr int kScale = 4;

// Coverage of a disc of diameter 3/4 of a side, each pixel sampled 16x16 times.
double coverage(int x, int y, int side) {
  const double centre = side / 2.0, radius = side * 0.375;
  int inside = 0;
  for (int v = 0; v < 16; ++v)
    for (int u = 0; u < 16; ++u)
      inside += std::hypot(x + (u + 0.5) / 16 - centre, y + (v + 0.5) / 16 - centre) < radius;
  return inside / 256.0;
}

// A red disc on nothing, with `under` as the colour where nothing is visible.
VImage disc(int side, std::array<std::uint8_t, 3> under) {
  std::vector<std::uint8_t> rgba;
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x) {
      const auto a = static_cast<std::uint8_t>(std::lround(255 * coverage(x, y, side)));
      const auto colour = a > 0 ? std::array<std::uint8_t, 3>{255, 0, 0} : under;
      rgba.insert(rgba.end(), {colour[0], colour[1], colour[2], a});
    }
  return image_of_samples(rgba.data(), rgba.size(), side, side, 4, VIPS_FORMAT_UCHAR)
      .copy(VImage::option()->set("interpretation", VIPS_INTERPRETATION_sRGB));
}

VImage over(const VImage& rgba, double background) {
  const VImage a = rgba.extract_band(3) / 255.0;
  return rgba.extract_band(0, VImage::option()->set("n", 3)) * a + (a * -1 + 1) * background;
}

// An upscaler that rings, as networks do: Lanczos.
RowReader lanczos(const ConstImageView& in) {
  const VImage big = image_of_samples(in.data, static_cast<std::size_t>(in.width) * in.height * 3,
                                      in.width, in.height, 3, VIPS_FORMAT_UCHAR)
                         .resize(kScale, VImage::option()->set("kernel", VIPS_KERNEL_LANCZOS3))
                         .copy_memory();
  return [big](int y, const ImageView& out) {
    const auto* data = static_cast<const std::byte*>(big.data());
    for (int row = 0; row < out.height; ++row)
      std::copy_n(data + static_cast<std::size_t>(y + row) * big.width() * 3, out.width * 3,
                  out.data + static_cast<std::size_t>(row) * out.row_bytes);
  };
}

VImage enlarged(const fs::path& in, const fs::path& out) {
  const Picture picture = load({in}, {});
  save(picture, lanczos(picture.rgb()), lanczos(picture.alpha().value()), kScale * picture.width(),
       kScale * picture.height(), {out}, {});
  return reopen(out);
}

// The mean difference along the edge between what we wrote, put on a background, and the same
// upscaler's enlargement of the picture that was put on that background first.
double edge_error(const VImage& source, const VImage& result, double background) {
  const VImage flat = over(source, background).rint().cast(VIPS_FORMAT_UCHAR);
  const VImage expected =
      flat.resize(kScale, VImage::option()->set("kernel", VIPS_KERNEL_LANCZOS3));
  const VImage coverage_of_edge = disc(kSide * kScale, {0, 0, 0}).extract_band(3);
  // A little wider than the edge itself: the neighbours are where halos show.
  const VImage edge = ((coverage_of_edge > 0) & (coverage_of_edge < 255))
                          .dilate(VImage::new_matrixv(3, 3, 255.0, 255.0, 255.0, 255.0, 255.0,
                                                      255.0, 255.0, 255.0, 255.0));
  const VImage error = (over(result, background) - expected).abs().bandmean();
  return edge.ifthenelse(error, 0).avg() / edge.ifthenelse(1, 0).avg();
}

TEST_F(Alpha, EdgeOfDiscIsRightOverBlackAndWhite) {
  for (const std::uint8_t under : {std::uint8_t{0}, std::uint8_t{255}}) {
    const VImage source = disc(kSide, {under, under, under});
    source.write_to_file(file("disc.png").c_str());
    const VImage result = enlarged(file("disc.png"), file("big.png"));
    for (const double background : {0.0, 255.0}) {
      const double error = edge_error(source, result, background);
      EXPECT_LE(error, 1) << "under " << +under << " over " << background;
      RecordProperty("edge_error", std::to_string(error));
    }
  }
}

// Fills by trying every visible pixel.
void fill_slowly(std::vector<std::uint8_t>& rgb, const std::vector<std::uint8_t>& alpha, int w,
                 int h, std::vector<long>& distance) {
  const auto source = rgb;
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      long best = std::numeric_limits<long>::max();
      for (int v = 0; v < h; ++v)
        for (int u = 0; u < w; ++u) {
          const long d = long{u - x} * (u - x) + long{v - y} * (v - y);
          if (alpha[static_cast<std::size_t>(3 * (v * w + u))] != 0) best = std::min(best, d);
        }
      distance.push_back(best);
    }
}

TEST(AlphaFill, EveryHiddenPixelGetsANearestVisibleColour) {
  std::mt19937 random(7);
  for (const auto& [w, h] : {std::pair{1, 1}, {17, 1}, {1, 13}, {23, 19}, {40, 31}}) {
    for (const unsigned rarity : {2U, 9U, 60U}) {
      std::vector<std::uint8_t> rgb(static_cast<std::size_t>(3 * w * h)), alpha(rgb.size(), 0);
      for (int i = 0; i < w * h; ++i) {
        const auto at = static_cast<std::size_t>(3 * i);
        // The colour tells the place, so that the place can be told from the colour.
        rgb[at] = static_cast<std::uint8_t>(i % w);
        rgb[at + 1] = static_cast<std::uint8_t>(i / w);
        rgb[at + 2] = 200;
        if (random() % rarity == 0) alpha[at] = alpha[at + 1] = alpha[at + 2] = 1;
      }
      const auto before = rgb;
      std::vector<long> distance;
      fill_slowly(rgb, alpha, w, h, distance);
      fill_transparent(view_of(rgb.data(), w, h), view_of(std::as_const(alpha).data(), w, h));
      const bool none = std::count(alpha.begin(), alpha.end(), 1) == 0;
      if (none) {
        EXPECT_EQ(rgb, before);
      }
      for (int i = 0; i < w * h && !none; ++i) {
        const auto at = static_cast<std::size_t>(3 * i);
        const long dx = rgb[at] - i % w, dy = rgb[at + 1] - i / w;
        ASSERT_EQ(dx * dx + dy * dy, distance[static_cast<std::size_t>(i)])
            << w << "x" << h << " pixel " << i % w << "," << i / w;
        ASSERT_EQ(rgb[at + 2], 200);
      }
    }
  }
}

TEST_F(Alpha, EmptyAndSolidAreasStayPureThoughTheUpscalerRings) {
  disc(kSide, {0, 0, 0}).write_to_file(file("disc.png").c_str());
  const VImage alpha = enlarged(file("disc.png"), file("big.png")).extract_band(3);
  EXPECT_EQ(alpha.extract_area(0, 0, kSide, 8).max(), 0);
  const int third = kSide * kScale / 3;
  EXPECT_EQ(alpha.extract_area(third, third, third, third).min(), 255);
}

TEST(AlphaLimits, KeepsWithinTheNeighbourhoodOfTheSource) {
  const std::vector<std::uint16_t> alpha = {0, 0, 0, 0, 0, 0, 9, 9, 9, 900, 900, 900};  // 4x1
  AlphaLimits limits(view_of(alpha.data(), 4, 1), 8, 2);
  std::vector<std::uint16_t> low(8, 0), high(8, 65535);
  limits.apply(0, low.data());
  limits.apply(1, high.data());
  EXPECT_EQ(low, (std::vector<std::uint16_t>{0, 0, 0, 0, 0, 0, 9, 9}));
  EXPECT_EQ(high, (std::vector<std::uint16_t>{0, 0, 9, 9, 900, 900, 900, 900}));
}

TEST_F(Alpha, OpaqueAlphaGivesTheSamePixelsAndKeepsItsBand) {
  const VImage rgb = gradient(20, 16, 3);
  rgb.write_to_file(file("rgb.png").c_str());
  rgb.bandjoin_const(std::vector<double>{255}).write_to_file(file("rgba.png").c_str());
  const Picture with = load({file("rgba.png")}, {});
  EXPECT_FALSE(with.alpha().has_value());
  EXPECT_TRUE(with.warnings().empty());
  enlarge(file("rgb.png"), file("a.png"));
  enlarge(file("rgba.png"), file("b.png"));
  const VImage a = reopen(file("a.png")), b = reopen(file("b.png"));
  ASSERT_EQ(b.bands(), 4);
  EXPECT_EQ(difference(a, b.extract_band(0, VImage::option()->set("n", 3))), 0);
  EXPECT_EQ(b.extract_band(3).min(), 255);
  // and no word about transparency where there is none to lose
  EXPECT_EQ(joined(enlarge(file("rgba.png"), file("b.jpg"))), "");
}

TEST_F(Alpha, WhollyTransparentPictureStaysSo) {
  (gradient(9, 7, 3).bandjoin_const(std::vector<double>{0})).write_to_file(file("in.png").c_str());
  enlarge(file("in.png"), file("out.png"));
  EXPECT_EQ(reopen(file("out.png")).extract_band(3).max(), 0);
}

TEST_F(Alpha, FlattenedOnWhiteWithAWarningWhereTheFormatHasNone) {
  for (const bool deep : {false, true}) {
    const VImage rgb = gradient(16, 16, 3, deep);
    const double full = deep ? 65535 : 255;
    const VImage half = ((rgb.extract_band(0) >= full / 2) * (full / 255)).cast(rgb.format());
    rgb.bandjoin(half).write_to_file(file("in.png").c_str());
    for (const char* out : {"out.jpg", "out.ppm"}) {
      const std::string warnings = joined(enlarge(file("in.png"), file(out)));
      EXPECT_NE(warnings.find("flattened on white"), std::string::npos) << warnings;
      const VImage image = reopen(file(out));
      ASSERT_EQ(image.bands(), 3);
      const double white = image.format() == VIPS_FORMAT_USHORT ? 65535 : 255;
      EXPECT_EQ(pixel(image, 1, 1), std::vector<double>(3, white)) << out;
      EXPECT_NEAR(pixel(image, 31, 31)[0], white, white / 50) << out;
      EXPECT_LT(pixel(image, 31, 31)[2], white / 20) << out;
    }
  }
}

TEST_F(Alpha, GreyWithAlphaAndDeepAlphaKeepTheirShape) {
  for (const int bands : {2, 4})
    for (const bool deep : {false, true}) {
      const VImage source = gradient(24, 20, bands, deep);
      for (const char* extension : {"png", "tif", "jxl"}) {
        source.write_to_file(file("in.png").c_str());
        const Picture picture = load({file("in.png")}, {});
        EXPECT_EQ(picture.gray(), bands == 2);
        EXPECT_EQ(picture.type(), deep ? SampleType::u16 : SampleType::u8);
        ASSERT_TRUE(picture.alpha().has_value());
        const fs::path out = file(std::string("out.") + extension);
        enlarge(file("in.png"), out, 1, {.lossless = std::string(extension) == "jxl"});
        const VImage back = reopen(out);
        ASSERT_EQ(back.bands(), bands) << extension;
        EXPECT_EQ(back.format(), source.format()) << extension;
        EXPECT_EQ(difference(back, source), 0) << extension << " " << bands << " " << deep;
      }
    }
}

}  // namespace
}  // namespace elan::picture
