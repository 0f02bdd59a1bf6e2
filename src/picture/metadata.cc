#include "picture/metadata.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string_view>

namespace elan::picture {
namespace {

constexpr std::array<const char*, 6> kKept = {VIPS_META_ICC_NAME,  VIPS_META_EXIF_NAME,
                                              VIPS_META_XMP_NAME,  VIPS_META_IPTC_NAME,
                                              "image-description", VIPS_META_RESOLUTION_UNIT};

// libvips' own density for files that state none (PNG, WebP and so on), pixels per mm.
constexpr double kNoDensity = 1.0;
constexpr double k72PerInch = 72 / 25.4;

bool is_kept(std::string_view field) {
  // ifd1 describes the thumbnail, which shows the picture before it was enlarged or turned.
  if (field.starts_with("exif-ifd")) return !field.starts_with("exif-ifd1");
  return field.starts_with("png-comment-") ||
         std::find(kKept.begin(), kKept.end(), field) != kKept.end();
}

bool has(const VImage& image, const char* field) {
  return image.get_typeof(field) != 0;
}

// Cuts the second directory, which holds the thumbnail, off a block of EXIF (a TIFF header, then
// directories of 12-byte entries that end with the offset of the next; TIFF 6.0, section 2).
// libvips writes the old thumbnail on even when it is told that there is none.
void cut_thumbnail(VImage& image) {
  std::size_t size = 0;
  const auto* data = static_cast<const char*>(image.get_blob(VIPS_META_EXIF_NAME, &size));
  std::string text(data, size);
  const std::size_t start = text.starts_with("Exif") ? 6 : 0;  // as JPEG has it
  if (size < start + 8) return;
  const bool big_endian = text[start] == 'M';
  const auto number = [&](std::size_t at, std::size_t bytes) -> std::size_t {
    if (at > size || size - at < bytes) return 0;
    std::size_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i)
      value = value << 8 | static_cast<unsigned char>(text[at + (big_endian ? i : bytes - 1 - i)]);
    return value;
  };
  const std::size_t first = start + number(start + 4, 4);
  const std::size_t next = first + 2 + 12 * number(first, 2);
  if (next > size || size - next < 4) return;
  text.replace(next, 4, 4, '\0');
  vips_image_set_blob_copy(image.get_image(), VIPS_META_EXIF_NAME, text.data(), size);
}

// XMP has a second copy of the orientation; a one-digit value can be corrected in place.
void reset_xmp_orientation(VImage& image) {
  std::size_t size = 0;
  const auto* data = static_cast<const char*>(image.get_blob(VIPS_META_XMP_NAME, &size));
  std::string text(data, size);
  bool changed = false;
  for (std::size_t at = text.find("tiff:Orientation"); at != std::string::npos;
       at = text.find("tiff:Orientation", at + 1)) {
    std::size_t digit =
        text.find_first_not_of(" \t\r\n=\"'>", at + std::strlen("tiff:Orientation"));
    if (digit == std::string::npos || text[digit] < '2' || text[digit] > '8') continue;
    text[digit] = '1';
    changed = true;
  }
  if (changed) vips_image_set_blob_copy(image.get_image(), VIPS_META_XMP_NAME, text.data(), size);
}

void copy_fields(const VImage& from, VImage& to) {
  std::unique_ptr<char*, void (*)(char**)> fields(vips_image_get_fields(from.get_image()),
                                                  g_strfreev);
  for (char** field = fields.get(); *field != nullptr; ++field) {
    if (!is_kept(*field)) continue;
    GValue value = G_VALUE_INIT;
    if (vips_image_get(from.get_image(), *field, &value) != 0) continue;
    vips_image_set(to.get_image(), *field, &value);
    g_value_unset(&value);
  }
}

}  // namespace

VImage with_own_blobs(const VImage& image) {
  VImage owner = image.copy();
  std::unique_ptr<char*, void (*)(char**)> fields(vips_image_get_fields(image.get_image()),
                                                  g_strfreev);
  for (char** field = fields.get(); *field != nullptr; ++field) {
    if (image.get_typeof(*field) != VIPS_TYPE_BLOB) continue;
    std::size_t size = 0;
    const void* data = image.get_blob(*field, &size);
    vips_image_set_blob_copy(owner.get_image(), *field, data, size);
  }
  // Setting EXIF may set the density, too.
  return owner.copy(VImage::option()->set("xres", image.xres())->set("yres", image.yres()));
}

VImage keep_metadata(const VImage& image) {
  double xres = image.xres(), yres = image.yres();
  if (xres == kNoDensity && yres == kNoDensity) xres = yres = k72PerInch;
  VImage kept = VImage::black(1, 1).copy(VImage::option()->set("xres", xres)->set("yres", yres));
  copy_fields(image, kept);
  if (has(kept, VIPS_META_EXIF_NAME)) {
    kept.set(VIPS_META_ORIENTATION, 1);
    cut_thumbnail(kept);
  }
  if (has(kept, VIPS_META_XMP_NAME)) reset_xmp_orientation(kept);
  return kept;
}

void put_metadata(VImage& image, const VImage& metadata, Format format) {
  copy_fields(metadata, image);
  // libvips would write the block of a JPEG into a TIFF, where it means something else.
  if (!traits(format).iptc && has(image, VIPS_META_IPTC_NAME)) image.remove(VIPS_META_IPTC_NAME);
  if (has(metadata, VIPS_META_ORIENTATION)) image.set(VIPS_META_ORIENTATION, 1);
}

std::vector<std::string> dropped_by(const VImage& metadata, Format format) {
  const FormatTraits& can = traits(format);
  std::vector<std::string> dropped;
  const auto check = [&](const char* field, bool kept, const char* name) {
    if (!kept && has(metadata, field)) dropped.emplace_back(name);
  };
  check(VIPS_META_EXIF_NAME, can.exif, "EXIF");
  check(VIPS_META_XMP_NAME, can.xmp, "XMP");
  check(VIPS_META_IPTC_NAME, can.iptc, "IPTC");
  return dropped;
}

}  // namespace elan::picture
