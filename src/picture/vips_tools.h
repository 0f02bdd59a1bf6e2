// Our dealings with libvips as a library: setting it up, its operations by name, its errors.
#pragma once

#include <string>
#include <vips/vips8>

#include "picture/format.h"

namespace elan::picture {

using vips::VImage;
using vips::VOption;

// True when libvips has this operation ("pngload_source") and it is not blocked.
bool has_operation(const char* nickname);

// Takes libvips' pending messages and makes one line of those that help a person.
std::string take_vips_error();

// "'a b.png'" for messages: quotes the name; control characters and invalid UTF-8 as \xNN.
std::string quoted_name(const std::filesystem::path& path);

// "1.5 GiB".
std::string bytes_in_words(std::size_t bytes);

}  // namespace elan::picture
