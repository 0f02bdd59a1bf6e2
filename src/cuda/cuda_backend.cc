#include "cuda/cuda_backend.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "core/thread_pool.h"
#include "cuda/body.h"
#include "cuda/costs.h"
#include "cuda/device.h"
#include "cuda/forward.h"
#include "cuda/graph.h"
#include "cuda/nvtx.h"
#include "cuda/recent.h"
#include "cuda/shape.h"
#include "cuda/slot.h"
#include "elan/error.h"
#include "model/stages.h"

namespace elan {
namespace {

using namespace cuda;

// Shapes whose passes are kept as graphs; a slot of pictures needs its own.
constexpr std::size_t kMostGraphs = 16;
// Batches on the device at once: while one is computed, another comes or goes.
constexpr std::size_t kSlots = 2;
// Threads that copy results, the one that asked for them included.
constexpr int kMostCopiers = 4;
// Of the device's memory: the rest is the driver's, the weights' and other programs'.
constexpr double kShareOfMemory = 0.75;

// What a result that left the range of its operands is computed in again, the best first.
std::vector<Precision> safer_than(const NetworkShape& shape) {
  const bool narrow = std::any_of(shape.body.begin(), shape.body.end(), [](const PairKind& kind) {
    return kind.operand == Operand::fp16 || kind.operand == Operand::fp32 ||
           has_8_bits(kind.operand);
  });
  if (!narrow) return {};
  return {Precision::tf32, Precision::bf16};  // not every device has room for tf32
}

// An environment variable: empty or one of these words.
std::string variable(const std::string& name, std::initializer_list<const char*> words) {
  const char* value = std::getenv(name.c_str());
  std::string text = value != nullptr ? value : "";
  if (text.empty() || std::find(words.begin(), words.end(), text) != words.end()) return text;
  std::string expected;
  for (const char* word : words) expected += (expected.empty() ? "" : " or ") + std::string(word);
  throw Error(ErrorKind::usage, name + ": expected " + expected + ", found " + text);
}

// ELANSR_CUDA_PATH=portable keeps off Hopper's path; ELANSR_CUDA_STREAM is what fp16, int8 and fp8
// keep the residual stream in, whatever the plan says.
DeviceWishes wishes_for(const Network& network, const DeviceInfo& info) {
  const std::string path = variable("ELANSR_CUDA_PATH", {"portable", "hopper"});
  const std::string stream = variable("ELANSR_CUDA_STREAM", {"fp16", "split", "fp32"});
  DeviceWishes wishes;
  wishes.limits = info.limits;
  wishes.hopper = path != "portable" && hopper_able(network.arch.channels, info);
  if (!stream.empty()) {
    wishes.stream = stream == "fp16"    ? StreamFormat::fp16
                    : stream == "split" ? StreamFormat::split
                                        : StreamFormat::fp32;
  }
  return wishes;
}

class Implementation : public CudaBackend {
 public:
  Implementation(std::shared_ptr<const Network> network, const PrecisionPlan& plan, int device)
      : network_(std::move(network)),
        precision_(plan.default_precision()),
        device_(device),
        info_(open_device(device)),
        stages_(stage_names(network_->arch)),
        graphs_(kMostGraphs),
        slots_(kSlots),
        copiers_(std::min(kMostCopiers, usable_cores())) {
    check_network(*network_);
    const UseDevice use(device_);
    shape_ = plan_shape(*network_, plan, wishes_for(*network_, info_));
    make_plan(shape_, info_.limits, 16, 16, 1);  // throws when this device cannot do it
    prepare_body(shape_);
    check_kernels_exist();
    streams_.emplace();
    packed_ = pack_network(*network_, shape_);
    weights_.reserve(packed_.data.size());
    not_finite_.reserve(sizeof(unsigned));
    flag_.reserve(sizeof(unsigned));
    ELAN_CUDA(cudaMemcpy(weights_.data(), packed_.data.data(), packed_.data.size(),
                         cudaMemcpyHostToDevice));
    ELAN_CUDA(cudaMemset(not_finite_.data(), 0, sizeof(unsigned)));
    ELAN_CUDA(cudaDeviceSynchronize());  // the streams do not wait for the default one
    packed_.data = {};
  }

  ~Implementation() override {
    int before = 0;
    cudaGetDevice(&before);
    cudaSetDevice(device_);
    cudaDeviceSynchronize();  // passes on the caller's streams use this memory, too
    graphs_.clear();
    slots_.clear();
    weights_.release();
    arena_.release();
    not_finite_.release();
    flag_.release();
    streams_.reset();
    cudaSetDevice(before);
  }

