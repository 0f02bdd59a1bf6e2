// How much memory this machine grants the process, and sizes in messages.
#pragma once

#include <cstddef>
#include <string>

namespace elan {

// Bytes: the smaller of physical memory and the control groups' limits. Does not depend on what is
// free at the moment.
std::size_t memory_limit();

// "1.5 GiB", "300 MiB", "12 KiB": for people.
std::string format_bytes(std::size_t bytes);

}  // namespace elan
