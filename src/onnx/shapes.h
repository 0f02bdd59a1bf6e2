// What depends on the picture's size in an exported graph: padding, cropping, and cutting a feature
// map into windows and back. With a fixed size everything here is a constant; otherwise a few 1-D
// integer nodes compute it once for the whole graph. Only operations that inference engines accept
// on shapes: no Mod, no reshaped shapes, ranks of at most 4.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "elan/model.h"
#include "onnx/export.h"
#include "onnx/graph.h"

namespace elan {

class PictureShape {
 public:
  // `input` is the graph's input, [N, 3, H, W]. The graph must outlive this object.
  PictureShape(OnnxGraph& graph, const Architecture& arch, const OnnxOptions& options,
               const std::string& input);

  // Declared dimensions: of the input, the output, and a feature map of the padded picture.
  [[nodiscard]] std::vector<NamedDim> input_dims() const;
  [[nodiscard]] std::vector<NamedDim> output_dims() const;
  [[nodiscard]] std::vector<NamedDim> padded_dims(int channels, int scale = 1) const;

  // Reflection on the right and the bottom, as often as needed; `x` itself where the caller pads.
  std::string pad(const std::string& x);

  // Cuts the padding off the enlarged picture; `x` itself if there is none.
  std::string crop(const std::string& x, const std::string& name);

  // [N, H, W, C] -> [N * windows, w * w, C] and back. Nodes are named after `name`.
  std::string to_windows(const std::string& x, int window, int channels, const std::string& name);
  std::string from_windows(const std::string& x, int window, int channels, const std::string& name);

  // Moves the content of [N, H, W, C] cyclically up and left by `shift` pixels (down and right if
  // negative).
  std::string roll(const std::string& x, int shift, const std::string& name);

 private:
  // One side of the picture.
  struct Side {
    std::int64_t axis = 0;  // of [N, C, H, W]
    std::string label;      // "height"
    std::int64_t size = 0;  // pixels; 0: known at run time only
    std::int64_t padded = 0;
    std::string size_node, padded_node;  // 1-D of one element; empty if the number is known
  };

  Side make_side(std::int64_t axis, const std::string& label, int size, const std::string& input);
  std::string reflected(const Side& side);  // indices into the side, one per padded pixel
  NamedDim columns(int window);             // windows side by side
  std::string shape(const std::string& name, const std::vector<NamedDim>& dims);

  OnnxGraph& graph_;
  int scale_ = 1;
  std::int64_t multiple_ = 1;  // what padded sides are a multiple of
  bool padding_ = true;
  Side height_, width_;
};

}  // namespace elan
