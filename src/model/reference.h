// The readable forward pass: the network exactly as defined, in float or double, without tricks.
// What every fast backend is compared with, and the device called "reference".
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "model/network.h"
#include "model/plan.h"

namespace elan {

// A picture or feature map, planar [channels][height][width].
template <typename T>
struct Planar {
  int channels = 0, height = 0, width = 0;
  std::vector<T> values;

  Planar() = default;
  Planar(int c, int h, int w)
      : channels(c), height(h), width(w), values(static_cast<std::size_t>(c) * h * w) {}

  [[nodiscard]] std::size_t pixels() const { return static_cast<std::size_t>(height) * width; }
  [[nodiscard]] T* plane(int c) { return values.data() + c * pixels(); }
  [[nodiscard]] const T* plane(int c) const { return values.data() + c * pixels(); }
  [[nodiscard]] T* row(int c, int y) { return plane(c) + static_cast<std::size_t>(y) * width; }
  [[nodiscard]] const T* row(int c, int y) const {
    return plane(c) + static_cast<std::size_t>(y) * width;
  }
};

// Called after every stage with its canonical name (see stages.h); may throw to end the pass.
template <typename T>
using StageWatcher = std::function<void(const std::string& name, const Planar<T>& value)>;

// Called with what a matrix of the body is about to multiply: conv0 and project_inp.v (which
// stands for project_inp.q too) the stream, conv1 the hidden tensor, project_out what attention
// gave; and before, with q as qk and v as av, the three groups one after another. Before the shift.
// Not called for the hidden tensor, q and v where they exist in 8 bits only.
template <typename T>
using OperandWatcher = std::function<void(const std::string& operation, const Planar<T>& value)>;

// `padded` is RGB, 0..255, each side a multiple of the largest window. Returns the enlarged
// picture with the mean added, neither cropped nor rounded. T is float or double. Operations that
// the plan has in a narrower precision get their operands rounded to it (batch norm folded in,
// softmax normalised, before); everything is computed in T. Matrices and attentions that the plan
// has in int8 and that have an 8-bit form are computed with it as docs/quantization.md says; what
// has none is not rounded. In fp8 weights have a scale for each row, and what is no 1x1
// convolution is not rounded.
template <typename T>
Planar<T> forward(const Network& net, const Planar<T>& padded, const StageWatcher<T>& watch,
                  const PrecisionPlan& plan = Precision::fp64,
                  const OperandWatcher<T>& operands = {});

// The side the picture is padded to: the next multiple of what every window divides.
int padded_side(const Architecture& arch, int side);

// Position of padded pixel i in a row of `size` pixels: reflection without repeating the edge, as
// often as needed.
int reflect(int i, int size);

}  // namespace elan
