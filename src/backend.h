// The one interface behind which a device runs the whole network. Not per operation: a backend is
// free to fuse as it likes, and tells its stages by the canonical names of model/stages.h.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "elan/image.h"
#include "elan/precision.h"
#include "model/plan.h"

namespace elan {

struct Network;
class ThreadPool;

// A named intermediate of the padded picture (batch entry 0), planar [channels][height][width].
// Exactly one of f32 and f64 is set; the memory is valid during the call only.
struct StageView {
  std::string_view name;
  int channels = 0, height = 0, width = 0;
  const float* f32 = nullptr;
  const double* f64 = nullptr;

  [[nodiscard]] std::size_t size() const {
    return static_cast<std::size_t>(channels) * static_cast<std::size_t>(height) *
           static_cast<std::size_t>(width);
  }
  [[nodiscard]] double at(std::size_t i) const { return f32 != nullptr ? f32[i] : f64[i]; }
};

using StageObserver = std::function<void(const StageView&)>;

// What one kind of operation took in a run, summed over its threads or launches.
struct OperationTime {
  std::string operation;  // for example "lfe", "attention"
  double seconds = 0;
  double flop = 0;   // useful floating-point operations
  double bytes = 0;  // moved to and from main or device memory; 0: not known
};

// Everything about one run that is not the picture. Members may be empty.
struct RunContext {
  std::stop_token stop;
  std::function<void(double)> progress;  // 0..1
  StageObserver observer;                // set: the backend may take a slower, unfused path
  std::vector<OperationTime>* profile = nullptr;  // set: the backend times its operations into it
  // One line for people about how the result came about ("computed again in tf32: ..."); called
  // from the thread that runs.
  std::function<void(const std::string&)> warning;
};

// What the hardware's makers say that it does; 0: not known.
struct HardwareRating {
  double gflops = 0;             // in this backend's arithmetic
  double gbytes_per_second = 0;  // of the memory that run() works in
};

// The least time that hardware of this speed takes for it; 0 where nothing is known.
inline double floor_seconds(const OperationTime& o, double gflops, double gbytes_per_second) {
  const double arithmetic = gflops > 0 ? o.flop / gflops / 1e9 : 0;
  const double traffic = gbytes_per_second > 0 ? o.bytes / gbytes_per_second / 1e9 : 0;
  return arithmetic > traffic ? arithmetic : traffic;
}

class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  [[nodiscard]] virtual std::string description() const = 0;  // "cpu (avx512, 2 threads)"
  [[nodiscard]] virtual Precision precision() const = 0;      // a plan's default

  // Names this backend can show to an observer, in order of computation.
  [[nodiscard]] virtual std::vector<std::string> stages() const = 0;

  // Operations that change their precision only together, as far as that makes a difference to what
  // is computed; empty: each can by itself, where the factory does not refuse it.
  [[nodiscard]] virtual std::vector<std::vector<std::string>> operation_groups() const {
    return {};
  }

  // Bytes held during run() for `batch` pictures of this size, beyond the pictures themselves and
  // the packed weights. Exact or an upper bound; monotone in each argument.
  [[nodiscard]] virtual std::size_t memory_needed(int width, int height, int batch) const = 0;

  // Bytes of the device's own memory that memory_needed() may take from; 0: it takes the host's.
  // A property of the machine: never depends on what is free at the moment.
  [[nodiscard]] virtual std::size_t own_memory() const { return 0; }

  // Bytes of the host's memory held during run() where memory_needed() is the device's. As
  // monotone.
  [[nodiscard]] virtual std::size_t host_memory_needed(int /*width*/, int /*height*/,
                                                       int /*batch*/) const {
    return 0;
  }

  [[nodiscard]] virtual HardwareRating rating() const { return {}; }

  // GFLOP/s that this backend's arithmetic reaches on this hardware, found by a short probe; 0
  // where there is none.
  [[nodiscard]] virtual double measure_peak() { return 0; }

  // Pictures of one size and sample type in; out[i] is scale times in[i], of any sample type.
  // Pads, computes, crops and rounds. Safe to call from several threads at once. Throws Error
  // (cancelled, device, memory: smaller pictures may do); on return or throw no reference to the
  // views is kept.
  virtual void run(std::span<const ConstImageView> in, std::span<const ImageView> out,
                   const RunContext& context) = 0;
};

// Factories: one per backend. The plan has been checked against the network. Throw Error (usage: a
// precision or a mix of them that it cannot do; model: a network it cannot run; device).
std::unique_ptr<Backend> make_reference_backend(std::shared_ptr<const Network> network,
                                                const PrecisionPlan& plan);
std::unique_ptr<Backend> make_cpu_backend(std::shared_ptr<const Network> network,
                                          const PrecisionPlan& plan,
                                          std::shared_ptr<ThreadPool> pool);

}  // namespace elan
