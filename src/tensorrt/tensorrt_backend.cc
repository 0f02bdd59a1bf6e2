#include "tensorrt/tensorrt_backend.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <optional>

#include "cuda/cuda_backend.h"
#include "cuda/device.h"
#include "elan/error.h"
#include "model/stages.h"
#include "tensorrt/convert.h"
#include "tensorrt/flavour.h"
#include "tensorrt/plan_file.h"

namespace elan::tensorrt {
namespace fs = std::filesystem;
namespace {

using cuda::DeviceBuffer;
using cuda::PinnedBuffer;
using cuda::UseDevice;

// TensorRT on one device.
struct Opened {
  Library library;
  std::unique_ptr<Flavour> flavour;
  Runtime runtime;
};

// TensorRT 8.6 crashes where there is no device, so that is looked at first.
Opened open(int device_index) {
  Library library = open_library(compiled_flavours());
  const cuda::DeviceInfo info = cuda::open_device(device_index);
  Opened opened;
  opened.runtime = {library.flavour->name, library.version,
                    info.name + ", sm_" + std::to_string(info.major) + std::to_string(info.minor)};
  opened.flavour = make_flavour(library);
  opened.library = std::move(library);
  return opened;
}

// The plugin library beside the program, or where ELANSR_TENSORRT_PLUGINS says.
fs::path find_plugins(const Library& library) {
  const std::string name = std::string("libelan_sr_trt_plugins_") + library.flavour->name + ".so";
  if (const char* named = std::getenv("ELANSR_TENSORRT_PLUGINS")) {
    if (fs::exists(named)) return named;
    throw Error(
        ErrorKind::device,
        "plugins: expected a file at ELANSR_TENSORRT_PLUGINS, found none at " + std::string(named));
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error).parent_path();
  const fs::path places[] = {program / name, program / ".." / ELANSR_LIBRARY_FOLDER / name,
                             program / ".." / "plugins" / "tensorrt" / name};
  for (const fs::path& place : places) {
    if (fs::exists(place)) return fs::weakly_canonical(place);
  }
  throw Error(ErrorKind::device, "plugins: expected " + name + " in " + program.string() +
                                     " or its library folder, found none; ELANSR_TENSORRT_PLUGINS "
                                     "may name it");
}

// Timing caches are kept like plans, described by what they depend on.
fs::path timing_path(const Runtime& runtime) {
  return cache_folder() /
         ("timing-" + key_of(runtime.flavour + runtime.version + runtime.gpu) + ".cache");
}

std::vector<std::byte> read_timing(const Runtime& runtime, const Warning& warning) {
  const fs::path path = timing_path(runtime);
  if (!fs::exists(path)) return {};
  try {
    return read_plan(path).plan;
  } catch (const Error& error) {
    if (warning) warning(std::string(error.what()) + "; starting a new one");
    return {};
  }
}

// 8.6 finds out for itself what a loose or calibrated engine computes in. TF32 is a flag, not a
// type, but for plugins.
PrecisionPlan graph_precision(const BuildOptions& options) {
  const Precision first = options.precision.default_precision();
  const bool free = options.calibration || (options.loose && first == Precision::fp16);
  const bool flag = first == Precision::tf32 && options.precision.uniform() && !options.plugins;
  if (free || flag) return Precision::fp32;
  return options.precision;
}

void check(const BuildOptions& options, const Model& model, const Opened& opened) {
  if (opened.runtime.flavour != "8") {
    if (options.calibration == nullptr && !options.loose) return;
    throw Error(ErrorKind::usage, std::string(options.loose ? "--loose" : "--calibrate") +
                                      ": expected TensorRT 8.6, found " + opened.runtime.version +
                                      ", which takes precisions and scales from the graph");
  }
  for (const std::string& operation : operation_names(model.architecture())) {
    if (options.precision.at(operation) != Precision::fp8) continue;
    throw Error(ErrorKind::usage, "precision fp8: expected TensorRT 10 or later, found 8.6");
  }
}

// What the cache has for a description; nothing, with a warning, if it is bad.
std::optional<PlanFile> from_cache(const fs::path& path, const std::string& description,
                                   const Warning& warning) {
  if (!fs::exists(path)) return std::nullopt;
  try {
    PlanFile file = read_plan(path);
    if (file.description == description) return file;
    if (warning) warning(path.string() + ": expected another engine; building it again");
  } catch (const Error& error) {
    if (warning) warning(std::string(error.what()) + "; building it again");
  }
  return std::nullopt;
}

BuildInput input_for(const Opened& opened, const Model& model, const BuildOptions& options,
                     const BuildContext& context) {
  OnnxOptions onnx;
  if (options.profile.in_graph()) onnx.size = options.profile.best;
  onnx.precision = graph_precision(options);
  onnx.plugins = options.plugins;
  BuildInput input;
  input.onnx = onnx_model(model, onnx);
  input.options = options;
  if (options.plugins) input.plugins = find_plugins(opened.library);
  input.progress = context.progress;
  input.stop = context.stop;
  return input;
}

// What TensorRT's calibrator finds: kept like a plan, for engines of other sizes, precisions beside
// it and efforts. An engine has to be built to find it, which is of no use otherwise.
std::vector<std::byte> scales_for(Opened& opened, const Model& model, const BuildOptions& wanted,
                                  const BuildContext& context) {
  const BuildOptions options = calibrating(wanted);
  const std::string description = describe(model.fingerprint(), options, opened.runtime);
  const fs::path path = cache_folder() / ("calibration-" + key_of(description) + ".cache");
  if (!context.again) {
    if (auto cached = from_cache(path, description, context.warning)) return cached->plan;
  }
  std::vector<std::byte> scales;
  BuildInput input = input_for(opened, model, options, context);
  input.scales = &scales;
  opened.flavour->build(input);
  if (scales.empty()) throw Error(ErrorKind::device, "tensorrt: the calibrator found no scales");
  write_plan(path, {description, scales});
  return scales;
}

Built build(Opened& opened, const Model& model, const BuildOptions& options, const fs::path& path,
            const BuildContext& context) {
  const auto begin = std::chrono::steady_clock::now();
  check(options, model, opened);
  std::vector<std::byte> scales;
  if (options.calibration) scales = scales_for(opened, model, options, context);
  BuildInput input = input_for(opened, model, options, context);
  input.scales = &scales;
  std::vector<std::byte> timing = read_timing(opened.runtime, context.warning);
  input.timing_cache = &timing;
  PlanFile file;
  file.description = describe(model.fingerprint(), options, opened.runtime);
  file.plan = opened.flavour->build(input);
  write_plan(path, file);
  if (!timing.empty()) {
    write_plan(timing_path(opened.runtime), {"timing: " + opened.runtime.gpu + "\n", timing});
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  return {path, fs::file_size(path), took.count(), file.description};
}

fs::path cached_path(const Opened& opened, const Model& model, const BuildOptions& options) {
  const std::string description = describe(model.fingerprint(), options, opened.runtime);
  return cache_folder() / (key_of(description) + ".plan");
}

class Implementation : public Backend {
 public:
  Implementation(const Model& model, Opened opened, const fs::path& path, const PlanFile& file,
                 int device)
      : model_(model),
        opened_(std::move(opened)),
        profile_(profile_of(path, file)),
        device_(device),
        precision_(precision_of(path, file)),
        plugins_(file.value("plugins") != "none") {
    const UseDevice use(device_);
    engine_ =
        opened_.flavour->load(file.plan, plugins_ ? find_plugins(opened_.library) : fs::path());
    stream_.emplace();
    cudaDeviceProp properties{};
    ELAN_CUDA(cudaGetDeviceProperties(&properties, device_));
    own_memory_ = properties.totalGlobalMem / 4 * 3;
  }
  ~Implementation() override {
    int before = 0;
    cudaGetDevice(&before);
    cudaSetDevice(device_);
    engine_.reset();
    planar_in_.release();
    planar_out_.release();
    pictures_in_.release();
    pictures_out_.release();
    host_.release();
    stream_.reset();
    cudaSetDevice(before);
  }

  [[nodiscard]] std::string description() const override {
    return "tensorrt " + opened_.runtime.version +
           (opened_.runtime.flavour == "rtx" ? " rtx" : "") + " (" + opened_.runtime.gpu + ", " +
           std::string(to_string(precision_)) + (plugins_ ? ", plugins" : "") + ", " +
           to_string(profile_) + ")";
  }
  [[nodiscard]] Precision precision() const override { return precision_; }
  [[nodiscard]] std::vector<std::string> stages() const override { return {"output"}; }

  // Beyond the profile nothing is enough, so that larger pictures are cut into tiles.
  [[nodiscard]] std::size_t memory_needed(int width, int height, int batch) const override {
    if (width > profile_.most.width || height > profile_.most.height || batch > profile_.batch) {
      return std::numeric_limits<std::size_t>::max() / 4;
    }
    const auto scale = static_cast<std::size_t>(model_.scale());
    const std::size_t samples = static_cast<std::size_t>(width) * height * batch * 3;
    return engine_->device_bytes() + samples * (1 + scale * scale) * 2 * sizeof(float);
  }

  [[nodiscard]] std::size_t own_memory() const override { return own_memory_; }
  [[nodiscard]] std::size_t host_memory_needed(int width, int height, int batch) const override {
    const auto scale = static_cast<std::size_t>(model_.scale());
    return static_cast<std::size_t>(width) * height * batch * 3 * scale * scale * sizeof(float);
  }

  void run(std::span<const ConstImageView> in, std::span<const ImageView> out,
           const RunContext& context) override {
    if (in.empty()) return;
    const std::lock_guard lock(mutex_);
    if (context.stop.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled");
    if (context.observer) {
      throw Error(ErrorKind::usage, "tensorrt: expected no observer: an engine hides its stages");
    }
    const int width = in[0].width, height = in[0].height, batch = static_cast<int>(in.size());
    if (!profile_.holds(width, height, batch)) {
      throw Error(ErrorKind::model, "tensorrt: expected a size within " + to_string(profile_) +
                                        ", for which the engine was built, found " +
                                        std::to_string(width) + "x" + std::to_string(height) +
                                        " (batch " + std::to_string(batch) + ")");
    }
    const UseDevice use(device_);
    compute(in, out, context);
    if (context.stop.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled");
    if (context.progress) context.progress(1);
  }

 private:
  void compute(std::span<const ConstImageView> in, std::span<const ImageView> out,
               const RunContext& context) {
    const int scale = model_.scale();
    const PictureBatch small{static_cast<int>(in.size()), in[0].height, in[0].width};
    const PictureBatch large{small.batch, small.height * scale, small.width * scale};
    const std::size_t samples = samples_of(small), enlarged = samples_of(large);
    const std::size_t in_bytes = samples * size_of(in[0].type);
    const std::size_t out_bytes = enlarged * size_of(out[0].type);
    planar_in_.reserve(samples * sizeof(float));
    planar_out_.reserve(enlarged * sizeof(float));
    pictures_in_.reserve(in_bytes);
    pictures_out_.reserve(out_bytes);
    host_.reserve(std::max(in_bytes, out_bytes));
    gather(in);
    const cudaStream_t stream = stream_->get();
    auto* input = reinterpret_cast<float*>(planar_in_.data());
    auto* output = reinterpret_cast<float*>(planar_out_.data());
    ELAN_CUDA(cudaMemcpyAsync(pictures_in_.data(), host_.data(), in_bytes, cudaMemcpyHostToDevice,
                              stream));
    launch_to_planar(pictures_in_.data(), in[0].type, input, small, stream);
    ELAN_CUDA(cudaGetLastError());
    cuda::Event begin(cuda::EventKind::timed), end(cuda::EventKind::timed);
    begin.record(stream);
    engine_->enqueue(input, output, small.batch, small.height, small.width, stream);
    end.record(stream);
    launch_from_planar(output, pictures_out_.data(), out[0].type, large, stream);
    ELAN_CUDA(cudaGetLastError());
    ELAN_CUDA(cudaMemcpyAsync(host_.data(), pictures_out_.data(), out_bytes, cudaMemcpyDeviceToHost,
                              stream));
    stream_->wait();
    scatter(out);
    if (context.profile != nullptr) {
      context.profile->push_back({"engine", end.since(begin) / 1e3, 0, 0});
    }
  }

  static std::size_t samples_of(const PictureBatch& size) {
    return static_cast<std::size_t>(size.batch) * size.height * size.width * 3;
  }

  void gather(std::span<const ConstImageView> in) {
    std::byte* to = host_.data();
    for (const ConstImageView& picture : in) {
      const std::size_t row = static_cast<std::size_t>(picture.width) * 3 * size_of(picture.type);
      for (int y = 0; y < picture.height; ++y, to += row) {
        std::copy_n(picture.data + static_cast<std::size_t>(y) * picture.row_bytes, row, to);
      }
    }
  }

  void scatter(std::span<const ImageView> out) {
    const std::byte* from = host_.data();
    for (const ImageView& picture : out) {
      const std::size_t row = static_cast<std::size_t>(picture.width) * 3 * size_of(picture.type);
      for (int y = 0; y < picture.height; ++y, from += row) {
        std::copy_n(from, row, picture.data + static_cast<std::size_t>(y) * picture.row_bytes);
      }
    }
  }

  Model model_;
  Opened opened_;
  Profile profile_;
  int device_;
  Precision precision_;
  bool plugins_;
  std::size_t own_memory_ = 0;
  std::mutex mutex_;
  std::unique_ptr<RunningEngine> engine_;
  std::optional<cuda::Stream> stream_;
  DeviceBuffer planar_in_, planar_out_, pictures_in_, pictures_out_;
  PinnedBuffer host_;
};

}  // namespace

Built build_engine(const Model& model, const BuildOptions& options, const fs::path& path,
                   int device_index, const BuildContext& context) {
  check(options, model);
  Opened opened = open(device_index);
  const UseDevice use(device_index);
  const fs::path target = path.empty() ? cached_path(opened, model, options) : path;
  if (path.empty() && !context.again) {
    const std::string description = describe(model.fingerprint(), options, opened.runtime);
    if (from_cache(target, description, context.warning)) {
      return {target, fs::file_size(target), 0, description};
    }
  }
  return build(opened, model, options, target, context);
}

std::unique_ptr<Backend> make_tensorrt_backend(const Model& model, const BackendOptions& options,
                                               const BuildContext& context) {
  check(options.options, model);
  Opened opened = open(options.device_index);
  fs::path path = options.plan;
  PlanFile file;
  if (path.empty()) {
    const UseDevice use(options.device_index);
    path = cached_path(opened, model, options.options);
    const std::string description = describe(model.fingerprint(), options.options, opened.runtime);
    std::optional<PlanFile> cached = from_cache(path, description, context.warning);
    if (!cached) {
      build(opened, model, options.options, path, context);
      cached = read_plan(path);
    }
    file = std::move(*cached);
  } else {
    file = read_plan(path);
    check_plan(path, file, model.fingerprint(), opened.runtime);
  }
  return std::make_unique<Implementation>(model, std::move(opened), path, file,
                                          options.device_index);
}

}  // namespace elan::tensorrt
