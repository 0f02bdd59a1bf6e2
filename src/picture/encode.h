// Encoders and their settings.
#pragma once

#include <string>
#include <vector>

#include "picture/output_file.h"
#include "picture/vips_tools.h"

namespace elan::picture {

// True when the encoder goes back to earlier bytes of its output.
bool encoder_seeks(Format format);

// Encodes `image` (8 or 16 bits, as `format` takes it) into `file`. `bits`: significant bits of
// the samples, for formats between 8 and 16. Throws vips::VError.
void encode(const VImage& image, const SaveOptions& save, int bits, OutputFile& file);

}  // namespace elan::picture
