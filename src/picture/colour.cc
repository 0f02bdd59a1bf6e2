#include "picture/colour.h"

#include <cstdint>
#include <cstring>
#include <span>

#include "elan/error.h"

namespace elan::picture {
namespace {

using Bytes = std::span<const unsigned char>;

Bytes profile_of(const VImage& image) {
  if (image.get_typeof(VIPS_META_ICC_NAME) == 0) return {};
  std::size_t size = 0;
  const auto* data = static_cast<const unsigned char*>(image.get_blob(VIPS_META_ICC_NAME, &size));
  return {data, size};
}

std::uint32_t big_endian(Bytes bytes, std::size_t at) {
  if (at > bytes.size() || bytes.size() - at < 4) return 0;
  return std::uint32_t{bytes[at]} << 24 | std::uint32_t{bytes[at + 1]} << 16 |
         std::uint32_t{bytes[at + 2]} << 8 | bytes[at + 3];
}

constexpr std::uint32_t tag(const char (&name)[5]) {
  return std::uint32_t(static_cast<unsigned char>(name[0])) << 24 |
         std::uint32_t(static_cast<unsigned char>(name[1])) << 16 |
         std::uint32_t(static_cast<unsigned char>(name[2])) << 8 |
         static_cast<unsigned char>(name[3]);
}

// Offsets and layouts are those of the ICC specification (ICC.1:2010, 7.2, 7.3, 10.5, 10.15).
std::uint32_t profile_space(Bytes profile) {
  return big_endian(profile, 16);
}

bool is_linear_curve(Bytes profile, std::size_t at) {
  if (big_endian(profile, at) == tag("curv")) {
    const std::uint32_t count = big_endian(profile, at + 8);
    return count == 0 || (count == 1 && big_endian(profile, at + 12) >> 16 == 0x100);
  }
  return big_endian(profile, at) == tag("para") && big_endian(profile, at + 8) >> 16 == 0 &&
         big_endian(profile, at + 12) == 0x10000;
}

// True for profiles whose first tone curve is the identity: samples proportional to light.
bool is_linear(Bytes profile) {
  if (big_endian(profile, 128) == 0) return false;
  const std::uint32_t count = std::min<std::uint32_t>(big_endian(profile, 128), 100);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::size_t entry = 132 + std::size_t{12} * i;
    const std::uint32_t signature = big_endian(profile, entry);
    if (signature == tag("rTRC") || signature == tag("kTRC"))
      return is_linear_curve(profile, big_endian(profile, entry + 4));
  }
  return false;
}

bool is_lab(const VImage& image) {
  const VipsInterpretation space = image.interpretation();
  return space == VIPS_INTERPRETATION_LAB || space == VIPS_INTERPRETATION_LABS ||
         space == VIPS_INTERPRETATION_LABQ;
}

bool is_cmyk(const VImage& image) {
  return image.interpretation() == VIPS_INTERPRETATION_CMYK;
}

const char* sample_name(VipsBandFormat format) {
  switch (format) {
    case VIPS_FORMAT_CHAR:
      return "8-bit signed";
    case VIPS_FORMAT_SHORT:
      return "16-bit signed";
    case VIPS_FORMAT_UINT:
      return "32-bit";
    case VIPS_FORMAT_INT:
      return "32-bit signed";
    case VIPS_FORMAT_FLOAT:
    case VIPS_FORMAT_DOUBLE:
      return "floating-point";
    case VIPS_FORMAT_COMPLEX:
    case VIPS_FORMAT_DPCOMPLEX:
      return "complex";
    default:
      return "unknown";
  }
}

// Puts libvips' sRGB profile on an image that is in sRGB now.
VImage with_srgb_profile(const VImage& image) {
  VipsBlob* blob = nullptr;
  VImage out = image.copy();
  if (vips_profile_load("srgb", &blob, nullptr) != 0) throw vips::VError();
  if (blob != nullptr) {
    std::size_t size = 0;
    const void* data = vips_blob_get(blob, &size);
    vips_image_set_blob_copy(out.get_image(), VIPS_META_ICC_NAME, data, size);
    vips_area_unref(VIPS_AREA(blob));
  }
  return out;
}

// Through profiles: the embedded one, else `fallback`.
VImage through_profile(const VImage& image, const char* fallback) {
  const int depth = image.format() == VIPS_FORMAT_USHORT ? 16 : 8;
  return image.icc_transform("srgb", VImage::option()
                                         ->set("embedded", true)
                                         ->set("input_profile", fallback)
                                         ->set("intent", VIPS_INTENT_RELATIVE)
                                         ->set("black_point_compensation", true)
                                         ->set("depth", depth));
}

VImage without_profile(const VImage& image) {
  VImage out = image.copy();
  out.remove(VIPS_META_ICC_NAME);
  return out;
}

VImage lab_to_srgb(VImage image) {
  const bool deep = image.format() != VIPS_FORMAT_UCHAR && image.coding() == VIPS_CODING_NONE;
  if (image.get_typeof(VIPS_META_ICC_NAME) != 0) image = without_profile(image);
  return with_srgb_profile(
      image.colourspace(deep ? VIPS_INTERPRETATION_RGB16 : VIPS_INTERPRETATION_sRGB));
}

}  // namespace

bool is_grey(const VImage& image) {
  return image.bands() < 3;
}

void check_samples(const VImage& header, const std::string& name) {
  if (is_lab(header)) return;
  const auto refuse = [&](const std::string& found) {
    throw Error(ErrorKind::input,
                name + ": expected grey, RGB, CMYK or Lab samples of 8 or 16 bits, found " + found);
  };
  if (header.format() != VIPS_FORMAT_UCHAR && header.format() != VIPS_FORMAT_USHORT)
    refuse(std::string(sample_name(header.format())) + " samples");
  const int colours = is_cmyk(header) ? 4 : header.bands() < 3 ? 1 : 3;
  if (header.bands() > colours + 1) refuse(std::to_string(header.bands()) + " bands");
}

VImage to_rgb_or_grey(VImage image, const std::string& name, std::vector<std::string>& warnings) {
  check_samples(image, name);
  const Bytes profile = profile_of(image);
  if (is_cmyk(image)) {
    const bool own = !profile.empty() && profile_space(profile) == tag("CMYK");
    if (!profile.empty() && !own) image = without_profile(image);
    warnings.push_back(
        std::string("converted from CMYK to sRGB with ") +
        (own ? "its own profile" : "a generic CMYK profile, it has none of its own"));
    return through_profile(image, "cmyk");
  }
  if (is_lab(image)) {
    warnings.emplace_back("converted from Lab to sRGB");
    return lab_to_srgb(image);
  }
  if (profile.empty()) return image;
  if (profile_space(profile) != (is_grey(image) ? tag("GRAY") : tag("RGB "))) {
    warnings.push_back(std::string("its colour profile is not for ") +
                       (is_grey(image) ? "grey" : "RGB") + " pictures and was dropped");
    return without_profile(image);
  }
  if (is_linear(profile) && !is_grey(image)) {
    warnings.emplace_back("converted from linear light to sRGB with its own profile");
    return through_profile(image, "srgb");
  }
  return image;
}

}  // namespace elan::picture
