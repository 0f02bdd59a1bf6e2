// Translates the key layouts met in weights files into one set of names, those of the published
// checkpoints (docs/weights.md lists all layouts):
//   sub_mean|add_mean.{weight,bias}   head.0.{weight,bias}   tail.0.{weight,bias}
//   body.I.modules_lfe.lfe_J.conv{0,1}.shift_conv.weight           or  shift_conv.{w,b,m}
//   body.I.modules_lfe.lfe_J.conv{0,1}.shift_conv.conv1x1.{weight,bias}
//   body.I.modules_gmsa.gmsa_J.project_inp.0.{weight,bias}
//   body.I.modules_gmsa.gmsa_J.project_inp.1.{weight,bias,running_mean,running_var}
//   body.I.modules_gmsa.gmsa_J.project_out.{weight,bias}
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "model/safetensors.h"

namespace elan {

// One layout of keys a file may use.
enum class KeyLayout : std::uint8_t { published, low_memory, basicsr };

std::string_view to_string(KeyLayout layout);  // "published", "low-memory", "basicsr"

struct KeyNames {
  KeyLayout layout = KeyLayout::published;
  std::string prefix;  // in front of every key of the file: "params." for example, or empty
  std::map<std::string, std::string, std::less<>> file_key;  // canonical -> as in the file
};

// Batch counters are left out; keys of no known layout stay as they are. Throws Error (model) if
// two keys of the file mean the same tensor.
KeyNames canonical_keys(const Safetensors& file);

}  // namespace elan
