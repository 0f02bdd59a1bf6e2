// The JSON header of a safetensors file, parsed and checked against the size of the values.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "model/safetensors.h"

namespace elan {

struct SafetensorsHeader {
  Safetensors::Entries entries;
  std::map<std::string, std::string> metadata;
};

// Offsets must cover the `value_bytes` bytes after the header without gap or overlap, and fit type
// and shape. Throws Error (model) that starts with `name`.
SafetensorsHeader parse_safetensors_header(const std::string& name, std::string_view json,
                                           std::uint64_t value_bytes);

}  // namespace elan
