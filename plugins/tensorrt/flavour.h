// What the plugin interfaces of all TensorRT versions have in common. Included by one source file a
// library; that file's TensorRT headers decide what these names mean.
#pragma once

#include <NvInfer.h>

#include <array>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "elan/error.h"
#include "module.h"
#include "runner.h"

namespace elan::plugins {

// The host's logger, if it gave one; the library itself never prints.
class Log {
 public:
  static Log& instance() {
    static Log log;
    return log;
  }
  void set(nvinfer1::ILoggerFinder* finder) { finder_ = finder; }
  void error(const char* text) const noexcept {
    try {
      nvinfer1::ILogger* logger = finder_ != nullptr ? finder_->findLogger() : nullptr;
      if (logger != nullptr) logger->log(nvinfer1::ILogger::Severity::kERROR, text);
    } catch (...) {  // a host's logger must not end the process
    }
  }

 private:
  nvinfer1::ILoggerFinder* finder_ = nullptr;
};

// Calls `work`; on an exception tells the logger and returns `failed`.
template <typename Result, typename Work>
Result guarded(Result failed, Work work) noexcept {
  try {
    return work();
  } catch (const std::exception& error) {
    Log::instance().error(error.what());
  } catch (...) {
    Log::instance().error("elan_sr plugin: unknown error");
  }
  return failed;
}

inline FieldType type_of(nvinfer1::PluginFieldType type) {
  switch (type) {
    case nvinfer1::PluginFieldType::kFLOAT32:
      return FieldType::f32;
    case nvinfer1::PluginFieldType::kINT32:
      return FieldType::i32;
#if NV_TENSORRT_MAJOR >= 10
    case nvinfer1::PluginFieldType::kINT64:
      return FieldType::i64;
#endif
    case nvinfer1::PluginFieldType::kINT8:
      return FieldType::i8;
    case nvinfer1::PluginFieldType::kCHAR:
      return FieldType::text;
    default:
      return FieldType::other;
  }
}

inline std::vector<Field> fields_from(const nvinfer1::PluginFieldCollection& collection) {
  std::vector<Field> fields;
  for (int i = 0; i < collection.nbFields; ++i) {
    const nvinfer1::PluginField& f = collection.fields[i];
    fields.push_back({f.name, type_of(f.type), f.data, f.length});
  }
  return fields;
}

// What an ONNX node's fields describe; a host may give none.
inline Module module_from(Kind kind, const nvinfer1::PluginFieldCollection* given) {
  if (given == nullptr) {
    throw Error(ErrorKind::model, std::string(name_of(kind)) + ": expected fields, found none");
  }
  return module_from_fields(kind, fields_from(*given));
}

// The names that an ONNX parser looks for in a node, with a type each but no values.
class FieldNames {
 public:
  explicit FieldNames(Kind kind) {
    for (const FieldName& f : field_names(kind)) {
      const auto type = f.type == FieldType::f32   ? nvinfer1::PluginFieldType::kFLOAT32
                        : f.type == FieldType::i32 ? nvinfer1::PluginFieldType::kINT32
                                                   : nvinfer1::PluginFieldType::kCHAR;
      fields_.emplace_back(f.name, nullptr, type, 1);
    }
    collection_ = {static_cast<int>(fields_.size()), fields_.data()};
  }
  FieldNames(const FieldNames&) = delete;
  FieldNames& operator=(const FieldNames&) = delete;
  [[nodiscard]] const nvinfer1::PluginFieldCollection* get() const { return &collection_; }

 private:
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
};

inline nvinfer1::DataType data_type(const Module& m, TensorKind kind) {
  if (kind == TensorKind::packed) return nvinfer1::DataType::kINT32;
  return m.half_stream ? nvinfer1::DataType::kHALF : nvinfer1::DataType::kFLOAT;
}

inline TensorKind kind_at(const Module& m, int position) {
  const auto inputs = inputs_of(m);
  const auto count = static_cast<int>(inputs.size());
  return position < count ? inputs[position] : outputs_of(m)[position - count];
}

inline bool counts_fit(const Module& m, int inputs, int outputs) {
  return inputs == static_cast<int>(inputs_of(m).size()) &&
         outputs == static_cast<int>(outputs_of(m).size());
}

inline void check_counts(const Module& m, int inputs, int outputs) {
  if (counts_fit(m, inputs, outputs)) return;
  throw Error(ErrorKind::model, std::string(name_of(m.kind)) + " " + m.stage + ": expected " +
                                    std::to_string(inputs_of(m).size()) + " inputs and " +
                                    std::to_string(outputs_of(m).size()) + " outputs, found " +
                                    std::to_string(inputs) + " and " + std::to_string(outputs));
}

inline bool format_fits(const Module& m, int position, const nvinfer1::PluginTensorDesc& tensor) {
  return tensor.format == nvinfer1::TensorFormat::kLINEAR &&
         tensor.type == data_type(m, kind_at(m, position));
}

inline std::vector<std::int64_t> sides_of(const nvinfer1::Dims& dims) {
  return {dims.d, dims.d + (dims.nbDims > 0 ? dims.nbDims : 0)};
}

inline void check_stream(const Module& m, const nvinfer1::Dims& dims) {
  check_stream(m, std::span<const std::int64_t>(sides_of(dims)));
}

// For the largest stream that input 0 may be.
inline std::size_t workspace_bytes(const Module& m, const nvinfer1::Dims& dims) {
  return guarded(std::size_t{0}, [&] { return workspace_bytes(m, sides_of(dims)); });
}

// Output `index` from the stream that is input 0.
inline nvinfer1::DimsExprs output_dims(const Module& m, int index,
                                       const nvinfer1::DimsExprs& stream,
                                       nvinfer1::IExprBuilder& build) {
  using nvinfer1::DimensionOperation;
  std::vector<std::int64_t> sides;
  for (int i = 0; i < stream.nbDims; ++i) {
    sides.push_back(stream.d[i]->isConstant() ? stream.d[i]->getConstantValue() : -1);
  }
  check_stream(m, std::span<const std::int64_t>(sides));
  if (outputs_of(m)[index] == TensorKind::stream) return stream;
  nvinfer1::DimsExprs packed = stream;
  const nvinfer1::IDimensionExpr& four = *build.constant(4);
  for (const int side : {1, 2}) {
    packed.d[side] = build.operation(DimensionOperation::kFLOOR_DIV, *stream.d[side], four);
  }
  packed.d[3] = build.constant(packed_words(m));
  return packed;
}

inline StreamSize size_of(const nvinfer1::PluginTensorDesc& stream) {
  return {static_cast<int>(stream.dims.d[0]), static_cast<int>(stream.dims.d[1]),
          static_cast<int>(stream.dims.d[2])};
}

// One creator for each kind of node.
template <typename Creator, typename Interface>
Interface* const* creators(std::int32_t& count) {
  static Creator lfe{Kind::lfe};
  static Creator gmsa{Kind::gmsa};
  static std::array<Interface*, 2> all{&lfe, &gmsa};
  count = static_cast<std::int32_t>(all.size());
  return all.data();
}

}  // namespace elan::plugins

// What trtexec and IPluginRegistry::loadLibrary look for, beside the flavour's creators.
extern "C" __attribute__((visibility("default"), used)) inline void setLoggerFinder(
    nvinfer1::ILoggerFinder* finder) {
  elan::plugins::Log::instance().set(finder);
}
