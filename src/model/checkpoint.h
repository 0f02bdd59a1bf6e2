// From the tensors of a weights file to a Network: finds out what the file holds, checks it
// against what an ELAN of that shape must have, and brings it to the 0..255 range.
#pragma once

#include "model/key_names.h"
#include "model/network.h"
#include "model/safetensors.h"

namespace elan {

struct Checkpoint {
  Network network;  // fingerprint included
  KeyLayout layout = KeyLayout::published;
  std::string prefix;  // wrapper in front of every key, "params." for example; or empty
};

// Throws Error (model), one line "FILE: KEY: expected X, found Y", for anything that is not a
// complete, finite, consistent ELAN.
Checkpoint read_checkpoint(const Safetensors& file);

}  // namespace elan
