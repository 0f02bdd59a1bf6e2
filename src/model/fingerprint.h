// A short name for the values of a network.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "model/network.h"

namespace elan {

// XXH64 (https://github.com/Cyan4973/xxHash).
std::uint64_t xxh64(std::span<const std::byte> data, std::uint64_t seed);

// 16 hexadecimal digits over shape, windows, mean and all values: equal for equal networks however
// stored. Metadata does not count.
std::string fingerprint_of(const Network& net);

}  // namespace elan
