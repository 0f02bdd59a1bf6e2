#include "cuda/cuda_backend.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <list>
#include <mutex>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/device.h"
#include "cuda/forward.h"
#include "elan/error.h"
#include "model/stages.h"

namespace elan {
namespace {

using namespace cuda;

constexpr std::size_t kMostGraphs = 16;

Operand operand_of(Precision precision) {
  switch (precision) {
    case Precision::fp16:
      return Operand::fp16;
    case Precision::bf16:
      return Operand::bf16;
    case Precision::tf32:
      return Operand::tf32;
    case Precision::fp32:
      return Operand::fp32;
    case Precision::fp64:
    case Precision::int8:
      break;
  }
  throw Error(ErrorKind::usage, "device cuda: expected precision fp32, tf32, bf16 or fp16, found " +
                                    std::string(to_string(precision)));
}

// What a result that left the range of FP16 is computed in again; none: there is nothing safer.
std::optional<Precision> safer_than(Precision precision) {
  if (precision == Precision::fp16 || precision == Precision::fp32) return Precision::tf32;
  return std::nullopt;
}

// A captured pass: the same pointers, sizes and types every time.
class Graph {
 public:
  explicit Graph(cudaGraph_t graph) {
    const cudaError_t status = cudaGraphInstantiate(&exec_, graph, 0);
    cudaGraphDestroy(graph);
    ELAN_CUDA(status);
  }
  ~Graph() { cudaGraphExecDestroy(exec_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void launch(cudaStream_t stream) const { ELAN_CUDA(cudaGraphLaunch(exec_, stream)); }

 private:
  cudaGraphExec_t exec_ = nullptr;
};

using GraphKey = std::tuple<const void*, void*, SampleType, SampleType, int, int, int>;

GraphKey key_of(const DevicePictures& p) {
  return {p.input, p.output, p.input_type, p.output_type, p.width, p.height, p.batch};
}

class Implementation : public CudaBackend {
 public:
  Implementation(std::shared_ptr<const Network> network, Precision precision, int device)
      : network_(std::move(network)),
        precision_(precision),
        device_(device),
        info_(open_device(device)) {
    check_network(*network_);
    shape_.channels = network_->arch.channels;
    shape_.scale = network_->arch.scale;
    shape_.hidden_groups = most_hidden_groups(*network_);
    shape_.body = operand_of(precision);
    shape_.tail = choose_tail(shape_.channels, shape_.scale, shape_.body, info_.limits);
    const UseDevice use(device_);
    shape_.hopper = use_hopper();
    shape_.half_stream = use_half_stream();
    make_plan(shape_, info_.limits, 16, 16, 1);  // throws when this device cannot do it
    prepare_kernels();
    if (shape_.hopper) {
      prepare_lfe_hopper();
      prepare_gmsa_hopper();
    }
    ELAN_CUDA(cudaGetLastError());
    stream_.emplace();
    packed_ = pack_network(*network_, shape_.body, shape_.tail, shape_.hopper);
    weights_.reserve(packed_.data.size() + sizeof(unsigned));
    not_finite_.reserve(sizeof(unsigned));
    flag_.reserve(sizeof(unsigned));
    ELAN_CUDA(cudaMemcpy(weights_.data(), packed_.data.data(), packed_.data.size(),
                         cudaMemcpyHostToDevice));
    ELAN_CUDA(cudaMemset(not_finite_.data(), 0, sizeof(unsigned)));
    packed_.data = {};
  }

  ~Implementation() override {
    int before = 0;
    cudaGetDevice(&before);
    cudaSetDevice(device_);
    graphs_.clear();
    weights_.release();
    arena_.release();
    not_finite_.release();
    stream_.reset();
    cudaSetDevice(before);
  }

  [[nodiscard]] std::string description() const override {
    return "cuda:" + std::to_string(device_) + " (" + info_.name + ", " +
           std::string(to_string(precision_)) + (shape_.hopper ? ", hopper)" : ", portable)");
  }
  [[nodiscard]] Precision precision() const override { return precision_; }
  [[nodiscard]] std::vector<std::string> stages() const override {
    return stage_names(network_->arch);
  }
  [[nodiscard]] std::size_t memory_needed(int width, int height, int batch) const override {
    return plan_arena(shape_, width, height, batch).bytes;
  }
  [[nodiscard]] std::size_t arena_bytes() const override { return arena_.size(); }
  [[nodiscard]] std::size_t weight_bytes() const override { return weights_.size(); }
  [[nodiscard]] std::uint64_t reruns() const override { return reruns_; }

  void run(std::span<const ConstImageView> in, std::span<const ImageView> out,
           const RunContext& context) override {
    if (in.empty()) return;
    const std::lock_guard lock(mutex_);
    const UseDevice use(device_);
    const auto stop_if_asked = [&] {
      if (context.stop.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled");
    };
    stop_if_asked();
    if (context.observer) {
      run_observed(in, out, context.observer);
    } else if (!run_batch(in, out) && !rerun(in, out, context)) {
      throw Error(ErrorKind::device, "cuda: the picture overflowed the range of " +
                                         std::string(to_string(precision_)));
    }
    stop_if_asked();
    if (context.progress) context.progress(1);
  }

  void enqueue(const DevicePictures& pictures, void* stream, bool graph) override {
    const std::lock_guard lock(mutex_);
    const UseDevice use(device_);
    const Plan plan = prepare(pictures.width, pictures.height, pictures.batch);
    enqueue(plan, pictures, stream == nullptr ? stream_->get() : static_cast<cudaStream_t>(stream),
            graph);
  }

  bool finish() override {
    const std::lock_guard lock(mutex_);
    const UseDevice use(device_);
    fetch_flag();
    stream_->wait();
    return take_flag();
  }

  std::vector<std::pair<std::string, double>> profile(const DevicePictures& pictures) override {
    const std::lock_guard lock(mutex_);
    const UseDevice use(device_);
    const Plan plan = prepare(pictures.width, pictures.height, pictures.batch);
    constexpr int kPasses = 9;
    std::vector<std::pair<std::string, std::vector<double>>> kinds;
    std::vector<Event> events;
    for (int pass = 0; pass < kPasses; ++pass) {
      std::vector<std::string> names;
      std::size_t used = 0;
      const auto mark = [&](const std::string& name) {
        if (used == events.size()) events.emplace_back();
        events[used++].record(stream_->get());
        names.push_back(kind_of(name));
      };
      mark("start");
      forward(forward_args(plan), pictures, stream_->get(),
              [&](const std::string& name, const void*) { mark(name); });
      mark("tail");
      stream_->wait();
      std::vector<std::pair<std::string, double>> sums;
      for (std::size_t i = 1; i < used; ++i) {
        auto at =
            std::find_if(sums.begin(), sums.end(), [&](auto& s) { return s.first == names[i]; });
        if (at == sums.end()) at = sums.insert(sums.end(), {names[i], 0});
        at->second += events[i].since(events[i - 1]);
      }
      if (kinds.empty()) {
        for (const auto& [name, ms] : sums) kinds.push_back({name, {}});
      }
      for (std::size_t i = 0; i < sums.size(); ++i) kinds[i].second.push_back(sums[i].second);
    }
    std::vector<std::pair<std::string, double>> result;
    for (auto& [name, times] : kinds) {
      std::sort(times.begin(), times.end());
      result.emplace_back(name, times[times.size() / 2]);
    }
    return result;
  }

 private:
  // ELANSR_CUDA_PATH=portable or hopper overrides the choice.
  [[nodiscard]] bool use_hopper() const {
    const bool able = shape_.channels == 180 && operand_bytes(shape_.body) == 2 &&
                      info_.major == 9 && info_.minor == 0 && hopper_compiled();
    const char* path = std::getenv("ELANSR_CUDA_PATH");
    const std::string wish = path != nullptr ? path : "";
    if (!wish.empty() && wish != "portable" && wish != "hopper") {
      throw Error(ErrorKind::usage, "ELANSR_CUDA_PATH: expected portable or hopper, found " + wish);
    }
    return able && wish != "portable";
  }

  // fp16 keeps the residual stream in FP16, too, unless ELANSR_CUDA_STREAM=fp32.
  [[nodiscard]] bool use_half_stream() const {
    const char* stream = std::getenv("ELANSR_CUDA_STREAM");
    const std::string wish = stream != nullptr ? stream : "";
    if (!wish.empty() && wish != "fp16" && wish != "fp32") {
      throw Error(ErrorKind::usage, "ELANSR_CUDA_STREAM: expected fp16 or fp32, found " + wish);
    }
    return shape_.body == Operand::fp16 && wish != "fp32";
  }

  // "body.3.lfe.0" -> "lfe", told apart by whether the ELAB is shifted.
  [[nodiscard]] std::string kind_of(const std::string& stage) const {
    const auto dot = stage.find('.');
    if (dot == std::string::npos) return stage == "body" ? "skip" : stage;
    const bool shifted = network_->body[std::stoul(stage.substr(dot + 1))].shifted;
    if (stage.find("lfe") != std::string::npos) return "lfe";
    return shifted ? "gmsa shifted" : "gmsa";
  }

  Plan prepare(int width, int height, int batch) {
    const Plan plan = make_plan(shape_, info_.limits, width, height, batch);
    if (plan.arena.bytes > arena_.size()) {
      graphs_.clear();
      arena_.reserve(plan.arena.bytes);
    }
    return plan;
  }

  ForwardArgs forward_args(const Plan& plan) {
    return {*network_,
            packed_,
            shape_,
            plan,
            weights_.data(),
            arena_.data(),
            reinterpret_cast<unsigned*>(not_finite_.data())};
  }

  void enqueue(const Plan& plan, const DevicePictures& pictures, cudaStream_t stream, bool graph) {
    if (!graph) {
      forward(forward_args(plan), pictures, stream);
      return;
    }
    const GraphKey key = key_of(pictures);
    auto at = std::find_if(graphs_.begin(), graphs_.end(),
                           [&](const auto& entry) { return entry.first == key; });
    if (at == graphs_.end()) {
      // Captured on the own stream: a caller's stream may be the default one.
      ELAN_CUDA(cudaStreamBeginCapture(stream_->get(), cudaStreamCaptureModeThreadLocal));
      cudaGraph_t captured = nullptr;
      try {
        forward(forward_args(plan), pictures, stream_->get());
      } catch (...) {
        cudaStreamEndCapture(stream_->get(), &captured);
        if (captured != nullptr) cudaGraphDestroy(captured);
        throw;
      }
      ELAN_CUDA(cudaStreamEndCapture(stream_->get(), &captured));
      graphs_.emplace_front(std::piecewise_construct, std::forward_as_tuple(key),
                            std::forward_as_tuple(captured));
      if (graphs_.size() > kMostGraphs) {
        ELAN_CUDA(cudaDeviceSynchronize());  // the oldest may be running still
        graphs_.pop_back();
      }
    } else {
      graphs_.splice(graphs_.begin(), graphs_, at);
    }
    graphs_.front().second.launch(stream);
  }

  void fetch_flag() {
    ELAN_CUDA(cudaMemcpyAsync(flag_.data(), not_finite_.data(), sizeof(unsigned),
                              cudaMemcpyDeviceToHost, stream_->get()));
    ELAN_CUDA(cudaMemsetAsync(not_finite_.data(), 0, sizeof(unsigned), stream_->get()));
  }

  bool take_flag() {
    unsigned value = 0;
    std::memcpy(&value, flag_.data(), sizeof value);
    return value == 0;
  }

  // Copies the pictures into pinned memory and on to the device.
  DevicePictures upload(const Plan& plan, std::span<const ConstImageView> in,
                        SampleType output_type) {
    const ConstImageView& first = in.front();
    const std::size_t row = static_cast<std::size_t>(first.width) * 3 * size_of(first.type);
    const std::size_t bytes = row * first.height * in.size();
    pinned_in_.reserve(bytes);
    std::byte* to = pinned_in_.data();
    for (const ConstImageView& picture : in) {
      for (int y = 0; y < picture.height; ++y, to += row) {
        std::memcpy(to, picture.data + static_cast<std::size_t>(y) * picture.row_bytes, row);
      }
    }
    ELAN_CUDA(cudaMemcpyAsync(arena_.data() + plan.arena.input, pinned_in_.data(), bytes,
                              cudaMemcpyHostToDevice, stream_->get()));
    DevicePictures p;
    p.input = arena_.data() + plan.arena.input;
    p.input_type = first.type;
    p.output = arena_.data() + plan.arena.output;
    p.output_type = output_type;
    p.width = first.width;
    p.height = first.height;
    p.batch = static_cast<int>(in.size());
    return p;
  }

  // False if a result is no finite number.
  bool run_batch(std::span<const ConstImageView> in, std::span<const ImageView> out) {
    const ConstImageView& first = in.front();
    const Plan plan = prepare(first.width, first.height, static_cast<int>(in.size()));
    const DevicePictures pictures = upload(plan, in, out.front().type);
    const bool seen = std::exchange(last_size_, {first.width, first.height, pictures.batch}) ==
                      std::tuple(first.width, first.height, pictures.batch);
    enqueue(plan, pictures, stream_->get(), seen);
    return download(pictures, out);
  }

  bool download(const DevicePictures& pictures, std::span<const ImageView> out) {
    const ImageView& first = out.front();
    const std::size_t row = static_cast<std::size_t>(first.width) * 3 * size_of(first.type);
    const std::size_t bytes = row * first.height * out.size();
    pinned_out_.reserve(bytes);
    ELAN_CUDA(cudaMemcpyAsync(pinned_out_.data(), pictures.output, bytes, cudaMemcpyDeviceToHost,
                              stream_->get()));
    fetch_flag();
    stream_->wait();
    if (!take_flag()) return false;
    const std::byte* from = pinned_out_.data();
    for (const ImageView& picture : out) {
      for (int y = 0; y < picture.height; ++y, from += row) {
        std::memcpy(picture.data + static_cast<std::size_t>(y) * picture.row_bytes, from, row);
      }
    }
    return true;
  }

  bool rerun(std::span<const ConstImageView> in, std::span<const ImageView> out,
             const RunContext& context) {
    const auto precision = safer_than(precision_);
    if (!precision) return false;
    if (!safer_) safer_ = std::make_unique<Implementation>(network_, *precision, device_);
    ++reruns_;
    safer_->run(in, out, context);
    return true;
  }

  // Fetches every stage as it is computed; of the first picture.
  void run_observed(std::span<const ConstImageView> in, std::span<const ImageView> out,
                    const StageObserver& observer) {
    const ConstImageView& first = in.front();
    const Plan plan = prepare(first.width, first.height, static_cast<int>(in.size()));
    const DevicePictures pictures = upload(plan, in, out.front().type);
    const ForwardArgs args = forward_args(plan);
    const Grid& grid = plan.grid;
    const std::size_t pixels = static_cast<std::size_t>(grid.width) * grid.height;
    const std::size_t stride = packed_.order.size();
    std::vector<float> raw(pixels * stride), planar(pixels * shape_.channels);
    forward(args, pictures, stream_->get(), [&](const std::string& name, const void* stream) {
      ELAN_CUDA(cudaGetLastError());
      if (shape_.half_stream) {
        std::vector<std::uint16_t> half(raw.size());
        fetch(half, stream);
        std::transform(half.begin(), half.end(), raw.begin(), from_half);
      } else {
        fetch(raw, stream);
      }
      for (std::size_t i = 0; i < stride; ++i) {
        const int channel = packed_.order[i];
        if (channel < 0) continue;
        for (std::size_t p = 0; p < pixels; ++p) planar[channel * pixels + p] = raw[p * stride + i];
      }
      observer({name, shape_.channels, grid.height, grid.width, planar.data(), nullptr});
    });
    if (!download(pictures, out)) throw Error(ErrorKind::device, "cuda: the picture overflowed");

    const int s = shape_.scale;
    DeviceBuffer tail(pixels * s * s * 3 * sizeof(float) * in.size());
    forward_tail(args, reinterpret_cast<float*>(tail.data()), stream_->get());
    show_picture("tail", reinterpret_cast<const float*>(tail.data()), grid.width * s,
                 grid.height * s, observer);
    DevicePictures as_float = pictures;
    as_float.output_type = SampleType::f32;
    as_float.output = arena_.data() + plan.arena.output;
    forward(args, as_float, stream_->get());
    show_picture("output", static_cast<const float*>(as_float.output), pictures.width * s,
                 pictures.height * s, observer);
  }

  template <typename Value>
  void fetch(std::vector<Value>& to, const void* from) {
    ELAN_CUDA(cudaMemcpyAsync(to.data(), from, to.size() * sizeof(Value), cudaMemcpyDeviceToHost,
                              stream_->get()));
    stream_->wait();
  }

  void show_picture(const char* name, const float* from, int width, int height,
                    const StageObserver& observer) {
    const std::size_t pixels = static_cast<std::size_t>(width) * height;
    std::vector<float> raw(pixels * 3), planar(pixels * 3);
    fetch(raw, from);
    for (std::size_t i = 0; i < raw.size(); ++i) planar[i % 3 * pixels + i / 3] = raw[i];
    observer({name, 3, height, width, planar.data(), nullptr});
  }

  std::shared_ptr<const Network> network_;
  Precision precision_;
  int device_;
  DeviceInfo info_;
  NetworkShape shape_;
  PackedNetwork packed_;  // without its data, once that is on the device

  std::mutex mutex_;
  std::optional<Stream> stream_;
  DeviceBuffer weights_, arena_, not_finite_;
  PinnedBuffer pinned_in_, pinned_out_, flag_;
  std::list<std::pair<GraphKey, Graph>> graphs_;  // most recently used first
  std::tuple<int, int, int> last_size_{};  // a graph pays from the second picture of a size on
  std::unique_ptr<Implementation> safer_;
  std::atomic<std::uint64_t> reruns_{0};
};

}  // namespace

std::unique_ptr<CudaBackend> make_cuda_backend(std::shared_ptr<const Network> network,
                                               Precision precision, int device_index) {
  return std::make_unique<Implementation>(std::move(network), precision, device_index);
}

}  // namespace elan
