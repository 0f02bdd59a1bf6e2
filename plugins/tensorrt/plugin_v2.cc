// ElanLFE and ElanGMSA for TensorRT 8.6: IPluginV2DynamicExt.
#include <cstring>

#include "flavour.h"

namespace elan::plugins {
namespace {

using namespace nvinfer1;

class Plugin : public IPluginV2DynamicExt {
 public:
  explicit Plugin(std::shared_ptr<SharedModule> shared)
      : shared_(std::move(shared)), bytes_(serialise(shared_->module())) {}

  IPluginV2DynamicExt* clone() const noexcept override {
    return guarded<IPluginV2DynamicExt*>(nullptr, [&] {
      auto copy = std::make_unique<Plugin>(shared_);
      copy->device_ = device_;
      copy->namespace_ = namespace_;
      return copy.release();
    });
  }
  void destroy() noexcept override { delete this; }

  const char* getPluginType() const noexcept override { return name_of(module().kind); }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  void setPluginNamespace(const char* name) noexcept override {
    guarded(0, [&] {
      namespace_ = name != nullptr ? name : "";
      return 0;
    });
  }
  const char* getPluginNamespace() const noexcept override { return namespace_.c_str(); }

  int32_t getNbOutputs() const noexcept override {
    return static_cast<int32_t>(outputs_of(module()).size());
  }
  DataType getOutputDataType(int32_t index, const DataType*, int32_t) const noexcept override {
    return data_type(module(), outputs_of(module())[index]);
  }
  DimsExprs getOutputDimensions(int32_t index, const DimsExprs* in, int32_t inputs,
                                IExprBuilder& build) noexcept override {
    return guarded(DimsExprs{-1, {}}, [&] {
      check_counts(inputs);
      return output_dims(module(), index, in[0], build);
    });
  }
  bool supportsFormatCombination(int32_t position, const PluginTensorDesc* tensors, int32_t inputs,
                                 int32_t outputs) noexcept override {
    return counts_fit(module(), inputs, outputs) &&
           format_fits(module(), position, tensors[position]);
  }
  void configurePlugin(const DynamicPluginTensorDesc* in, int32_t inputs,
                       const DynamicPluginTensorDesc*, int32_t) noexcept override {
    guarded(0, [&] {
      check_counts(inputs);
      for (const Dims& dims : {in[0].desc.dims, in[0].min, in[0].max}) check_stream(module(), dims);
      return 0;
    });
  }
  size_t getWorkspaceSize(const PluginTensorDesc* in, int32_t, const PluginTensorDesc*,
                          int32_t) const noexcept override {
    return workspace_bytes(module(), in[0].dims);
  }

  int32_t initialize() noexcept override {
    return guarded(1, [&] {
      device_ = shared_->on_device();
      return 0;
    });
  }
  void terminate() noexcept override { device_.reset(); }
  int32_t enqueue(const PluginTensorDesc* in, const PluginTensorDesc*, const void* const* inputs,
                  void* const* outputs, void* workspace, cudaStream_t stream) noexcept override {
    return guarded(1, [&] {
      check_stream(module(), in[0].dims);
      if (!device_) device_ = shared_->on_device();
      plugins::enqueue(*device_, size_of(in[0]), inputs, outputs, workspace, stream);
      return 0;
    });
  }

  size_t getSerializationSize() const noexcept override { return bytes_.size(); }
  void serialize(void* buffer) const noexcept override {
    std::memcpy(buffer, bytes_.data(), bytes_.size());
  }

 private:
  [[nodiscard]] const Module& module() const { return shared_->module(); }
  // The interface does not always say how many outputs the host has, but cannot have others.
  void check_counts(int inputs) const { plugins::check_counts(module(), inputs, getNbOutputs()); }

  std::shared_ptr<SharedModule> shared_;
  std::shared_ptr<DeviceModule> device_;
  std::vector<std::byte> bytes_;
  std::string namespace_ = kNamespace;
};

class Creator : public IPluginCreator {
 public:
  explicit Creator(Kind kind) : kind_(kind), names_(kind) {}
  Creator(const Creator&) = delete;
  Creator& operator=(const Creator&) = delete;

  const char* getPluginName() const noexcept override { return name_of(kind_); }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const PluginFieldCollection* getFieldNames() noexcept override { return names_.get(); }
  // The namespace is part of the field contract and stays what it is, whatever a registry says.
  void setPluginNamespace(const char*) noexcept override {}
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

  IPluginV2* createPlugin(const char*, const PluginFieldCollection* given) noexcept override {
    return guarded<IPluginV2*>(nullptr, [&] { return make(module_from(kind_, given)); });
  }
  IPluginV2* deserializePlugin(const char*, const void* data, size_t size) noexcept override {
    return guarded<IPluginV2*>(nullptr, [&] {
      return make(deserialise(kind_, {static_cast<const std::byte*>(data), data ? size : 0}));
    });
  }

 private:
  static IPluginV2* make(Module module) {
    return std::make_unique<Plugin>(std::make_shared<SharedModule>(std::move(module))).release();
  }

  Kind kind_;
  FieldNames names_;
};

}  // namespace
}  // namespace elan::plugins

extern "C" __attribute__((visibility("default"))) nvinfer1::IPluginCreator* const*
getPluginCreators(int32_t& count) {  // NOLINT(readability-identifier-naming): TensorRT's
  return elan::plugins::creators<elan::plugins::Creator, nvinfer1::IPluginCreator>(count);
}