  [[nodiscard]] std::string description() const override {
    const auto hopper = std::count_if(shape_.body.begin(), shape_.body.end(),
                                      [](const PairKind& kind) { return kind.hopper; });
    const bool all = hopper == static_cast<std::ptrdiff_t>(shape_.body.size());
    return "cuda:" + std::to_string(device_) + " (" + info_.name + ", " + operands_text(shape_) +
           (hopper == 0 ? ", portable)"
            : all       ? ", hopper)"
                        : ", hopper and portable)");
  }
  [[nodiscard]] Precision precision() const override { return precision_; }
  [[nodiscard]] std::vector<std::string> stages() const override { return stages_; }
  [[nodiscard]] std::vector<std::vector<std::string>> operation_groups() const override {
    return cuda::operation_groups(network_->arch);
  }
  [[nodiscard]] std::size_t memory_needed(int width, int height, int batch) const override {
    return plan_arena(shape_, width, height, batch).bytes +
           kSlots * picture_bytes(width, height, batch, sizeof(float));
  }
  [[nodiscard]] std::size_t host_memory_needed(int width, int height, int batch) const override {
    return kSlots * picture_bytes(width, height, batch, sizeof(std::uint16_t));
  }
  [[nodiscard]] std::size_t own_memory() const override {
    return static_cast<std::size_t>(static_cast<double>(info_.memory) * kShareOfMemory);
  }
  [[nodiscard]] HardwareRating rating() const override {
    return {rated_gflops(info_.major, info_.minor, info_.limits.multiprocessors, info_.clock_khz,
                         shape_),
            info_.gbytes_per_second};
  }
  [[nodiscard]] std::size_t arena_bytes() const override {
    return arena_.size() + slots_.device_bytes();
  }
  [[nodiscard]] std::size_t weight_bytes() const override { return weights_.size(); }
  [[nodiscard]] std::uint64_t reruns() const override { return reruns_; }
  [[nodiscard]] int device_index() const override { return device_; }

  void run(std::span<const ConstImageView> in, std::span<const ImageView> out,
           const RunContext& context) override {
    if (in.empty()) return;
    const UseDevice use(device_);
    const auto stop_if_asked = [&] {
      if (context.stop.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled");
    };
    stop_if_asked();
    if (!run_batch(in, out, context)) run_safer(in, out, context);
    stop_if_asked();
    if (context.progress) context.progress(1);
  }

  void enqueue(const DevicePictures& pictures, void* stream, Launch launch) override {
    const std::lock_guard lock(mutex_);
    const UseDevice use(device_);
    const cudaStream_t on =
        stream == nullptr ? streams_->compute.get() : static_cast<cudaStream_t>(stream);
    cudaStreamCaptureStatus capturing = cudaStreamCaptureStatusNone;
    ELAN_CUDA(cudaStreamIsCapturing(on, &capturing));
    if (capturing != cudaStreamCaptureStatusNone) {
      throw Error(ErrorKind::usage, "cuda: expected a stream that is not being captured");
    }
    DevicePictures p = pictures;
    if (p.not_finite == nullptr) p.not_finite = reinterpret_cast<unsigned*>(not_finite_.data());
    with_room([&] { enqueue(prepare(p.width, p.height, p.batch), p, on, launch); });
  }

  bool finish() override {
    const std::lock_guard lock(mutex_);
    const UseDevice use(device_);
    const cudaStream_t stream = streams_->compute.get();
    if (used_) wait_on_device(stream, streams_->last_pass);
    ELAN_CUDA(cudaMemcpyAsync(flag_.data(), not_finite_.data(), sizeof(unsigned),
                              cudaMemcpyDeviceToHost, stream));
    ELAN_CUDA(cudaMemsetAsync(not_finite_.data(), 0, sizeof(unsigned), stream));
    streams_->compute.wait();
    unsigned value = 0;
    std::memcpy(&value, flag_.data(), sizeof value);
    return value == 0;
  }

  void reserve(int width, int height, int batch) override {
    const std::lock_guard lock(mutex_);
    const UseDevice use(device_);
    with_room([&] { prepare(width, height, batch); });
  }

  std::vector<OperationTime> profile(const DevicePictures& pictures) override {
    const std::lock_guard lock(mutex_);
    const UseDevice use(device_);
    DevicePictures p = pictures;
    if (p.not_finite == nullptr) p.not_finite = reinterpret_cast<unsigned*>(not_finite_.data());
    return time_operations(prepare(p.width, p.height, p.batch), p);
  }

 private:
  struct Streams {
    Stream compute, upload, download, capture;
    Event last_pass;  // the working memory is free when it has passed
  };

  // A slot of the pool while a batch is under way in it.
  class SlotLease {
   public:
    SlotLease(Implementation& backend, const std::stop_token& stop)
        : backend_(backend), slot_(backend.slots_.take(stop)) {}
    ~SlotLease() {
      const Streams& s = *backend_.streams_;
      slot_.settle(s.upload.get(), s.compute.get(), s.download.get());
      backend_.slots_.give(slot_);
    }
    SlotLease(const SlotLease&) = delete;
    SlotLease& operator=(const SlotLease&) = delete;
    Slot* operator->() const { return &slot_; }

   private:
    Implementation& backend_;
    Slot& slot_;
  };

  void check_kernels_exist() const {
    const cudaError_t status = cudaGetLastError();
    if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction) {
      throw Error(ErrorKind::device,
                  "cuda:" + std::to_string(device_) + ": expected a build for compute capability " +
                      std::to_string(info_.major) + "." + std::to_string(info_.minor) + " (" +
                      info_.name + "), found one for other GPUs");
    }
    ELAN_CUDA(status);
  }

