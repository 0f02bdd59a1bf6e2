// Compiled once for each of TensorRT's interfaces, with its headers and with its namespaces renamed
// (ELAN_FLAVOUR says to what), so that several fit into one program: TensorRT is reached through
// a few C functions and through virtual functions, whose names do not count.
#include "tensorrt/flavour.h"

#include <NvInfer.h>
#include <NvOnnxParser.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "elan/error.h"

#if NV_TENSORRT_MAJOR == 8
#include <dlfcn.h>

#include <initializer_list>
#include <optional>

#include "cuda/device.h"
#include "tensorrt/calibrator.h"
#include "tensorrt/layer_precision.h"
#endif

// NOLINTBEGIN(cppcoreguidelines-macro-usage): pastes the flavour into a name
#define ELAN_PASTE2(a, b) a##b
#define ELAN_PASTE(a, b) ELAN_PASTE2(a, b)
#define ELAN_MAKE ELAN_PASTE(make_flavour_, ELAN_FLAVOUR)
// NOLINTEND(cppcoreguidelines-macro-usage)

namespace elan::tensorrt {
namespace {

#if defined(TRT_MAJOR_RTX)
constexpr bool kRtx = true;
#else
constexpr bool kRtx = false;
#endif

// Keeps what TensorRT complains of, for the error that follows. ELANSR_TENSORRT_LOG shows all that
// it says up to information.
class Logger : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* text) noexcept override {
    if (shown_ && severity <= Severity::kINFO) std::fprintf(stderr, "tensorrt: %s\n", text);
    if (severity > Severity::kERROR) return;
    try {
      const std::lock_guard lock(mutex_);
      if (!errors_.empty()) return;  // the first one is the cause
      errors_ = text;
      for (char& c : errors_) {
        if (c == '\n') c = ' ';
      }
    } catch (...) {  // NOLINT(bugprone-empty-catch): out of memory, no text
    }
  }
  [[noreturn]] void fail(ErrorKind kind, const std::string& what) {
    const std::lock_guard lock(mutex_);
    const std::string found = errors_.empty() ? "no reason given" : errors_;
    errors_.clear();
    throw Error(kind, "tensorrt: " + what + ": " + found);
  }
  void forget() {
    const std::lock_guard lock(mutex_);
    errors_.clear();
  }

 private:
  const bool shown_ = std::getenv("ELANSR_TENSORRT_LOG") != nullptr;
  std::mutex mutex_;
  std::string errors_;
};

#if NV_TENSORRT_MAJOR >= 10 || defined(TRT_MAJOR_RTX)
class Monitor : public nvinfer1::IProgressMonitor {
 public:
  explicit Monitor(const BuildInput& input) : input_(input) {}
  // The outermost phase tells how far the build is; those inside it only come and go.
  void phaseStart(const char* phase, const char* parent, int32_t steps) noexcept override {
    guarded([&] {
      if (parent != nullptr) return;
      outermost_ = phase;
      steps_ = steps;
      if (input_.progress) input_.progress(outermost_, 0, steps_);
    });
  }
  bool stepComplete(const char* phase, int32_t step) noexcept override {
    guarded([&] {
      if (outermost_ == phase && input_.progress) input_.progress(outermost_, step + 1, steps_);
    });
    return !input_.stop.stop_requested();
  }
  void phaseFinish(const char*) noexcept override {}

 private:
  template <typename Work>
  void guarded(Work work) noexcept {
    try {
      const std::lock_guard lock(mutex_);  // phases may be told from several threads
      work();
    } catch (...) {  // NOLINT(bugprone-empty-catch): a failing display ends no build
    }
  }

  const BuildInput& input_;
  std::mutex mutex_;
  std::string outermost_;
  int steps_ = 0;
};
#endif

template <typename T>
std::unique_ptr<T> take(void* object) {
  return std::unique_ptr<T>(static_cast<T*>(object));
}

class Running : public RunningEngine {
 public:
  Running(std::shared_ptr<Logger> logger, std::unique_ptr<nvinfer1::IRuntime> runtime,
          std::span<const std::byte> plan)
      : logger_(std::move(logger)), runtime_(std::move(runtime)) {
    engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
    if (!engine_) logger_->fail(ErrorKind::model, "the plan was refused");
    context_.reset(engine_->createExecutionContext());
    if (!context_) logger_->fail(ErrorKind::device, "no room to run the plan");
  }

