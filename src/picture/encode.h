// Encoders and their settings.
#pragma once

#include <string>
#include <vector>

#include "picture/output_file.h"
#include "picture/vips_tools.h"

namespace elan::picture {

// True when the output has to be a file, pipes being filled from it afterwards: the encoder goes
// back to earlier bytes, or what it wrote is looked at again.
bool needs_file(Format format);

// Encodes `image` (8 or 16 bits, as `format` takes it) into `file`. `bits`: significant bits of
// the samples, for formats between 8 and 16. What the encoder had against the picture where libvips
// does not hear of it, or nothing. Throws vips::VError.
std::string encode(const VImage& image, const SaveOptions& save, int bits, OutputFile& file);

}  // namespace elan::picture
