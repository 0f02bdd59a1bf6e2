// Names in messages.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace elan {

// A key or path as it may stand in a one-line message: control characters replaced, cut when long.
std::string printable(std::string_view text, std::size_t longest = 200);

}  // namespace elan
