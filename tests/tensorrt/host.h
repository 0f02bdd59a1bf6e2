// A host for TensorRT plugins that needs no TensorRT: what the headers declare and its library
// would define. Dimensions are symbols, so that shape inference is seen as formulas.
#pragma once

#include <NvInfer.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "fields.h"

namespace elan::test {

using Constant = decltype(std::declval<const nvinfer1::IDimensionExpr&>().getConstantValue());

// "height", or a number.
class Symbol : public nvinfer1::IDimensionExpr {
 public:
  explicit Symbol(std::string text) : Symbol(std::move(text), false, -1) {}
  explicit Symbol(Constant value) : Symbol(std::to_string(value), true, value) {}
  Symbol(const Symbol&) = delete;
  Symbol& operator=(const Symbol&) = delete;
  ~Symbol() noexcept override = default;
  [[nodiscard]] const std::string& text() const { return impl_.text; }

 private:
  struct Impl : nvinfer1::apiv::VDimensionExpr {
    std::string text;
    bool constant = false;
    Constant value = -1;
    [[nodiscard]] bool isConstant() const override { return constant; }
    [[nodiscard]] Constant getConstantValue() const override { return value; }
#if NV_TENSORRT_MAJOR >= 10
    [[nodiscard]] bool isSizeTensor() const override { return false; }
#endif
  };
  Symbol(std::string text, bool constant, Constant value) {
    impl_.text = std::move(text);
    impl_.constant = constant;
    impl_.value = value;
    mImpl = &impl_;
  }
  Impl impl_;
};

inline const std::string& text_of(const nvinfer1::IDimensionExpr* dim) {
  return static_cast<const Symbol*>(dim)->text();
}

class ExprBuilder : public nvinfer1::IExprBuilder {
 public:
  ExprBuilder() { mImpl = &impl_; }
  ~ExprBuilder() noexcept override = default;
  const Symbol* symbol(const std::string& name) { return &impl_.symbols.emplace_back(name); }

 private:
  struct Impl : nvinfer1::apiv::VExprBuilder {
    std::deque<Symbol> symbols;
    const nvinfer1::IDimensionExpr* constant(Constant value) override {
      return &symbols.emplace_back(value);
    }
    const nvinfer1::IDimensionExpr* operation(nvinfer1::DimensionOperation op,
                                              const nvinfer1::IDimensionExpr& a,
                                              const nvinfer1::IDimensionExpr& b) override {
      if (op != nvinfer1::DimensionOperation::kFLOOR_DIV) return nullptr;
      if (a.isConstant() && b.isConstant())
        return constant(a.getConstantValue() / b.getConstantValue());
      return &symbols.emplace_back(text_of(&a) + "/" + text_of(&b));
    }
#if NV_TENSORRT_MAJOR >= 10
    const nvinfer1::IDimensionExpr* declareSizeTensor(int32_t, const nvinfer1::IDimensionExpr&,
                                                      const nvinfer1::IDimensionExpr&) override {
      return nullptr;
    }
#endif
  };
  Impl impl_;
};

// Remembers what plugins complain of.
class Logger : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* text) noexcept override {
    if (severity == Severity::kERROR) errors.emplace_back(text);
  }
  std::vector<std::string> errors;
};

class LoggerFinder : public nvinfer1::ILoggerFinder {
 public:
  nvinfer1::ILogger* findLogger() override { return &logger; }
  ~LoggerFinder() override = default;
  Logger logger;
};

// The library as IPluginRegistry::loadLibrary takes it.
class Library {
 public:
  explicit Library(const char* path) : handle_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) throw std::runtime_error(dlerror());
    symbol<void (*)(nvinfer1::ILoggerFinder*)>("setLoggerFinder")(&finder_);
  }
  template <typename Function>
  Function symbol(const char* name) {
    void* found = dlsym(handle_, name);
    if (found == nullptr) throw std::runtime_error(name);
    return reinterpret_cast<Function>(found);
  }
  std::vector<std::string>& errors() { return finder_.logger.errors; }

 private:
  void* handle_;  // for the process's life, as in TensorRT
  LoggerFinder finder_;
};

// Fields as TensorRT passes them.
class Collection {
 public:
  explicit Collection(const NodeFields& from) {
    for (const plugins::Field& f : from.get()) {
      const auto type = f.type == plugins::FieldType::f32    ? nvinfer1::PluginFieldType::kFLOAT32
                        : f.type == plugins::FieldType::text ? nvinfer1::PluginFieldType::kCHAR
                        : f.type == plugins::FieldType::i32  ? nvinfer1::PluginFieldType::kINT32
                        : f.type == plugins::FieldType::i8   ? nvinfer1::PluginFieldType::kINT8
                                                             : nvinfer1::PluginFieldType::kDIMS;
      names_.emplace_back(f.name);
      fields_.emplace_back(names_.back().c_str(), f.data, type, static_cast<int32_t>(f.length));
    }
    collection_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
  }
  [[nodiscard]] const nvinfer1::PluginFieldCollection* get() const { return &collection_; }

 private:
  std::deque<std::string> names_;
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
};

inline nvinfer1::DimsExprs exprs(std::vector<const nvinfer1::IDimensionExpr*> dims) {
  nvinfer1::DimsExprs result{};
  result.nbDims = static_cast<int32_t>(dims.size());
  std::copy(dims.begin(), dims.end(), result.d);
  return result;
}

inline std::vector<std::string> texts(const nvinfer1::DimsExprs& dims) {
  std::vector<std::string> result;
  for (int i = 0; i < dims.nbDims; ++i) result.push_back(text_of(dims.d[i]));
  return result;
}

inline nvinfer1::Dims dims_of(std::vector<int> sides) {
  nvinfer1::Dims dims{};
  dims.nbDims = static_cast<int32_t>(sides.size());
  std::copy(sides.begin(), sides.end(), dims.d);
  return dims;
}

inline nvinfer1::PluginTensorDesc tensor(
    nvinfer1::DataType type, nvinfer1::TensorFormat format = nvinfer1::TensorFormat::kLINEAR) {
  nvinfer1::PluginTensorDesc desc{};
  desc.dims = dims_of({1, 16, 32, 64});
  desc.type = type;
  desc.format = format;
  return desc;
}

using Strings = std::vector<std::string>;

constexpr const char* kLfeStage = "body.1.lfe.0";
constexpr const char* kGmsaStage = "body.1.gmsa.0";

inline const PluginGraph& light_graph() {
  static const PluginGraph graph("elan_light_x4");
  return graph;
}

inline const PluginGraph& int8_graph() {
  static const PluginGraph graph("elan_int8_x4", Precision::int8);
  return graph;
}

}  // namespace elan::test
