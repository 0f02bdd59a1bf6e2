#include "onnx/shapes.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace elan {
namespace {

constexpr std::int64_t kToTheEnd = std::numeric_limits<std::int64_t>::max();

}  // namespace

PictureShape::PictureShape(OnnxGraph& graph, const Architecture& arch, const OnnxOptions& options,
                           const std::string& input)
    : graph_(graph), scale_(arch.scale), padding_(options.padding) {
  for (const int w : arch.windows) multiple_ = std::lcm(multiple_, std::int64_t{w});
  const PictureSize size = options.size.value_or(PictureSize{});
  height_ = make_side(2, "height", size.height, input);
  width_ = make_side(3, "width", size.width, input);
}

PictureShape::Side PictureShape::make_side(std::int64_t axis, const std::string& label, int size,
                                           const std::string& input) {
  Side side{axis, label, size, (size + multiple_ - 1) / multiple_ * multiple_, {}, {}};
  if (size > 0) return side;
  if (axis == 2) graph_.node("Shape", {input}, "input.shape");
  side.size_node = graph_.node("Gather", {"input.shape", graph_.ints({axis})}, label);
  side.padded_node = side.size_node;
  if (padding_) {
    const std::string up =
        graph_.node("Add", {side.size_node, graph_.ints({multiple_ - 1})}, label + ".rounded_up");
    const std::string count =
        graph_.node("Div", {up, graph_.ints({multiple_})}, label + ".multiples");
    side.padded_node = graph_.node("Mul", {count, graph_.ints({multiple_})}, "padded." + label);
  }
  return side;
}

std::vector<NamedDim> PictureShape::input_dims() const {
  if (height_.size > 0) return {std::int64_t{1}, std::int64_t{3}, height_.size, width_.size};
  return {"batch", std::int64_t{3}, "height", "width"};
}

std::vector<NamedDim> PictureShape::output_dims() const {
  if (height_.size > 0) {
    return {std::int64_t{1}, std::int64_t{3}, scale_ * height_.size, scale_ * width_.size};
  }
  return {"batch", std::int64_t{3}, "output_height", "output_width"};
}

std::vector<NamedDim> PictureShape::padded_dims(int channels, int scale) const {
  if (height_.size > 0) {
    return {std::int64_t{1}, std::int64_t{channels}, scale * height_.padded, scale * width_.padded};
  }
  const std::string prefix = scale == 1 ? "padded_" : "enlarged_";
  return {"batch", std::int64_t{channels}, prefix + "height", prefix + "width"};
}

// The distance travelled along a mirrored row of n pixels has the period 2 (n - 1): with r the
// rest, the pixel is r on the way forth and period - r on the way back, whichever is smaller. A row
// of one pixel gets the period 1, whose only rest is 0.
std::string PictureShape::reflected(const Side& side) {
  if (side.size > 0) {
    Dims indices;
    const std::int64_t period = std::max<std::int64_t>(2 * (side.size - 1), 1);
    for (std::int64_t i = 0; i < side.padded; ++i) {
      indices.push_back(std::min(i % period, period - i % period));
    }
    return graph_.named_ints("pad." + side.label, indices);
  }
  const std::string name = "pad." + side.label;
  const std::string last = graph_.node("Sub", {side.size_node, graph_.ints({1})}, name + ".last");
  const std::string there_and_back =
      graph_.node("Mul", {last, graph_.ints({2})}, name + ".there_and_back");
  const std::string period =
      graph_.node("Max", {there_and_back, graph_.ints({1})}, name + ".period");
  const std::string count =
      graph_.node("Squeeze", {side.padded_node, graph_.ints({0})}, name + ".count");
  const std::string position =
      graph_.node("Range", {graph_.scalar(0), count, graph_.scalar(1)}, name + ".position");
  const std::string laps = graph_.node("Div", {position, period}, name + ".laps");
  const std::string before = graph_.node("Mul", {laps, period}, name + ".before");
  const std::string forth = graph_.node("Sub", {position, before}, name + ".forth");
  const std::string back = graph_.node("Sub", {period, forth}, name + ".back");
  return graph_.node("Min", {forth, back}, name);
}

