// From a Network back to a weights file in the published layout, the inverse of checkpoint.h.
#pragma once

#include <map>
#include <string>

#include "model/network.h"
#include "model/safetensors_writer.h"

namespace elan {

// The tensors of `network` as docs/weights.md names them. Matrices with an 8-bit form are written
// in that form alone. Throws Error (internal) if a quantised network has batch norms.
std::map<std::string, TensorValues> tensors_of(const Network& network);

// The network's own metadata, and what the reader must know of its values.
std::map<std::string, std::string> metadata_of(const Network& network);

}  // namespace elan
