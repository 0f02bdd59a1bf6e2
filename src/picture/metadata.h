// What a picture carries besides pixels.
#pragma once

#include <string>
#include <vector>

#include "picture/vips_tools.h"

namespace elan::picture {

// A one-pixel image with those metadata of `image` that make sense for its upright enlargement:
// profile, EXIF (orientation 1, no thumbnail of the old size), XMP, IPTC, comments and density.
VImage keep_metadata(VImage image);

// Gives `image` what keep_metadata kept.
void put_metadata(VImage& image, const VImage& metadata);

// "EXIF", "XMP": what `metadata` holds and `format` cannot. Profiles are applied, not dropped.
std::vector<std::string> dropped_by(const VImage& metadata, Format format);

}  // namespace elan::picture
