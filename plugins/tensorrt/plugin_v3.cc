// ElanLFE and ElanGMSA for TensorRT 10 and 11: IPluginV3.
#include "elan/error.h"
#include "flavour.h"

namespace elan::plugins {
namespace {

using namespace nvinfer1;

constexpr const char* kSerialField = "module";

class Plugin : public IPluginV3,
               public IPluginV3OneCore,
               public IPluginV3OneBuild,
               public IPluginV3OneRuntime {
 public:
  explicit Plugin(std::shared_ptr<SharedModule> shared) : shared_(std::move(shared)) {}

  IPluginCapability* getCapabilityInterface(PluginCapabilityType type) noexcept override {
    switch (type) {
      case PluginCapabilityType::kCORE:
        return static_cast<IPluginV3OneCore*>(this);
      case PluginCapabilityType::kBUILD:
        return static_cast<IPluginV3OneBuild*>(this);
      case PluginCapabilityType::kRUNTIME:
        return static_cast<IPluginV3OneRuntime*>(this);
    }
    return nullptr;
  }
  Plugin* clone() noexcept override {
    return guarded<Plugin*>(nullptr, [&] { return std::make_unique<Plugin>(shared_).release(); });
  }

  const char* getPluginName() const noexcept override { return name_of(module().kind); }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

  int32_t getNbOutputs() const noexcept override {
    return static_cast<int32_t>(outputs_of(module()).size());
  }
  int32_t configurePlugin(const DynamicPluginTensorDesc* in, int32_t inputs,
                          const DynamicPluginTensorDesc*, int32_t outputs) noexcept override {
    return guarded(1, [&] {
      check_counts(inputs, outputs);
      for (const Dims& dims : {in[0].desc.dims, in[0].min, in[0].max}) check_stream(module(), dims);
      return 0;
    });
  }
  bool supportsFormatCombination(int32_t position, const DynamicPluginTensorDesc* tensors,
                                 int32_t inputs, int32_t outputs) noexcept override {
    return counts_fit(module(), inputs, outputs) &&
           format_fits(module(), position, tensors[position].desc);
  }
  int32_t getOutputDataTypes(DataType* types, int32_t outputs, const DataType*,
                             int32_t inputs) const noexcept override {
    return guarded(1, [&] {
      check_counts(inputs, outputs);
      for (int i = 0; i < outputs; ++i) types[i] = data_type(module(), outputs_of(module())[i]);
      return 0;
    });
  }
  int32_t getOutputShapes(const DimsExprs* in, int32_t inputs, const DimsExprs*, int32_t,
                          DimsExprs* out, int32_t outputs, IExprBuilder& build) noexcept override {
    return guarded(1, [&] {
      check_counts(inputs, outputs);
      for (int i = 0; i < outputs; ++i) out[i] = output_dims(module(), i, in[0], build);
      return 0;
    });
  }

  size_t getWorkspaceSize(const DynamicPluginTensorDesc* in, int32_t,
                          const DynamicPluginTensorDesc*, int32_t) const noexcept override {
    return workspace_bytes(module(), in[0].max);
  }

  int32_t onShapeChange(const PluginTensorDesc* in, int32_t inputs, const PluginTensorDesc*,
                        int32_t outputs) noexcept override {
    return guarded(1, [&] {
      check_counts(inputs, outputs);
      check_stream(module(), in[0].dims);
      return 0;
    });
  }
  int32_t enqueue(const PluginTensorDesc* in, const PluginTensorDesc*, const void* const* inputs,
                  void* const* outputs, void* workspace, cudaStream_t stream) noexcept override {
    return guarded(1, [&] {
      if (!device_) device_ = shared_->on_device();
      plugins::enqueue(*device_, size_of(in[0]), inputs, outputs, workspace, stream);
      return 0;
    });
  }
  IPluginV3* attachToContext(IPluginResourceContext*) noexcept override {
    return guarded<IPluginV3*>(nullptr, [&] {
      auto attached = std::make_unique<Plugin>(shared_);
      attached->device_ = shared_->on_device();  // not while a stream is captured
      return attached.release();
    });
  }
  const PluginFieldCollection* getFieldsToSerialize() noexcept override {
    return guarded<const PluginFieldCollection*>(nullptr, [&] {
      bytes_ = serialise(module());
      field_ = {kSerialField, bytes_.data(), PluginFieldType::kCHAR,
                static_cast<int32_t>(bytes_.size())};
      collection_ = {1, &field_};
      return &collection_;
    });
  }

 private:
  [[nodiscard]] const Module& module() const { return shared_->module(); }
  void check_counts(int inputs, int outputs) const {
    plugins::check_counts(module(), inputs, outputs);
  }

  std::shared_ptr<SharedModule> shared_;
  std::shared_ptr<DeviceModule> device_;
  std::vector<std::byte> bytes_;
  PluginField field_;
  PluginFieldCollection collection_{};
};

class Creator : public IPluginCreatorV3One {
 public:
  explicit Creator(Kind kind) : kind_(kind), names_(kind) {}
  Creator(const Creator&) = delete;
  Creator& operator=(const Creator&) = delete;

  const char* getPluginName() const noexcept override { return name_of(kind_); }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }
  const PluginFieldCollection* getFieldNames() noexcept override { return names_.get(); }

  // In an engine's plan the one field holds the bytes of serialise(); otherwise the fields are
  // those of an ONNX node.
  IPluginV3* createPlugin(const char*, const PluginFieldCollection* given,
                          TensorRTPhase phase) noexcept override {
    return guarded<IPluginV3*>(nullptr, [&] {
      Module module =
          phase == TensorRTPhase::kRUNTIME ? from_plan(given) : module_from(kind_, given);
      return std::make_unique<Plugin>(std::make_shared<SharedModule>(std::move(module))).release();
    });
  }

 private:
  [[nodiscard]] Module from_plan(const PluginFieldCollection* given) const {
    for (int i = 0; given != nullptr && i < given->nbFields; ++i) {
      const PluginField& f = given->fields[i];
      if (std::string_view(f.name) != kSerialField || f.length < 0) continue;
      return deserialise(
          kind_, {static_cast<const std::byte*>(f.data), static_cast<std::size_t>(f.length)});
    }
    throw Error(ErrorKind::model, std::string(name_of(kind_)) + ": expected field " + kSerialField +
                                      " in the plan, found none");
  }

  Kind kind_;
  FieldNames names_;
};

}  // namespace
}  // namespace elan::plugins

extern "C" __attribute__((visibility("default"))) nvinfer1::IPluginCreatorInterface* const*
getCreators(int32_t& count) {  // NOLINT(readability-identifier-naming): TensorRT's
  return elan::plugins::creators<elan::plugins::Creator, nvinfer1::IPluginCreatorInterface>(count);
}