  // Of both pictures, in and out.
  [[nodiscard]] std::size_t picture_bytes(int width, int height, int batch,
                                          std::size_t sample) const {
    const auto scale = static_cast<std::size_t>(shape_.scale);
    return static_cast<std::size_t>(width) * static_cast<std::size_t>(height) *
           static_cast<std::size_t>(batch) * 3 * sample * (1 + scale * scale);
  }

  // What follows is called with mutex_ held.

  // The plan, and working memory for it.
  Plan prepare(int width, int height, int batch) {
    const Plan plan = make_plan(shape_, info_.limits, width, height, batch);
    if (plan.arena.bytes > arena_.size()) {
      wait_for_passes();
      graphs_.clear();
      arena_.reserve(plan.arena.bytes);
    }
    return plan;
  }

  void wait_for_passes() {
    if (used_) ELAN_CUDA(cudaEventSynchronize(streams_->last_pass.get()));
  }

  // When memory runs out, all that can be given back is, for a next attempt with smaller pictures.
  template <typename Work>
  void with_room(Work work) {
    try {
      work();
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::memory) {
        wait_for_passes();
        graphs_.clear();
        arena_.release();
      }
      throw;
    }
  }

  [[nodiscard]] ForwardArgs forward_args(const Plan& plan, const DevicePictures& pictures) const {
    return {*network_, packed_, shape_, plan, weights_.data(), arena_.data(), pictures.not_finite};
  }

  // Kernel by kernel, with the stages as ranges for a profiler.
  void forward_plain(const Plan& plan, const DevicePictures& pictures, cudaStream_t stream) {
    const ForwardArgs args = forward_args(plan, pictures);
    if (!profiler_attached()) {
      forward(args, pictures, stream);
      return;
    }
    std::vector<std::string> names = stages_;
    // What is no launch of its own.
    if (shape_.skip_in_tail()) std::erase(names, "body");
    for (std::size_t i = 0; i < network_->body.size(); ++i) {
      if (!plan.has_whole_pairs(shape_.body[i], network_->body[i].shifted)) continue;
      for (std::size_t j = 0; j < network_->body[i].lfe.size(); ++j) {
        std::erase(names, lfe_stage(static_cast<int>(i), static_cast<int>(j)));
      }
    }
    StageRanges ranges(names);
    forward(args, pictures, stream, [&](const std::string&, const StageStream&) { ranges.next(); });
  }

  void enqueue(const Plan& plan, const DevicePictures& pictures, cudaStream_t stream,
               Launch launch) {
    const Range range(pass_name(pictures));
    if (used_) wait_on_device(stream, streams_->last_pass);
    if (launch == Launch::plain) {
      forward_plain(plan, pictures, stream);
    } else {
      auto& entry = graphs_.use(graph_key(pictures), [&] { wait_for_passes(); });
      if (!entry.value && (launch == Launch::graph || entry.uses > 1)) {
        entry.value.emplace(capture(streams_->capture.get(), [&](cudaStream_t on) {
          forward(forward_args(plan, pictures), pictures, on);
        }));
      }
      if (entry.value) {
        entry.value->launch(stream);
      } else {
        forward_plain(plan, pictures, stream);
      }
    }
    streams_->last_pass.record(stream);
    used_ = true;
  }