std::string PictureShape::pad(const std::string& x) {
  if (!padding_) return x;
  std::string result = x;
  for (const Side* side : {&height_, &width_}) {
    if (side->size > 0 && side->size == side->padded) continue;
    result = graph_.node("Gather", {result, reflected(*side)}, "padded." + side->label + ".reflect",
                         {{"axis", side->axis}});
  }
  return result;
}

std::string PictureShape::crop(const std::string& x, const std::string& name) {
  if (!padding_ ||
      (height_.size > 0 && height_.size == height_.padded && width_.size == width_.padded)) {
    return x;
  }
  std::string ends;
  if (height_.size > 0) {
    ends = graph_.ints({scale_ * height_.size, scale_ * width_.size});
  } else {
    const std::string size =
        graph_.node("Concat", {height_.size_node, width_.size_node}, "size", {{"axis", 0}});
    ends = graph_.node("Mul", {size, graph_.ints({scale_})}, "output.size");
  }
  return graph_.node("Slice", {x, graph_.ints({0, 0}), ends, graph_.ints({2, 3})}, name);
}

// A 1-D tensor of `dims`, numbers or one-element nodes; computed ones are shared under `name`.
std::string PictureShape::shape(const std::string& name, const std::vector<NamedDim>& dims) {
  Dims numbers;
  std::vector<std::string> parts;
  for (const NamedDim& dim : dims) {
    if (const auto* number = std::get_if<std::int64_t>(&dim)) {
      numbers.push_back(*number);
      parts.push_back(graph_.ints({*number}));
    } else {
      parts.push_back(std::get<std::string>(dim));
    }
  }
  if (numbers.size() == dims.size()) return graph_.ints(numbers);
  return graph_.shared_node("Concat", parts, name, {{"axis", 0}});
}

NamedDim PictureShape::columns(int window) {
  if (width_.size > 0) return width_.padded / window;
  return graph_.shared_node("Div", {width_.padded_node, graph_.ints({window})},
                            "padded.width.in_" + std::to_string(window));
}

// Rows of windows, rows in one, columns of windows, pixels and channels of a window's row: swapping
// the middle two gathers each window, with nothing of a higher rank than 4.
std::string PictureShape::to_windows(const std::string& x, int window, int channels,
                                     const std::string& name) {
  const std::string id = std::to_string(window) + "x" + std::to_string(channels);
  const std::string strips = shape(
      "strips." + id,
      {std::int64_t{-1}, std::int64_t{window}, columns(window), std::int64_t{window} * channels});
  std::string t = graph_.node("Reshape", {x, strips}, name + ".strips");
  t = graph_.node("Transpose", {t}, name + ".gather", {{"perm", Dims{0, 2, 1, 3}}});
  return graph_.node("Reshape", {t, graph_.ints({-1, window * window, channels})}, name);
}

std::string PictureShape::from_windows(const std::string& x, int window, int channels,
                                       const std::string& name) {
  const std::string id = std::to_string(window) + "x" + std::to_string(channels);
  const std::string cells = shape(
      "cells." + id,
      {std::int64_t{-1}, columns(window), std::int64_t{window}, std::int64_t{window} * channels});
  std::string t = graph_.node("Reshape", {x, cells}, name + ".cells");
  t = graph_.node("Transpose", {t}, name + ".scatter", {{"perm", Dims{0, 2, 1, 3}}});
  const auto side = [](const Side& s) {
    return s.size > 0 ? NamedDim{s.padded} : NamedDim{s.padded_node};
  };
  const std::string picture =
      shape("picture." + std::to_string(channels),
            {std::int64_t{-1}, side(height_), side(width_), std::int64_t{channels}});
  return graph_.node("Reshape", {t, picture}, name);
}

std::string PictureShape::roll(const std::string& x, int shift, const std::string& name) {
  std::string result = x;
  for (const std::int64_t axis : {1, 2}) {
    const std::string part = name + (axis == 1 ? ".rows" : ".columns");
    const std::string at = graph_.ints({shift});
    const std::string on = graph_.ints({axis});
    const std::string first =
        graph_.node("Slice", {result, at, graph_.ints({kToTheEnd}), on}, part + ".first");
    const std::string second =
        graph_.node("Slice", {result, graph_.ints({0}), at, on}, part + ".second");
    result = graph_.node("Concat", {first, second}, axis == 1 ? part : name, {{"axis", axis}});
  }
  return result;
}

}  // namespace elan
