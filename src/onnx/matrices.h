// The 1x1 convolutions of an exported graph, each in a precision of its own. In 8 bits they are
// what runtimes know as explicit quantisation: input and weights pass a QuantizeLinear and a
// DequantizeLinear with the model's scales, the convolution between floats stands for the one
// between integers. docs/onnx.md says where that differs from docs/quantization.md.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "elan/precision.h"
#include "model/network.h"
#include "onnx/graph.h"

namespace elan {

// A tensor of the graph that holds f32 or f16.
struct OnnxValue {
  std::string name;
  ElementType type = ElementType::f32;
};

// What a matrix with or without an 8-bit form is computed in when `asked` for: never less exact.
// `asked` is one of export_precisions().
ElementType arithmetic(Precision asked, bool has_int8);

const std::vector<Precision>& export_precisions();

// A matrix and the scales of its 8-bit form, if it has one.
struct OnnxMatrix {
  Linear linear;
  float input_scale = 0;
  std::vector<float> weight_scale = {};  // [out]; empty: no 8-bit form
  std::string input_name = {};           // of the quantised input; empty: after the matrix
};

OnnxMatrix matrix_of(const ShiftConv& conv);
OnnxMatrix matrix_of(const Linear& linear, const std::optional<QuantizedMatrix>& int8);

// q and v in one matrix, in the order of project_inp's rows: only where both have an 8-bit form or
// neither has.
OnnxMatrix project_inp_of(const Gmsa& gmsa);

// `x` itself if it has the type already. Nodes are shared, named after `x`.
OnnxValue cast(OnnxGraph& graph, const OnnxValue& x, ElementType to);

// y = W x + b for every pixel of [N, C, H, W], named `name`; the result is f16 where `in` is.
OnnxValue add_matrix(OnnxGraph& graph, const std::string& name, const OnnxValue& x,
                     const OnnxMatrix& matrix, ElementType in);

}  // namespace elan