  [[nodiscard]] static std::string pass_name(const DevicePictures& p) {
    return std::to_string(p.width) + "x" + std::to_string(p.height) +
           (p.batch == 1 ? "" : " x " + std::to_string(p.batch));
  }

  // False if a result is no finite number.
  bool run_batch(std::span<const ConstImageView> in, std::span<const ImageView> out,
                 const RunContext& context) {
    const SlotLease slot(*this, context.stop);
    slot->fill(in);
    {
      const std::lock_guard lock(mutex_);
      const cudaStream_t compute = streams_->compute.get();
      try {
        with_room([&] {
          const ConstImageView& first = in.front();
          const Plan plan = prepare(first.width, first.height, static_cast<int>(in.size()));
          const DevicePictures pictures =
              slot->upload(in, out.front().type, shape_.scale, streams_->upload.get(), compute);
          if (context.observer) {
            show_stages(plan, pictures, context.observer);
          } else if (context.profile != nullptr) {
            *context.profile = time_operations(plan, pictures);
          } else {
            enqueue(plan, pictures, compute, Launch::automatic);
          }
          slot->download(compute, streams_->download.get());
        });
      } catch (const Error& error) {
        if (error.kind() == ErrorKind::memory) {
          slot->settle(streams_->upload.get(), compute, streams_->download.get());
          slot->release();
        }
        throw;
      }
    }
    return slot->collect(out, device_, copiers_);
  }

  void run_safer(std::span<const ConstImageView> in, std::span<const ImageView> out,
                 const RunContext& context) {
    CudaBackend* safer = nullptr;
    {
      const std::lock_guard lock(safer_mutex_);
      for (const Precision precision : safer_than(shape_)) {
        if (safer_) break;
        try {
          safer_ = std::make_unique<Implementation>(network_, precision, device_);
        } catch (const Error& error) {
          if (error.kind() != ErrorKind::usage) throw;  // usage: this device cannot do it
        }
      }
      safer = safer_.get();
    }
    const std::string what = "a result left the range of " + operands_text(shape_);
    if (safer == nullptr) throw Error(ErrorKind::device, "cuda: " + what);
    ++reruns_;
    if (context.warning) {
      context.warning(what + ": computed again in " + std::string(to_string(safer->precision())));
    }
    safer->run(in, out, context);
  }

  // Events around every launch, medians of a few passes after a first one.
  std::vector<OperationTime> time_operations(const Plan& plan, const DevicePictures& pictures) {
    constexpr int kPasses = 9;
    const cudaStream_t stream = streams_->compute.get();
    const auto bytes = [&](SampleType type, int scale) {
      return static_cast<std::size_t>(pictures.width) * static_cast<std::size_t>(pictures.height) *
             static_cast<std::size_t>(pictures.batch * scale * scale) * 3 * size_of(type);
    };
    std::vector<OperationTime> operations =
        operation_costs(*network_, shape_, plan, bytes(pictures.input_type, 1),
                        bytes(pictures.output_type, shape_.scale));
    std::vector<std::vector<double>> times(operations.size());
    std::vector<Event> events;
    if (used_) wait_on_device(stream, streams_->last_pass);
    for (int pass = -1; pass < kPasses; ++pass) {
      std::size_t used = 0;
      std::vector<std::string> kinds;
      const auto mark = [&](const std::string& kind) {
        if (used == events.size()) events.emplace_back(EventKind::timed);
        events[used++].record(stream);
        kinds.push_back(kind);
      };
      mark("");
      forward(forward_args(plan, pictures), pictures, stream,
              [&](const std::string& name, const StageStream&) {
                mark(operation_kind(*network_, shape_, plan, name));
              });
      mark("tail");
      streams_->last_pass.record(stream);
      used_ = true;
      streams_->compute.wait();
      if (pass < 0) continue;
      for (auto& t : times) t.push_back(0);
      for (std::size_t i = 1; i < used; ++i) {
        const auto at = std::find_if(operations.begin(), operations.end(),
                                     [&](const auto& o) { return o.operation == kinds[i]; });
        if (at == operations.end()) {
          throw Error(ErrorKind::internal, "cuda: no costs for operation " + kinds[i]);
        }
        times[static_cast<std::size_t>(at - operations.begin())].back() +=
            events[i].since(events[i - 1]) * 1e-3;
      }
    }
    for (std::size_t i = 0; i < operations.size(); ++i) {
      std::sort(times[i].begin(), times[i].end());
      operations[i].seconds = times[i][times[i].size() / 2];
    }
    return operations;
  }

