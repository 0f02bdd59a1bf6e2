// A plugin node of an exported graph as the fields that TensorRT's ONNX parser makes of it: strings
// become characters, integers 32 bits wide, tensors 32-bit floats or 8-bit integers.
#pragma once

#include <onnx/onnx_pb.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "elan/model.h"
#include "module.h"
#include "onnx/export.h"
#include "support/golden.h"

namespace elan::test {

// Owns what its fields point to.
class NodeFields {
 public:
  explicit NodeFields(const onnx::NodeProto& node)
      : kind_(node.op_type() == "ElanLFE" ? plugins::Kind::lfe : plugins::Kind::gmsa) {
    for (const auto& a : node.attribute()) {
      if (a.type() == onnx::AttributeProto::STRING) {
        put(a.name(), plugins::FieldType::text, a.s().data(), a.s().size(), a.s().size());
      } else if (a.type() == onnx::AttributeProto::TENSOR) {
        const std::string& raw = a.t().raw_data();
        const bool int8 = a.t().data_type() == onnx::TensorProto::INT8;
        put(a.name(), int8 ? plugins::FieldType::i8 : plugins::FieldType::f32, raw.data(),
            raw.size() / (int8 ? 1 : 4), raw.size());
      } else {
        std::vector<std::int32_t> values(a.ints().begin(), a.ints().end());
        if (a.type() == onnx::AttributeProto::INT) values = {static_cast<std::int32_t>(a.i())};
        put(a.name(), plugins::FieldType::i32, values.data(), values.size(), values.size() * 4);
      }
    }
  }

  [[nodiscard]] plugins::Kind kind() const { return kind_; }
  [[nodiscard]] const std::vector<plugins::Field>& get() const { return fields_; }
  [[nodiscard]] plugins::Field& at(const std::string& name) {
    return *std::find_if(fields_.begin(), fields_.end(),
                         [&](const plugins::Field& f) { return f.name == name; });
  }
  [[nodiscard]] bool has(const std::string& name) const {
    return std::any_of(fields_.begin(), fields_.end(),
                       [&](const plugins::Field& f) { return f.name == name; });
  }
  void add(const std::string& name, const std::vector<float>& values) {
    put(name, plugins::FieldType::f32, values.data(), values.size(), values.size() * 4);
  }
  void remove(const std::string& name) {
    std::erase_if(fields_, [&](const plugins::Field& f) { return f.name == name; });
  }
  // Values of our own instead of a field's.
  template <typename T>
  void set(const std::string& name, const std::vector<T>& values) {
    plugins::Field& f = at(name);
    f.data = keep(values.data(), values.size() * sizeof(T));
    f.length = static_cast<std::int64_t>(values.size());
  }
  void set(const std::string& name, const std::string& value) {
    set(name, std::vector<char>(value.begin(), value.end()));
  }

 private:
  void put(const std::string& name, plugins::FieldType type, const void* data, std::size_t length,
           std::size_t bytes) {
    names_.push_back(name);
    fields_.push_back({names_.back(), type, keep(data, bytes), static_cast<std::int64_t>(length)});
  }
  const void* keep(const void* data, std::size_t bytes) {
    const auto* from = static_cast<const std::byte*>(data);
    data_.emplace_back(from, from + bytes);
    return data_.back().data();
  }

  plugins::Kind kind_;
  std::deque<std::string> names_;
  std::deque<std::vector<std::byte>> data_;
  std::vector<plugins::Field> fields_;
};

// The shipped model's export with plugins; `stage` names the node.
class PluginGraph {
 public:
  explicit PluginGraph(const char* model, Precision precision = Precision::fp16)
      : model_(Model::load(model_path(model))) {
    proto_.ParseFromString(onnx_model(model_, {.precision = precision, .plugins = true}));
  }
  [[nodiscard]] const onnx::NodeProto& node(const std::string& stage) const {
    for (const auto& node : proto_.graph().node()) {
      if (node.name() == stage) return node;
    }
    throw std::out_of_range(stage);
  }
  [[nodiscard]] NodeFields fields(const std::string& stage) const {
    return NodeFields(node(stage));
  }
  [[nodiscard]] const Network& network() const { return model_.network(); }

 private:
  Model model_;
  onnx::ModelProto proto_;
};

}  // namespace elan::test
