// Colour spaces and profiles. Profiles other than libvips' own are put together here.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <tuple>
#include <utility>

#include "picture/fixtures.h"

namespace elan::picture {
namespace {

using Colour = PictureTest;

void put32(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 255);
}

std::string xyz(double x, double y, double z) {
  std::string out = "XYZ ";
  put32(out, 0);
  for (const double v : {x, y, z}) put32(out, static_cast<std::uint32_t>(std::lround(v * 65536)));
  return out;
}

// A tone curve that is a power.
std::string curve(double gamma) {
  std::string out = "curv";
  put32(out, 0);
  put32(out, 1);
  const auto fixed = static_cast<std::uint32_t>(std::lround(gamma * 256));
  out += static_cast<char>(fixed >> 8);
  out += static_cast<char>(fixed & 255);
  return out + std::string(2, '\0');
}

// A display profile of the second version: header, table of tags, tags.
std::string profile(const std::string& space,
                    const std::vector<std::pair<std::string, std::string>>& tags) {
  std::string body, table;
  put32(table, static_cast<std::uint32_t>(tags.size()));
  std::size_t at = 128 + 4 + 12 * tags.size();
  for (const auto& [name, data] : tags) {
    table += name;
    put32(table, static_cast<std::uint32_t>(at + body.size()));
    put32(table, static_cast<std::uint32_t>(data.size()));
    body += data;
  }
  std::string header;
  put32(header, static_cast<std::uint32_t>(at + body.size()));
  header += std::string(4, '\0') + std::string("\x02\x10\0\0", 4) + "mntr" + space + "XYZ ";
  header += std::string(12, '\0') + "acsp";
  header += std::string(128 - header.size() - 60, '\0');
  put32(header, 0xf6d6);  // the illuminant, D50
  put32(header, 0x10000);
  put32(header, 0xd32d);
  header += std::string(128 - header.size(), '\0');
  return header + table + body;
}

std::string rgb_profile(double gamma) {
  return profile("RGB ", {{"wtpt", xyz(0.9642, 1, 0.8249)},
                          {"rXYZ", xyz(0.4361, 0.2225, 0.0139)},
                          {"gXYZ", xyz(0.3851, 0.7169, 0.0971)},
                          {"bXYZ", xyz(0.1431, 0.0606, 0.7141)},
                          {"rTRC", curve(gamma)},
                          {"gTRC", curve(gamma)},
                          {"bTRC", curve(gamma)}});
}

std::string grey_profile(double gamma) {
  return profile("GRAY", {{"wtpt", xyz(0.9642, 1, 0.8249)}, {"kTRC", curve(gamma)}});
}

VImage with_profile(const VImage& image, const std::string& icc) {
  VImage out = image.copy();
  vips_image_set_blob_copy(out.get_image(), VIPS_META_ICC_NAME, icc.data(), icc.size());
  return out;
}

std::string profile_of(const VImage& image) {
  if (image.get_typeof(VIPS_META_ICC_NAME) == 0) return {};
  std::size_t size = 0;
  const auto* data = static_cast<const char*>(image.get_blob(VIPS_META_ICC_NAME, &size));
  return {data, size};
}

VImage flat(std::vector<double> colour, VipsInterpretation space, bool deep = false) {
  return VImage::black(8, 8, VImage::option()->set("bands", static_cast<int>(colour.size())))
      .linear(std::vector<double>(colour.size(), 0), colour)
      .cast(deep ? VIPS_FORMAT_USHORT : VIPS_FORMAT_UCHAR)
      .copy(VImage::option()->set("interpretation", space));
}

TEST_F(Colour, RgbAndGreyKeepTheirSpaceAndProfile) {
  for (const bool grey : {false, true})
    for (const char* extension : {"png", "tif", "jxl"}) {
      const std::string icc = grey ? grey_profile(1.8) : rgb_profile(1.8);
      const VImage source = with_profile(gradient(16, 12, grey ? 1 : 3), icc);
      source.write_to_file(file("in.png").c_str());
      const fs::path out = file(std::string("out.") + extension);
      EXPECT_EQ(
          joined(enlarge(file("in.png"), out, 1, {.lossless = std::string(extension) == "jxl"})),
          "");
      EXPECT_EQ(difference(reopen(out), source), 0) << extension;
      EXPECT_EQ(profile_of(reopen(out)), icc) << extension << " grey " << grey;
    }
}

TEST_F(Colour, CmykBecomesSrgbWithOneNote) {
  const VImage white = flat({0, 0, 0, 0}, VIPS_INTERPRETATION_CMYK);
  const VImage cyan = flat({255, 0, 0, 0}, VIPS_INTERPRETATION_CMYK);
  for (const char* name : {"in.jpg", "in.tif"}) {
    white.write_to_file(file(name).c_str());
    const Picture picture = load({file(name)}, {});
    ASSERT_EQ(picture.warnings().size(), 1U);
    EXPECT_NE(picture.warnings()[0].find("CMYK to sRGB"), std::string::npos);
    enlarge(file(name), file("out.png"));
    const VImage out = reopen(file("out.png"));
    ASSERT_EQ(out.bands(), 3);
    for (const double v : pixel(out, 3, 3)) EXPECT_GE(v, 250) << name;
    EXPECT_EQ(profile_of(out).substr(16, 4), "RGB ") << "sRGB is not attached";
    cyan.write_to_file(file(name).c_str());
    enlarge(file(name), file("out.png"));
    const auto colour = pixel(reopen(file("out.png")), 3, 3);
    EXPECT_LT(colour[0], 80) << name;
    EXPECT_GT(colour[2], 150) << name;
  }
}

TEST_F(Colour, CmykWithAProfileOfAnotherKindUsesTheDefault) {
  with_profile(flat({0, 0, 0, 0}, VIPS_INTERPRETATION_CMYK), rgb_profile(1.8))
      .write_to_file(file("in.tif").c_str());
  const Picture picture = load({file("in.tif")}, {});
  EXPECT_NE(joined(picture.warnings()).find("generic CMYK profile"), std::string::npos);
}

TEST_F(Colour, LabBecomesSrgb) {
  const VImage lab =
      VImage::black(8, 8)
          .bandjoin_const(std::vector<double>{0, 0})
          .linear(std::vector<double>{0, 0, 0}, std::vector<double>{53.24, 80.09, 67.2})
          .copy(VImage::option()->set("interpretation", VIPS_INTERPRETATION_LAB))
          .cast(VIPS_FORMAT_FLOAT);
  lab.colourspace(VIPS_INTERPRETATION_LABS).write_to_file(file("s.tif").c_str());
  lab.Lab2LabQ().write_to_file(file("q.tif").c_str());
  for (const char* name : {"s.tif", "q.tif"}) {
    const Picture picture = load({file(name)}, {});
    EXPECT_EQ(joined(picture.warnings()), "converted from Lab to sRGB") << name;
    enlarge(file(name), file("out.png"));
    VImage out = reopen(file("out.png"));
    if (out.format() == VIPS_FORMAT_USHORT) out = out / 257;
    EXPECT_NEAR(pixel(out, 3, 3)[0], 255, 3) << name;
    EXPECT_NEAR(pixel(out, 3, 3)[1], 0, 9) << name;
    EXPECT_FALSE(profile_of(out).empty()) << name;
  }
}

TEST_F(Colour, LinearLightBecomesSrgb) {
  const double half = 0.2140;  // of the light, where sRGB has half of its range
  for (const bool deep : {false, true}) {
    const double full = deep ? 65535 : 255;
    with_profile(flat(std::vector<double>(3, std::round(half * full)),
                      deep ? VIPS_INTERPRETATION_RGB16 : VIPS_INTERPRETATION_sRGB, deep),
                 rgb_profile(1.0))
        .write_to_file(file("in.png").c_str());
    const Picture picture = load({file("in.png")}, {});
    EXPECT_EQ(joined(picture.warnings()),
              "converted from linear light to sRGB with its own profile");
    enlarge(file("in.png"), file("out.png"));
    const VImage out = reopen(file("out.png"));
    EXPECT_EQ(out.format(), deep ? VIPS_FORMAT_USHORT : VIPS_FORMAT_UCHAR);
    EXPECT_NEAR(pixel(out, 3, 3)[1] / full, 0.5, 0.01);
  }
}

TEST_F(Colour, ProfilesThatDoNotFitAreDroppedWithANote) {
  with_profile(gradient(8, 8, 3), grey_profile(2.2)).write_to_file(file("rgb.tif").c_str());
  with_profile(gradient(8, 8, 1), rgb_profile(2.2)).write_to_file(file("grey.tif").c_str());
  with_profile(gradient(8, 8, 3), "no profile at all").write_to_file(file("junk.tif").c_str());
  for (const char* name : {"rgb.tif", "grey.tif", "junk.tif"}) {
    const std::string warnings = joined(enlarge(file(name), file("out.png")));
    EXPECT_NE(warnings.find("profile is not for"), std::string::npos) << name << ": " << warnings;
    EXPECT_EQ(profile_of(reopen(file("out.png"))), "") << name;
  }
}

// Gamma 1.8 is brighter than sRGB for the same number: applied, the number rises.
TEST_F(Colour, ProfilesAreAppliedWhereTheFormatHoldsNone) {
  const double before = 100;
  const double after = 255 * (1.055 * std::pow(std::pow(before / 255, 1.8), 1 / 2.4) - 0.055);
  with_profile(flat({before, before, before}, VIPS_INTERPRETATION_sRGB), rgb_profile(1.8))
      .write_to_file(file("rgb.png").c_str());
  with_profile(flat({before}, VIPS_INTERPRETATION_B_W), grey_profile(1.8))
      .write_to_file(file("grey.png").c_str());
  for (const auto& [in, out, bands] : {std::tuple{"rgb.png", "o.ppm", 3},
                                       {"grey.png", "o.pgm", 1},
                                       {"grey.png", "o.webp", 3},
                                       {"rgb.png", "o.gif", 3}}) {
    const std::string warnings = joined(enlarge(file(in), file(out)));
    EXPECT_NE(warnings.find("converted from its own colour profile to sRGB"), std::string::npos)
        << out << ": " << warnings;
    const VImage image = reopen(file(out));
    // libvips may give a GIF an alpha it does not need
    EXPECT_EQ(std::min(image.bands(), 3), bands) << in << " " << out;
    EXPECT_NEAR(pixel(image, 3, 3)[0], after, 2) << in << " " << out;
  }
}

}  // namespace
}  // namespace elan::picture
