// An exported graph, looked at from outside: by name, as a consumer would.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "elan/model.h"
#include "onnx/export.h"

namespace elan::test {

inline onnx::ModelProto exported(const Model& model, const OnnxOptions& options) {
  onnx::ModelProto proto;
  proto.ParseFromString(onnx_model(model, options));
  return proto;
}

// By the name of any output.
inline std::map<std::string, const onnx::NodeProto*> nodes_of(const onnx::ModelProto& model) {
  std::map<std::string, const onnx::NodeProto*> nodes;
  for (const auto& node : model.graph().node()) {
    for (const std::string& output : node.output()) nodes[output] = &node;
  }
  return nodes;
}

inline std::map<std::string, const onnx::TensorProto*> initializers_of(
    const onnx::ModelProto& model) {
  std::map<std::string, const onnx::TensorProto*> tensors;
  for (const auto& tensor : model.graph().initializer()) tensors[tensor.name()] = &tensor;
  return tensors;
}

template <typename T>
std::vector<T> values_of(const onnx::TensorProto& tensor) {
  std::vector<T> values(tensor.raw_data().size() / sizeof(T));
  std::memcpy(values.data(), tensor.raw_data().data(), values.size() * sizeof(T));
  return values;
}

inline const onnx::AttributeProto* attribute_of(const onnx::NodeProto& node,
                                                const std::string& name) {
  for (const auto& attribute : node.attribute()) {
    if (attribute.name() == name) return &attribute;
  }
  return nullptr;
}

}  // namespace elan::test
