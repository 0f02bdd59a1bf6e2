// The network on the CPU: threads take tiles of the schedule in order until the picture is done.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <utility>

#include "backend.h"
#include "core/thread_pool.h"
#include "cpu/isa.h"
#include "cpu/peak.h"
#include "cpu/pipeline.h"
#include "elan/error.h"
#include "model/stages.h"

namespace elan {
namespace {

using namespace cpu;

int tiles(int pixels) {
  return (pixels + kTile - 1) / kTile;
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// How far a band is: the next segment and the next column in it.
struct alignas(64) Position {
  std::atomic<std::uint64_t> next{0};  // segment << 32 | column
};

// One picture in flight.
struct Slot {
  Workspace workspace;
  std::unique_ptr<std::atomic<int>[]> finished;  // [tasks] tiles of each that are done
  std::unique_ptr<Position[]> positions;         // [bands]
  std::size_t tasks = 0;

  void prepare(const PackedNetwork& network, int rows, int columns, int threads) {
    workspace.prepare(network, rows, columns, threads);
    const Schedule& schedule = workspace.schedule();
    if (schedule.tasks.size() > tasks) {
      finished = std::make_unique<std::atomic<int>[]>(schedule.tasks.size());
      tasks = schedule.tasks.size();
    }
    if (!positions) positions = std::make_unique<Position[]>(static_cast<std::size_t>(threads));
    for (std::size_t i = 0; i < schedule.tasks.size(); ++i) {
      finished[i].store(0, std::memory_order_relaxed);
    }
    for (std::size_t b = 0; b < schedule.bands.size(); ++b) {
      const std::vector<Segment>& band = schedule.bands[b];
      positions[b].next = band.empty() ? 0 : static_cast<std::uint64_t>(band[0].first);
    }
  }
};

// Runs ranges of a schedule's tasks on a pool.
class Runner {
 public:
  Runner(Slot& slot, Pipeline& pipeline, ThreadPool& pool, const RunContext& context,
         double progress_from, double progress_by)
      : slot_(slot),
        pipeline_(pipeline),
        pool_(pool),
        context_(context),
        schedule_(slot.workspace.schedule()),
        progress_from_(progress_from),
        progress_by_(progress_by) {}

  // All tasks before `last` that have not run yet.
  void run(int last) {
    pool_.parallel_for(schedule_.bands.size(),
                       [&](std::size_t, int thread) { work(last, thread); });
  }

 private:
  enum class Claim { got, wait, none };

  // Takes tiles, preferably of the thread's own band, until none before task `last` is left.
  void work(int last, int thread) {
    const std::size_t bands = schedule_.bands.size();
    constexpr int kSpins = 2000;  // some 50 microseconds: about the time of a tile
    int spins = 0;
    bool left = true;
    while (left && !stopped_.load(std::memory_order_relaxed)) {
      left = false;
      for (std::size_t k = 0; k < bands; ++k) {
        const std::size_t band = (static_cast<std::size_t>(thread) + k) % bands;
        Segment tile;
        const Claim claimed = claim(band, last, tile);
        left |= claimed != Claim::none;
        if (claimed == Claim::got) {
          run_tile(tile.task, tile.first, thread);
          spins = 0;
          break;
        }
      }
      if (left && ++spins > 1) {
        if (spins < kSpins) {
          relax();
        } else {
          std::this_thread::yield();
        }
      }
    }
  }

  // The next tile of a band, if what it depends on is done.
  Claim claim(std::size_t b, int last, Segment& tile) {
    const std::vector<Segment>& band = schedule_.bands[b];
    std::atomic<std::uint64_t>& next = slot_.positions[b].next;
    std::uint64_t at = next.load(std::memory_order_relaxed);
    for (;;) {
      const std::size_t segment = at >> 32;
      if (segment >= band.size() || band[segment].task >= last) return Claim::none;
      for (const std::int32_t other : schedule_.tasks[band[segment].task].after) {
        if (other != Task::kNone &&
            slot_.finished[other].load(std::memory_order_acquire) < schedule_.columns) {
          return Claim::wait;
        }
      }
      const int column = static_cast<int>(at & 0xffffffffu);
      std::uint64_t following = at + 1;
      if (column + 1 == band[segment].last) {
        const std::uint64_t first = segment + 1 < band.size() ? band[segment + 1].first : 0;
        following = (std::uint64_t{segment} + 1) << 32 | first;
      }
      if (next.compare_exchange_weak(at, following, std::memory_order_relaxed)) {
        tile = {band[segment].task, column, column + 1};
        return Claim::got;
      }
    }
  }

  void run_tile(int index, int column, int thread) {
    try {
      if (context_.stop.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled");
      pipeline_.run_tile(schedule_.tasks[index], column, thread);
    } catch (...) {
      stopped_.store(true, std::memory_order_relaxed);
      throw;
    }
    if (slot_.finished[index].fetch_add(1, std::memory_order_acq_rel) + 1 == schedule_.columns) {
      report();
    }
  }

  void report() {
    if (!context_.progress) return;
    const std::lock_guard lock(progress_mutex_);
    ++tasks_done_;
    context_.progress(progress_from_ +
                      progress_by_ * tasks_done_ / static_cast<double>(schedule_.tasks.size()));
  }

  Slot& slot_;
  Pipeline& pipeline_;
  ThreadPool& pool_;
  const RunContext& context_;
  const Schedule& schedule_;
  double progress_from_, progress_by_;
  std::atomic<bool> stopped_{false};
  std::mutex progress_mutex_;
  int tasks_done_ = 0;
};

class CpuBackend : public Backend {
 public:
  CpuBackend(const Network& network, const PrecisionPlan& plan, std::shared_ptr<ThreadPool> pool)
      : precision_(plan.default_precision()),
        isa_(choose_isa()),
        kernels_(kernels(isa_)),
        network_(pack_network(network, plan, kernels_)),
        pool_(std::move(pool)) {}

  [[nodiscard]] std::string description() const override {
    std::string text = "cpu (" + std::string(to_string(isa_)) + ", " +
                       std::to_string(pool_->size()) +
                       (pool_->size() == 1 ? " thread" : " threads");
    if (network_.emulates_bf16()) {
      text += ", bf16 emulated: operands rounded, products in fp32";
    }
    return text + ")";
  }

  [[nodiscard]] Precision precision() const override { return precision_; }

  [[nodiscard]] std::vector<std::string> stages() const override {
    std::vector<std::string> names{"head"};
    for (int i = 0; i < network_.arch.elabs; ++i) {
      for (int j = 0; j < network_.arch.pairs; ++j) names.push_back(gmsa_stage(i, j));
    }
    names.insert(names.end(), {"body", "tail", "output"});
    return names;
  }

  // Pictures of a batch run one after another, so the batch does not count.
  [[nodiscard]] std::size_t memory_needed(int width, int height, int) const override {
    return Workspace::bytes(network_, tiles(height), tiles(width), pool_->size());
  }

  // Of the products of the default precision.
  [[nodiscard]] double measure_peak() override {
    const Operand operand = precision_ == Precision::int8   ? Operand::int8
                            : precision_ == Precision::bf16 ? kernels_.half
                                                            : Operand::fp32;
    return measure_peak_gflops(kernels_, operand, *pool_);
  }

  void run(std::span<const ConstImageView> in, std::span<const ImageView> out,
           const RunContext& context) override {
    Lease slot(*this);
    for (std::size_t i = 0; i < in.size(); ++i) {
      const double share = 1.0 / static_cast<double>(in.size());
      slot->prepare(network_, tiles(in[i].height), tiles(in[i].width), pool_->size());
      Pipeline pipeline(network_, kernels_, slot->workspace, in[i], out[i],
                        context.profile != nullptr);
      Runner runner(*slot, pipeline, *pool_, context, share * static_cast<double>(i), share);
      if (context.observer && i == 0) {
        run_observed(*slot, pipeline, runner, in[i], context.observer);
      } else {
        runner.run(static_cast<int>(slot->workspace.schedule().tasks.size()));
      }
      if (context.profile != nullptr) pipeline.add_times(*context.profile);
    }
  }

 private:
  // A slot for the time of one call.
  class Lease {
   public:
    explicit Lease(CpuBackend& backend) : backend_(backend) {
      const std::lock_guard lock(backend_.mutex_);
      if (backend_.free_.empty()) {
        slot_ = std::make_unique<Slot>();
      } else {
        slot_ = std::move(backend_.free_.back());
        backend_.free_.pop_back();
      }
    }
    ~Lease() {
      const std::lock_guard lock(backend_.mutex_);
      backend_.free_.push_back(std::move(slot_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Slot* operator->() { return slot_.get(); }
    Slot& operator*() { return *slot_; }

   private:
    CpuBackend& backend_;
    std::unique_ptr<Slot> slot_;
  };

  void run_observed(Slot& slot, Pipeline& pipeline, Runner& runner, const ConstImageView& in,
                    const StageObserver& observer) const {
    const Schedule& schedule = slot.workspace.schedule();
    const std::vector<std::string> names = stages();
    const int channels = network_.arch.channels, scale = network_.arch.scale;
    const int height = schedule.rows * kTile, width = schedule.columns * kTile;
    std::vector<float> planar(static_cast<std::size_t>(channels) * height * width);
    const std::size_t pairs = network_.pairs.size();
    for (std::size_t stage = 0; stage < pairs + 2; ++stage) {  // head, the pairs, body
      runner.run(schedule.ends[stage]);
      pipeline.copy_x(std::min(stage, pairs), planar.data());
      observer({names[stage], channels, height, width, planar.data(), nullptr});
    }

    // The padded output, once more apart from the caller's picture.
    std::vector<float> rgb(static_cast<std::size_t>(3) * height * scale * width * scale);
    const ImageView out = pipeline.set_output(view_of(rgb.data(), width * scale, height * scale));
    const int last = static_cast<int>(schedule.tasks.size());
    for (int task = schedule.ends[pairs + 1]; task < last; ++task) {
      for (int column = 0; column < schedule.columns; ++column) {
        pipeline.run_tile(schedule.tasks[task], column, 0);
      }
    }
    pipeline.set_output(out);
    observe_planar("tail", rgb, width * scale, width * scale, height * scale, false, observer);
    observe_planar("output", rgb, width * scale, in.width * scale, in.height * scale, true,
                   observer);
    runner.run(last);
  }

  // The upper left width x height of interleaved rows of `stride` pixels.
  void observe_planar(std::string_view name, const std::vector<float>& rgb, int stride, int width,
                      int height, bool with_mean, const StageObserver& observer) const {
    std::vector<float> planar;
    planar.reserve(static_cast<std::size_t>(3) * width * height);
    for (int c = 0; c < 3; ++c) {
      const float mean = with_mean ? 0.0f : network_.mean[c];
      for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
          planar.push_back(rgb[(static_cast<std::size_t>(y) * stride + x) * 3 + c] - mean);
        }
      }
    }
    observer({name, 3, height, width, planar.data(), nullptr});
  }

  const Precision precision_;
  const Isa isa_;
  const Kernels& kernels_;
  const PackedNetwork network_;
  const std::shared_ptr<ThreadPool> pool_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Slot>> free_;  // guarded by mutex_
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(std::shared_ptr<const Network> network,
                                          const PrecisionPlan& plan,
                                          std::shared_ptr<ThreadPool> pool) {
  if (!network->one_hot_shifts()) {
    throw Error(ErrorKind::model,
                "shift masks: the cpu device expects a single 1 in each, found others");
  }
  int largest = 0;
  for (const int window : network->arch.windows) {
    if (window != 4 && window != 8 && window != 16) {
      throw Error(ErrorKind::model,
                  "windows: the cpu device expects 4, 8 or 16, found " + std::to_string(window));
    }
    largest = std::max(largest, window);
  }
  if (largest != kTile) {  // the picture would be padded to less than whole tiles
    throw Error(ErrorKind::model, "windows: the cpu device expects one of 16, found none above " +
                                      std::to_string(largest));
  }
  return std::make_unique<CpuBackend>(*network, plan, std::move(pool));
}

}  // namespace elan
