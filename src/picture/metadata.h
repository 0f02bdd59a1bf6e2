// What a picture carries besides pixels.
#pragma once

#include <string>
#include <vector>

#include "picture/vips_tools.h"

namespace elan::picture {

// The same image, its profile, EXIF and so on in memory of its own: those of the HEIF loader of
// libvips 8.14 are gone with the loader's image, though others still refer to them.
VImage with_own_blobs(const VImage& image);

// A one-pixel image with those metadata of `image` that make sense for its upright enlargement:
// profile, EXIF (orientation 1, no thumbnail of the old size), XMP, IPTC, comments and density.
VImage keep_metadata(const VImage& image);

// Gives `image` what keep_metadata kept and `format` can hold.
void put_metadata(VImage& image, const VImage& metadata, Format format);

// "EXIF", "XMP": what `metadata` holds and `format` cannot. Profiles are applied, not dropped.
std::vector<std::string> dropped_by(const VImage& metadata, Format format);

}  // namespace elan::picture