  // Fetches every stage as it is computed; of the first picture.
  void show_stages(const Plan& plan, const DevicePictures& pictures,
                   const StageObserver& observer) {
    const cudaStream_t stream = streams_->compute.get();
    ForwardArgs args = forward_args(plan, pictures);
    args.every_stage = true;
    const Grid& grid = plan.grid;
    const std::size_t pixels = static_cast<std::size_t>(grid.width) * grid.height;
    const std::size_t stride = packed_.order.size();
    const int units = static_cast<int>(stride / 8);
    std::vector<std::byte> raw;
    std::vector<float> planar(pixels * shape_.channels);
    StageStream body;
    if (used_) wait_on_device(stream, streams_->last_pass);
    forward(args, pictures, stream, [&](const std::string& name, const StageStream& values) {
      ELAN_CUDA(cudaGetLastError());
      body = values;
      raw.resize(grid.pixels() * stream_pixel_bytes(units, values.format));
      fetch(raw, values.data);
      for (std::size_t i = 0; i < stride; ++i) {
        const int channel = packed_.order[i];
        if (channel < 0) continue;
        for (std::size_t p = 0; p < pixels; ++p) {
          planar[channel * pixels + p] = stream_number(raw.data(), values.format, units,
                                                       grid.pixels(), p, static_cast<int>(i));
        }
      }
      observer({name, shape_.channels, grid.height, grid.width, planar.data(), nullptr});
    });

    const int s = shape_.scale;
    DeviceBuffer floats(pixels * s * s * 3 * sizeof(float) * pictures.batch);
    forward_tail(args, body, reinterpret_cast<float*>(floats.data()), stream);
    show_picture("tail", floats, grid.width * s, grid.height * s, observer);
    DevicePictures as_float = pictures;
    as_float.output_type = SampleType::f32;
    as_float.output = floats.data();
    forward(args, as_float, stream);
    show_picture("output", floats, pictures.width * s, pictures.height * s, observer);
    streams_->last_pass.record(stream);
    used_ = true;
  }

  template <typename Value>
  void fetch(std::vector<Value>& to, const void* from) {
    ELAN_CUDA(cudaMemcpyAsync(to.data(), from, to.size() * sizeof(Value), cudaMemcpyDeviceToHost,
                              streams_->compute.get()));
    streams_->compute.wait();
  }

  void show_picture(const char* name, const DeviceBuffer& from, int width, int height,
                    const StageObserver& observer) {
    const std::size_t pixels = static_cast<std::size_t>(width) * height;
    std::vector<float> raw(pixels * 3), planar(pixels * 3);
    fetch(raw, from.data());
    for (std::size_t i = 0; i < raw.size(); ++i) planar[i % 3 * pixels + i / 3] = raw[i];
    observer({name, 3, height, width, planar.data(), nullptr});
  }

  std::shared_ptr<const Network> network_;
  Precision precision_;
  int device_;
  DeviceInfo info_;
  std::vector<std::string> stages_;
  NetworkShape shape_;
  PackedNetwork packed_;  // without its data, once that is on the device

  std::mutex mutex_;  // of the working memory and of what is enqueued on it
  std::optional<Streams> streams_;
  DeviceBuffer weights_, arena_, not_finite_;
  PinnedBuffer flag_;
  bool used_ = false;  // last_pass was recorded
  RecentlyUsed<GraphKey, Graph> graphs_;
  SlotPool slots_;
  ThreadPool copiers_;  // from pinned memory to where the results are wanted
  std::mutex safer_mutex_;
  std::unique_ptr<Implementation> safer_;
  std::atomic<std::uint64_t> reruns_{0};
};

}  // namespace

Precision default_cuda_precision(const Network& network, int device_index) {
  return network.quantized()
             ? default_precision(network, wishes_for(network, open_device(device_index)))
             : Precision::fp16;
}

std::unique_ptr<CudaBackend> make_cuda_backend(std::shared_ptr<const Network> network,
                                               const PrecisionPlan& plan, int device_index) {
  return std::make_unique<Implementation>(std::move(network), plan, device_index);
}

}  // namespace elan
