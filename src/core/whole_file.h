// Writing files so that none is ever there in part.
#pragma once

#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <span>

namespace elan {

// The file behind a link that is to be replaced: a link is written through, as every other program
// does. A path that is no link, or one to nothing, as it is.
std::filesystem::path without_links(const std::filesystem::path& path);

// Puts the parts, one after another, at `path` in one step: under the name with ".part" behind it,
// renamed when complete. Devices and pipes are written directly, links followed. Throws Error
// (input).
void write_whole_file(const std::filesystem::path& path,
                      std::initializer_list<std::span<const std::byte>> parts);

// Throws as that would, as far as can be told without writing: before long work.
void expect_writable(const std::filesystem::path& path);

}  // namespace elan