  [[nodiscard]] std::size_t device_bytes() const override {
#if NV_TENSORRT_MAJOR >= 10 || defined(TRT_MAJOR_RTX)
    return static_cast<std::size_t>(engine_->getDeviceMemorySizeV2());
#else
    return engine_->getDeviceMemorySize();
#endif
  }

  void enqueue(const float* input, float* output, int batch, int height, int width,
               cudaStream_t stream) override {
    nvinfer1::Dims dims{};
    dims.nbDims = 4;
    dims.d[0] = batch;
    dims.d[1] = 3;
    dims.d[2] = height;
    dims.d[3] = width;
    const bool good = context_->setInputShape("input", dims) &&
                      context_->setTensorAddress("input", const_cast<float*>(input)) &&
                      context_->setTensorAddress("output", output) && context_->enqueueV3(stream);
    if (!good) logger_->fail(ErrorKind::device, "the engine did not run");
  }

 private:
  std::shared_ptr<Logger> logger_;  // outlives what logs to it
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
};

class Implementation : public Flavour {
 public:
  explicit Implementation(const Library& library) : library_(library) {}

  std::vector<std::byte> build(const BuildInput& input) override {
    using namespace nvinfer1;
    if (library_.create_parser == nullptr) {
      throw Error(ErrorKind::device, std::string("tensorrt: expected its ONNX parser ") +
                                         library_.flavour->parser + ", found none");
    }
    auto builder = take<IBuilder>(library_.create_builder(logger_.get(), library_.number));
    if (!builder) logger_->fail(ErrorKind::device, "no builder");
    if (!input.plugins.empty()) load_plugins(input.plugins);
    auto network = std::unique_ptr<INetworkDefinition>(builder->createNetworkV2(network_flags()));
    if (!network) logger_->fail(ErrorKind::device, "no network");
    auto parser = take<nvonnxparser::IParser>(
        library_.create_parser(network.get(), logger_.get(), NV_ONNX_PARSER_VERSION));
    if (!parser || !parser->parse(input.onnx.data(), input.onnx.size())) {
      const std::string text =
          parser && parser->getNbErrors() > 0 ? parser->getError(0)->desc() : "no parser";
      logger_->fail(ErrorKind::model, "the graph was refused (" + text + ")");
    }
    auto config = std::unique_ptr<IBuilderConfig>(builder->createBuilderConfig());
    const PrecisionPlan& plan_of_precisions = input.options.precision;
    if (!plan_of_precisions.uniform() ||
        plan_of_precisions.default_precision() == Precision::fp32) {
      config->clearFlag(BuilderFlag::kTF32);
    }
    config->setBuilderOptimizationLevel(input.options.effort);
    [[maybe_unused]] const IOptimizationProfile* profile =
        add_profile(input.options.profile, *builder, *config);
#if NV_TENSORRT_MAJOR == 8
    set_precisions(input.options, *network, *config);
    config->setTacticSources(usable_sources(config->getTacticSources()));
    cuda::DeviceBuffer picture;
    std::optional<Calibrator> calibrator;
    if (input.options.calibration) {
      const Calibration& data = *input.options.calibration;
      calibrator.emplace(
          data.pictures.size(), [&](std::size_t k) { return feed(input, k, picture); },
          *input.scales);
      config->setFlag(BuilderFlag::kINT8);
      config->setInt8Calibrator(&*calibrator);
      if (profile != nullptr) config->setCalibrationProfile(profile);
    }
#endif
#if !defined(TRT_MAJOR_RTX)
    std::unique_ptr<ITimingCache> cache;
    if (input.timing_cache != nullptr) {
      cache.reset(
          config->createTimingCache(input.timing_cache->data(), input.timing_cache->size()));
      if (cache) config->setTimingCache(*cache, false);
    }
#endif
#if NV_TENSORRT_MAJOR >= 10 || defined(TRT_MAJOR_RTX)
    Monitor monitor(input);
    config->setProgressMonitor(&monitor);
#else
    if (input.progress) input.progress("Building", 0, 0);
#endif
    logger_->forget();
    const std::unique_ptr<IHostMemory> plan(builder->buildSerializedNetwork(*network, *config));
    if (input.stop.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled");
#if NV_TENSORRT_MAJOR == 8
    if (calibrator) calibrator->rethrow_failure();
#endif
    if (!plan) logger_->fail(ErrorKind::device, "the engine was not built");
#if !defined(TRT_MAJOR_RTX)
    if (input.timing_cache != nullptr && config->getTimingCache() != nullptr) {
      const std::unique_ptr<IHostMemory> times(config->getTimingCache()->serialize());
      if (times) *input.timing_cache = copy_of(*times);
    }
#endif
    return copy_of(*plan);
  }

  std::unique_ptr<RunningEngine> load(std::span<const std::byte> plan,
                                      const std::filesystem::path& plugins) override {
    auto runtime =
        take<nvinfer1::IRuntime>(library_.create_runtime(logger_.get(), library_.number));
    if (!runtime) logger_->fail(ErrorKind::device, "no runtime");
    if (!plugins.empty()) load_plugins(plugins);
    return std::make_unique<Running>(logger_, std::move(runtime), plan);
  }

 private:
  static std::vector<std::byte> copy_of(const nvinfer1::IHostMemory& memory) {
    const auto* data = static_cast<const std::byte*>(memory.data());
    return {data, data + memory.size()};
  }

  static nvinfer1::NetworkDefinitionCreationFlags network_flags() {
#if NV_TENSORRT_MAJOR >= 11
    return 0;  // always strongly typed
#elif NV_TENSORRT_MAJOR == 10 || defined(TRT_MAJOR_RTX)
    return 1U << static_cast<unsigned>(nvinfer1::NetworkDefinitionCreationFlag::kSTRONGLY_TYPED);
#else
    return 1U << static_cast<unsigned>(nvinfer1::NetworkDefinitionCreationFlag::kEXPLICIT_BATCH);
#endif
  }

#if NV_TENSORRT_MAJOR == 8
  // Strongly typed networks have their precisions already. 8.6 has flags, and wishes for each
  // layer.
  static void set_precisions(const BuildOptions& options, nvinfer1::INetworkDefinition& network,
                             nvinfer1::IBuilderConfig& config) {
    using namespace nvinfer1;
    // Of the plugins' types, only a stream in FP16 needs a flag.
    const bool half_stream = options.precision.default_precision() == Precision::int8;
    if (options.plugins && !half_stream) return;
    bool half = options.loose || options.plugins;
    for (int i = 0; i < network.getNbLayers(); ++i) {
      ILayer& layer = *network.getLayer(i);
      const LayerType type = layer.getType();
      if (type == LayerType::kQUANTIZE) config.setFlag(BuilderFlag::kINT8);
      if (options.loose || options.calibration || !computes(type)) continue;
      const std::optional<Precision> wish = layer_precision(layer.getName(), options.precision);
      if (!wish) continue;
      half = half || *wish == Precision::fp16;
      layer.setPrecision(*wish == Precision::fp16 ? DataType::kHALF : DataType::kFLOAT);
    }
    if (half) config.setFlag(BuilderFlag::kFP16);
    if (!options.loose) config.setFlag(BuilderFlag::kPREFER_PRECISION_CONSTRAINTS);
  }

  // The calibration's picture `k` in `buffer`; null: nobody waits for it any more.
  static void* feed(const BuildInput& input, std::size_t k, cuda::DeviceBuffer& buffer) {
    const Calibration& data = *input.options.calibration;
    const std::vector<float>& picture = data.pictures[k];
    const std::size_t bytes = picture.size() * sizeof(float);
    if (input.stop.stop_requested()) return nullptr;
    if (input.progress) {
      input.progress("Calibrating", static_cast<int>(k), static_cast<int>(data.pictures.size()));
    }
    buffer.reserve(bytes);
    if (data.copied) ELAN_CUDA(cudaMemcpy(buffer.data(), picture.data(), bytes, cudaMemcpyDefault));
    return buffer.data();
  }

  static bool computes(nvinfer1::LayerType type) {
    using nvinfer1::LayerType;
    return type == LayerType::kCONVOLUTION || type == LayerType::kMATRIX_MULTIPLY ||
           type == LayerType::kSOFTMAX || type == LayerType::kELEMENTWISE;
  }

  // 8.6 is linked with cuBLAS and cuDNN, but runs without them if it is told not to use them.
  // Libraries of these names that lack the functions only satisfied the loader.
  static nvinfer1::TacticSources usable_sources(nvinfer1::TacticSources sources) {
    using nvinfer1::TacticSource;
    const auto without = [&sources](std::initializer_list<TacticSource> which) {
      for (const TacticSource source : which) sources &= ~(1U << static_cast<unsigned>(source));
    };
    if (!has_function("libcublas.so.12", "cublasCreate_v2")) {
      without({TacticSource::kCUBLAS, TacticSource::kCUBLAS_LT});
    }
    if (!has_function("libcudnn.so.8", "cudnnCreate")) without({TacticSource::kCUDNN});
    return sources;
  }

  static bool has_function(const char* library, const char* name) {
    void* handle = dlopen(library, RTLD_NOW);
    return handle != nullptr && dlsym(handle, name) != nullptr;
  }
#endif

  // Null where the graph has the size.
  const nvinfer1::IOptimizationProfile* add_profile(const Profile& profile,
                                                    nvinfer1::IBuilder& builder,
                                                    nvinfer1::IBuilderConfig& config) {
    using namespace nvinfer1;
    if (profile.in_graph()) return nullptr;
    IOptimizationProfile& p = *builder.createOptimizationProfile();
    const auto set = [&](OptProfileSelector which, const PictureSize& size, int batch) {
      Dims dims{};
      dims.nbDims = 4;
      dims.d[0] = batch;
      dims.d[1] = 3;
      dims.d[2] = size.height;
      dims.d[3] = size.width;
      if (!p.setDimensions("input", which, dims)) {
        logger_->fail(ErrorKind::device, "the sizes were refused");
      }
    };
    set(OptProfileSelector::kMIN, profile.least, 1);
    set(OptProfileSelector::kOPT, profile.best, 1);
    set(OptProfileSelector::kMAX, profile.most, profile.batch);
    if (config.addOptimizationProfile(&p) < 0) {
      logger_->fail(ErrorKind::device, "the sizes were refused");
    }
    return &p;
  }

  // Into the process's registry, where every builder, parser and runtime looks after its own.
  void load_plugins(const std::filesystem::path& path) {
    if (kRtx || library_.plugin_registry == nullptr) {
      throw Error(ErrorKind::usage,
                  "--plugins: expected TensorRT, found TensorRT-RTX, which takes none");
    }
    static std::mutex mutex;
    static bool loaded = false;  // a second time the registry knows them already
    const std::lock_guard lock(mutex);
    if (loaded) return;
    auto& registry = *static_cast<nvinfer1::IPluginRegistry*>(library_.plugin_registry());
    if (!add_library(registry, path.c_str())) {
      logger_->fail(ErrorKind::device, path.string() + " could not be loaded");
    }
    loaded = true;
  }

#if NV_TENSORRT_MAJOR == 8
  // What IPluginRegistry::loadLibrary() does, which is not at the same place of the interface in
  // 8.6.0 and 8.6.1. Errors go to the logger of the first that loads plugins.
  bool add_library(nvinfer1::IPluginRegistry& registry, const char* path) {
    class Finder : public nvinfer1::ILoggerFinder {
     public:
      explicit Finder(std::shared_ptr<Logger> logger) : logger_(std::move(logger)) {}
      nvinfer1::ILogger* findLogger() override { return logger_.get(); }

     private:
      std::shared_ptr<Logger> logger_;
    };
    static Finder finder(logger_);
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      logger_->log(nvinfer1::ILogger::Severity::kERROR, dlerror());
      return false;
    }
    using Creators = nvinfer1::IPluginCreator* const* (*)(int32_t&);
    const auto creators = reinterpret_cast<Creators>(dlsym(library, "getPluginCreators"));
    using SetFinder = void (*)(nvinfer1::ILoggerFinder*);
    const auto set_finder = reinterpret_cast<SetFinder>(dlsym(library, "setLoggerFinder"));
    if (creators == nullptr || set_finder == nullptr) return false;
    set_finder(&finder);
    int32_t count = 0;
    nvinfer1::IPluginCreator* const* list = creators(count);
    bool good = count > 0;
    for (int32_t i = 0; i < count; ++i) {
      good = registry.registerCreator(*list[i], list[i]->getPluginNamespace()) && good;
    }
    return good;
  }
#else
  static bool add_library(nvinfer1::IPluginRegistry& registry, const char* path) {
    return registry.loadLibrary(path) != nullptr;
  }
#endif

  Library library_;
  std::shared_ptr<Logger> logger_ = std::make_shared<Logger>();
};

}  // namespace

std::unique_ptr<Flavour> ELAN_MAKE(const Library& library) {
  return std::make_unique<Implementation>(library);
}

}  // namespace elan::tensorrt
