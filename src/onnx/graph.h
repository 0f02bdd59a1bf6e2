// Builds an ONNX graph node by node. Every node has one name, that of its first output, so that a
// viewer, a profiler and an error message show the canonical stage and operation names.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace elan {

using Dims = std::vector<std::int64_t>;
using AttributeValue = std::variant<std::int64_t, std::string, Dims, onnx::TensorProto>;
using Attributes = std::vector<std::pair<std::string, AttributeValue>>;

enum class ElementType : std::uint8_t { f32, f16, int8, fp8 };

// The number that stands for a type in a file. fp8 is FLOAT8E4M3FN, for which older libraries have
// no name.
int onnx_type(ElementType type);

// A tensor of the values, rounded to `type`, f32 or f16. Throws Error (model) for a value that a
// half cannot hold.
onnx::TensorProto make_tensor(const std::string& name, const Dims& dims,
                              const std::vector<float>& values, ElementType type);
onnx::TensorProto make_tensor(const std::string& name, const Dims& dims,
                              const std::vector<std::int8_t>& values);

class OnnxGraph {
 public:
  // Adds a node with one output and returns the output's name, which is also the node's.
  std::string node(const std::string& op, const std::vector<std::string>& inputs,
                   const std::string& name, const Attributes& attributes = {});

  // The same, once: a later call with this name returns the node that exists.
  std::string shared_node(const std::string& op, const std::vector<std::string>& inputs,
                          const std::string& name, const Attributes& attributes = {});

  // Adds a node with several outputs (the first one names it), in the default domain if `domain`
  // is empty.
  void node(const std::string& op, const std::vector<std::string>& inputs,
            const std::vector<std::string>& outputs, const Attributes& attributes,
            const std::string& domain = {});

  // Initializers; each returns the name to use as an input. Equal integer lists are stored once,
  // named by their values: 1-D, or a scalar for scalar().
  std::string tensor(const std::string& name, const Dims& dims, const std::vector<float>& values,
                     ElementType type);
  std::string ints(const Dims& values);
  std::string named_ints(const std::string& name, const Dims& values);
  std::string scalar(std::int64_t value);

  // Same values and shape, same initializer, under the name it was first asked for.
  std::string shared_tensor(const std::string& name, const Dims& dims,
                            const std::vector<float>& values, ElementType type);

  // Zeros of one byte each, a scalar if `dims` is empty; equal ones are stored once.
  std::string zeros(const Dims& dims, ElementType type);

  onnx::GraphProto& proto() { return graph_; }

 private:
  std::string integers(const std::string& name, const Dims& dims, const Dims& values);

  onnx::GraphProto graph_;
  std::map<std::string, std::string> shared_;  // contents, or the name itself -> name
};

// A dimension of a declared tensor: a number, or a name for one that is known only at run time.
using NamedDim = std::variant<std::int64_t, std::string>;

void declare(onnx::ValueInfoProto& info, const std::string& name, const std::vector<NamedDim>& dims,
             ElementType type);

}  // namespace elan
