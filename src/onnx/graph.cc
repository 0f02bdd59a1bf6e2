#include "onnx/graph.h"

#include <cstring>

#include "elan/error.h"
#include "onnx/half.h"

namespace elan {
namespace {

void set_attribute(onnx::AttributeProto& attribute, const std::string& name,
                   const AttributeValue& value) {
  attribute.set_name(name);
  if (const auto* i = std::get_if<std::int64_t>(&value)) {
    attribute.set_type(onnx::AttributeProto::INT);
    attribute.set_i(*i);
  } else if (const auto* s = std::get_if<std::string>(&value)) {
    attribute.set_type(onnx::AttributeProto::STRING);
    attribute.set_s(*s);
  } else if (const auto* ints = std::get_if<Dims>(&value)) {
    attribute.set_type(onnx::AttributeProto::INTS);
    for (const std::int64_t v : *ints) attribute.add_ints(v);
  } else {
    attribute.set_type(onnx::AttributeProto::TENSOR);
    *attribute.mutable_t() = std::get<onnx::TensorProto>(value);
  }
}

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

}  // namespace

int onnx_type(ElementType type) {
  constexpr int kFloat8E4M3Fn = 17;
  switch (type) {
    case ElementType::f16:
      return onnx::TensorProto::FLOAT16;
    case ElementType::int8:
      return onnx::TensorProto::INT8;
    case ElementType::fp8:
      return kFloat8E4M3Fn;
    case ElementType::f32:
      break;
  }
  return onnx::TensorProto::FLOAT;
}

onnx::TensorProto make_tensor(const std::string& name, const Dims& dims,
                              const std::vector<float>& values, ElementType type) {
  onnx::TensorProto tensor;
  tensor.set_name(name);
  tensor.set_data_type(onnx_type(type));
  for (const std::int64_t d : dims) tensor.add_dims(d);
  if (type == ElementType::f32) {
    tensor.set_raw_data(bytes_of(values));
    return tensor;
  }
  std::vector<std::uint16_t> halves;
  halves.reserve(values.size());
  for (const float v : values) {
    halves.push_back(half_bits(v));
    if ((halves.back() & 0x7c00u) == 0x7c00u) {
      throw Error(ErrorKind::model, name + ": " + std::to_string(v) +
                                        " does not fit FP16 (at most 65504); export with fp32");
    }
  }
  tensor.set_raw_data(bytes_of(halves));
  return tensor;
}

onnx::TensorProto make_tensor(const std::string& name, const Dims& dims,
                              const std::vector<std::int8_t>& values) {
  onnx::TensorProto tensor;
  tensor.set_name(name);
  tensor.set_data_type(onnx_type(ElementType::int8));
  for (const std::int64_t d : dims) tensor.add_dims(d);
  tensor.set_raw_data(bytes_of(values));
  return tensor;
}

std::string OnnxGraph::node(const std::string& op, const std::vector<std::string>& inputs,
                            const std::string& name, const Attributes& attributes) {
  node(op, inputs, std::vector<std::string>{name}, attributes);
  return name;
}

std::string OnnxGraph::shared_node(const std::string& op, const std::vector<std::string>& inputs,
                                   const std::string& name, const Attributes& attributes) {
  if (shared_.try_emplace(name, name).second) node(op, inputs, name, attributes);
  return name;
}

void OnnxGraph::node(const std::string& op, const std::vector<std::string>& inputs,
                     const std::vector<std::string>& outputs, const Attributes& attributes,
                     const std::string& domain) {
  onnx::NodeProto& node = *graph_.add_node();
  node.set_op_type(op);
  node.set_name(outputs.front());
  if (!domain.empty()) node.set_domain(domain);
  for (const std::string& input : inputs) node.add_input(input);
  for (const std::string& output : outputs) node.add_output(output);
  for (const auto& [key, value] : attributes) set_attribute(*node.add_attribute(), key, value);
}

std::string OnnxGraph::tensor(const std::string& name, const Dims& dims,
                              const std::vector<float>& values, ElementType type) {
  *graph_.add_initializer() = make_tensor(name, dims, values, type);
  return name;
}

std::string OnnxGraph::shared_tensor(const std::string& name, const Dims& dims,
                                     const std::vector<float>& values, ElementType type) {
  onnx::TensorProto unnamed = make_tensor({}, dims, values, type);
  const auto [found, is_new] = shared_.try_emplace(unnamed.SerializeAsString(), name);
  if (is_new) {
    unnamed.set_name(name);
    *graph_.add_initializer() = std::move(unnamed);
  }
  return found->second;
}

std::string OnnxGraph::integers(const std::string& name, const Dims& dims, const Dims& values) {
  const auto [found, is_new] = shared_.try_emplace(name, name);
  if (is_new) {
    onnx::TensorProto& tensor = *graph_.add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(onnx::TensorProto::INT64);
    for (const std::int64_t d : dims) tensor.add_dims(d);
    tensor.set_raw_data(bytes_of(values));
  }
  return name;
}

std::string OnnxGraph::ints(const Dims& values) {
  std::string name = "int";
  for (const std::int64_t v : values) name += "_" + std::to_string(v);
  return named_ints(name, values);
}

std::string OnnxGraph::named_ints(const std::string& name, const Dims& values) {
  return integers(name, {static_cast<std::int64_t>(values.size())}, values);
}

std::string OnnxGraph::scalar(std::int64_t value) {
  return integers("scalar_" + std::to_string(value), {}, {value});
}

std::string OnnxGraph::zeros(const Dims& dims, ElementType type) {
  std::string name = type == ElementType::int8 ? "zero_int8" : "zero_fp8";
  std::size_t count = 1;
  for (const std::int64_t d : dims) {
    name += "_" + std::to_string(d);
    count *= static_cast<std::size_t>(d);
  }
  if (shared_.try_emplace(name, name).second) {
    onnx::TensorProto& tensor = *graph_.add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(onnx_type(type));
    for (const std::int64_t d : dims) tensor.add_dims(d);
    tensor.set_raw_data(std::string(count, '\0'));
  }
  return name;
}

void declare(onnx::ValueInfoProto& info, const std::string& name, const std::vector<NamedDim>& dims,
             ElementType type) {
  info.set_name(name);
  auto& tensor = *info.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(onnx_type(type));
  auto& shape = *tensor.mutable_shape();
  for (const NamedDim& dim : dims) {
    auto& d = *shape.add_dim();
    if (const auto* size = std::get_if<std::int64_t>(&dim)) {
      d.set_dim_value(*size);
    } else {
      d.set_dim_param(std::get<std::string>(dim));
    }
  }
}

}  // namespace elan
