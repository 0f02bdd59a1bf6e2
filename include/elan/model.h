// A network read from a weights file.
#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "elan/export.h"

namespace elan {

struct Network;

// Shape of an ELAN, inferred from the shapes in the weights file.
struct ELAN_API Architecture {
  int scale = 0;     // output pixels per input pixel, each way
  int channels = 0;  // width of the residual stream
  int elabs = 0;     // ELAB blocks of the body; those with odd index are shifted
  int pairs = 0;     // LFE + GMSA pairs in an ELAB (1 + n_share)
  int expand = 0;    // hidden channels of an LFE per channel (r_expand)
  std::array<int, 3> windows{4, 8, 16};
  double value_range = 255;  // range of the file's own inputs; folded away on loading
  bool subtracts_mean = true;

  // "elan" (36 modules, 180 channels), "elan-light" (24, 60), else "elan-custom".
  [[nodiscard]] std::string variant() const;
};

// Immutable and cheap to copy; safe to use from several threads.
class ELAN_API Model {
 public:
  // Reads a .safetensors file (F32, F16, BF16; the key layouts are listed in docs/weights.md).
  // Throws Error (model) that names the file, what was expected and what was found.
  static Model load(const std::filesystem::path& path);

  explicit Model(std::shared_ptr<const Network> network);

  [[nodiscard]] const Architecture& architecture() const;
  [[nodiscard]] int scale() const { return architecture().scale; }
  [[nodiscard]] std::size_t parameters() const;  // trained numbers, as the papers count them
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const;  // of the file
  // Hash of the values (16 hexadecimal digits); equal for equal networks however stored.
  [[nodiscard]] const std::string& fingerprint() const;

  [[nodiscard]] const Network& network() const { return *network_; }
  [[nodiscard]] const std::shared_ptr<const Network>& shared_network() const { return network_; }

 private:
  std::shared_ptr<const Network> network_;
};

}  // namespace elan
