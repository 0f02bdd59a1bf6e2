// Writes safetensors files, the inverse of safetensors.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/safetensors.h"

namespace elan {

struct TensorValues {
  std::string dtype;  // "F32", "BF16", "I8"
  TensorShape shape;
  std::vector<std::byte> bytes;  // little-endian
};

// As BF16 where that holds every value (masks, for example), else as F32.
TensorValues float_tensor(TensorShape shape, std::span<const float> values);
TensorValues int8_tensor(TensorShape shape, std::span<const std::int8_t> values);

// Wider types come first, so that every tensor is aligned to its type; the same content always
// gives the same bytes.
std::vector<std::byte> serialise(const std::map<std::string, TensorValues>& tensors,
                                 const std::map<std::string, std::string>& metadata);

}  // namespace elan
