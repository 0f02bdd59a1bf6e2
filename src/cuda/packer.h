// What packing weights is made of, for the files that do it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <functional>
#include <span>
#include <vector>

#include "cuda/pack.h"

namespace elan::cuda {

// Grows the data and remembers where things are.
class Packer {
 public:
  explicit Packer(PackedNetwork& packed) : packed_(packed) {}

  std::size_t take(std::size_t bytes) {
    const std::size_t at = (packed_.data.size() + 255) / 256 * 256;
    packed_.data.resize(at + bytes);
    return at;
  }

  std::size_t floats(int count, const std::function<float(int)>& value) {
    const std::size_t at = take(static_cast<std::size_t>(count) * sizeof(float));
    for (int i = 0; i < count; ++i) {
      const float v = value(i);
      std::memcpy(packed_.data.data() + at + static_cast<std::size_t>(i) * sizeof v, &v, sizeof v);
    }
    return at;
  }

  std::span<std::byte> bytes(std::size_t at, int count) {
    return {packed_.data.data() + at, static_cast<std::size_t>(count)};
  }

 private:
  PackedNetwork& packed_;
};

// Everything that packing one pair needs to know.
struct Context {
  ChannelLayout layout;
  Operand operand;
  const std::vector<int>& order;  // of the stream
  bool hopper = false;            // core matrices, as Hopper's kernels take them
  [[nodiscard]] bool wide() const { return uses_wide_kernels({operand, hopper}); }
  [[nodiscard]] bool narrow_hopper() const { return hopper && layout.channels == 60; }
  // The LFE of 180 channels in 16 bits on Hopper.
  [[nodiscard]] bool half_hopper() const {
    return hopper && layout.channels == 180 && operand_bytes(operand) == 2;
  }
};

// The row of q or v (or the input of project_out) at place `i` of the padded groups; -1: none.
inline int group_row(const Context& c, int i) {
  const int width = 8 * c.layout.group_units, third = c.layout.channels / kWindowGroups;
  return i % width < third ? i / width * third + i % width : -1;
}

// Of values of channels, those of the stream's columns.
inline auto stream_values(const Context& c) {
  return [&c](const std::vector<float>& values) {
    return [&](int i) {
      const int out = c.order[column_channel(c.layout, i)];
      return out < 0 ? 0.F : values[out];
    };
  };
}

// Where an LFE reads: all of it that is no weight.
PackedLfe packed_taps(const Context& c, const Lfe& lfe, const Gmsa& gmsa,
                      const HiddenOrder& hidden);

// `rows`: as the left operand, of the tail on a stream of FP16.
PackedOut pack_tail(Packer& packer, const Context& c, const Conv3x3& tail, int scale, bool rows);

// The head and the last convolution as one, whose results come out as the last convolution's do
// before they are times its `unscale`.
PackedSkip pack_skip(Packer& packer, const Conv3x3& head, const Conv3x3& tail, float unscale);

// For the 8-bit kernels of the Hopper path; all matrices must have such a form.
PackedLfe pack_lfe_int8(Packer& packer, const Context& c, const Lfe& lfe, const Gmsa& gmsa);
PackedOut pack_out_int8(Packer& packer, const Context& c, const Gmsa& gmsa);

}  // namespace elan::cuda
