// Colour spaces the network does not work in, and profiles.
#pragma once

#include <string>
#include <vector>

#include "picture/vips_tools.h"

namespace elan::picture {

// Brings a decoded image to RGB or grey with 8 or 16 bits a sample, with or without alpha. RGB
// and grey stay in their own space; CMYK, Lab and linear light become sRGB, with a note in
// `warnings`. Profiles that do not fit are taken off, with a note. Throws Error (input) for
// float, complex, 32-bit or signed samples and for unknown numbers of bands.
VImage to_rgb_or_grey(VImage image, const std::string& name, std::vector<std::string>& warnings);

// The same checks from a header alone.
void check_samples(const VImage& header, const std::string& name);

// True for an image in the sense of to_rgb_or_grey() that has one colour band.
bool is_grey(const VImage& image);

}  // namespace elan::picture
