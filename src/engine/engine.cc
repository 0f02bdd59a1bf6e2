#include "elan/engine.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <mutex>
#include <new>
#include <set>
#include <utility>

#include "backend.h"
#include "core/memory.h"
#include "core/thread_pool.h"
#include "engine/band_source.h"
#include "engine/devices.h"
#include "engine/tiles.h"
#include "model/network.h"

namespace elan {
namespace {

// Code, weights, thread stacks and the allocator's slack: what a process holds beside its pictures.
constexpr std::size_t kProcessBytes = std::size_t{64} << 20;

// Pictures beyond this are refused: sizes of their buffers could overflow.
constexpr int kMaxSide = 1 << 20;

void check_option(bool ok, const std::string& message) {
  if (!ok) throw Error(ErrorKind::usage, message);
}

std::string size_text(int width, int height) {
  return std::to_string(width) + "x" + std::to_string(height);
}

}  // namespace

struct Engine::State {
  Model model;
  EngineOptions options;
  std::size_t max_memory = 0;
  Device device;
  std::string description;
  std::mutex mutex;
  std::vector<int> active;  // runs under way on each backend; guarded by mutex

  State(Model m, EngineOptions o) : model(std::move(m)), options(std::move(o)) {
    check_option(options.threads >= 0,
                 "threads: expected 0 or more, found " + std::to_string(options.threads));
    check_option(
        options.tile == 0 || (options.tile % kTileGrid == 0 && options.tile >= kSmallestTile),
        "tile: expected 0 or a multiple of " + std::to_string(kTileGrid) + " from " +
            std::to_string(kSmallestTile) + " on, found " + std::to_string(options.tile));
    max_memory = options.max_memory != 0 ? options.max_memory : memory_limit() / 2;
  }

  void use(Device opened) {
    device = std::move(opened);
    active.assign(device.backends.size(), 0);
    for (const auto& backend : device.backends) {
      description += (description.empty() ? "" : ", ") + backend->description();
    }
  }

  // Marks the least busy backend as busy for the lifetime of the lease: of one run, so that a
  // picture that is being encoded keeps no device from the next.
  class Lease {
   public:
    explicit Lease(State& state) : state_(state) {
      const std::lock_guard lock(state_.mutex);
      const auto least = std::min_element(state_.active.begin(), state_.active.end());
      index_ = static_cast<std::size_t>(least - state_.active.begin());
      ++state_.active[index_];
    }
    ~Lease() {
      const std::lock_guard lock(state_.mutex);
      --state_.active[index_];
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    [[nodiscard]] Backend& backend() const { return *state_.device.backends[index_]; }

   private:
    State& state_;
    std::size_t index_ = 0;
  };

  [[nodiscard]] TileRequest request(int width, int height, std::size_t reserved) const {
    if (width < 1 || height < 1 || width > kMaxSide || height > kMaxSide) {
      throw Error(ErrorKind::input, "picture: expected 1x1 to " + size_text(kMaxSide, kMaxSide) +
                                        " pixels, found " + size_text(width, height));
    }
    TileRequest r;
    r.width = width;
    r.height = height;
    r.scale = model.scale();
    r.tile = options.tile;
    r.taken = kProcessBytes + reserved;
    r.budget = max_memory > r.taken ? max_memory - r.taken : 0;
    r.device_budget = device_budget();
    r.backend_bytes = [this](int w, int h) { return host_bytes(w, h, 1); };
    if (r.device_budget != 0)
      r.device_bytes = [this](int w, int h) { return device_bytes(w, h, 1); };
    return r;
  }

  // Of the backends' own memories the smallest, so that a plan fits each; 0: they have none.
  [[nodiscard]] std::size_t device_budget() const {
    std::size_t least = 0;
    for (const auto& backend : device.backends) {
      std::size_t own = backend->own_memory();
      if (own != 0 && options.max_memory != 0) own = std::min(own, options.max_memory);
      if (own != 0 && (least == 0 || own < least)) least = own;
    }
    return least;
  }
  [[nodiscard]] std::size_t device_bytes(int w, int h, int batch) const {
    std::size_t most = 0;
    for (const auto& backend : device.backends) {
      if (backend->own_memory() != 0) most = std::max(most, backend->memory_needed(w, h, batch));
    }
    return most;
  }
  [[nodiscard]] std::size_t host_bytes(int w, int h, int batch) const {
    std::size_t most = 0;
    for (const auto& backend : device.backends) {
      most = std::max(most, backend->own_memory() != 0 ? backend->host_memory_needed(w, h, batch)
                                                       : backend->memory_needed(w, h, batch));
    }
    return most;
  }
  // Whether so many pictures fit in one pass.
  [[nodiscard]] bool fits(int w, int h, int batch) const {
    return host_bytes(w, h, batch) <= request(w, h, 0).budget &&
           device_bytes(w, h, batch) <= device_budget();
  }

  // On whichever backend is the least busy then.
  auto runner() {
    return [this](const ConstImageView& in, const ImageView& out, const RunContext& context) {
      const Lease lease(*this);
      lease.backend().run({&in, 1}, {&out, 1}, context);
    };
  }

  // False when memory ran out.
  bool run_together(std::span<const ConstImageView> in, std::span<const ImageView> out,
                    const RunOptions& run) {
    const Lease lease(*this);
    RunContext context;
    context.stop = run.stop;
    context.progress = run.progress;
    context.warning = run.warning;
    try {
      lease.backend().run(in, out, context);
      return true;
    } catch (const std::bad_alloc&) {
      return false;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::memory) throw;
      return false;
    }
  }

  void check_sizes(const ConstImageView& in, const ImageView& out) const {
    if (out.width != in.width * model.scale() || out.height != in.height * model.scale()) {
      throw Error(ErrorKind::input,
                  "output: expected " +
                      size_text(in.width * model.scale(), in.height * model.scale()) +
                      " pixels for " + size_text(in.width, in.height) + ", found " +
                      size_text(out.width, out.height));
    }
  }
};

namespace {

// Runs `attempt`, which throws bad_alloc or Error (memory) when memory runs out, with smaller and
// smaller plans until it succeeds. A tile size that the user asked for is not second-guessed.
template <typename Attempt>
void with_smaller_tiles(const TileRequest& request, TilePlan& plan, Attempt attempt) {
  for (;;) {
    try {
      return attempt();
    } catch (const std::bad_alloc&) {
      if (request.tile != 0) {
        throw Error(ErrorKind::memory, "memory: ran out with tiles of " +
                                           std::to_string(request.tile) +
                                           " pixels; a smaller --tile helps");
      }
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::memory || request.tile != 0) throw;
    }
    plan = smaller_plan(request, plan);
  }
}

// The caller's `warning`, told each text once.
std::function<void(const std::string&)> once(
    const std::function<void(const std::string&)>& warning) {
  if (!warning) return {};
  return [warning, told = std::set<std::string>()](const std::string& text) mutable {
    if (told.insert(text).second) warning(text);
  };
}

// Runs one picture somewhere.
using Runner = std::function<void(const ConstImageView&, const ImageView&, const RunContext&)>;

// Cuts a picture into bands of tiles and computes them one after another.
class Tiler {
 public:
  Tiler(Runner runner, const ConstImageView& in, int scale, const RunOptions& run)
      : runner_(std::move(runner)),
        in_(in),
        scale_(scale),
        run_(run),
        warning_(once(run.warning)) {}

  // Computes the band of input rows [begin, end) into `out`, which holds just its output rows.
  void band(const TilePlan& plan, const Span& rows, const ImageView& out) {
    for (int x = 0; x < in_.width; x += plan.tile_width) {
      const Span columns = tile_span(in_.width, x, plan.tile_width, plan.overlap);
      tile(columns, rows,
           out.crop(columns.begin * scale_, 0, (columns.end - columns.begin) * scale_, out.height));
    }
  }

 private:
  void tile(const Span& columns, const Span& rows, const ImageView& out) {
    const ConstImageView in =
        in_.crop(columns.from, rows.from, columns.to - columns.from, rows.to - rows.from);
    const double before = done_;
    const double share = static_cast<double>(columns.end - columns.begin) *
                         (rows.end - rows.begin) / (static_cast<double>(in_.width) * in_.height);
    RunContext context;
    context.stop = run_.stop;
    if (warning_) context.warning = [this](const std::string& text) { warning_(text); };
    if (run_.progress) {
      context.progress = [&](double part) { run_.progress(before + share * part); };
    }
    const bool exact = columns.from == columns.begin && columns.to == columns.end &&
                       rows.from == rows.begin && rows.to == rows.end;
    if (exact) {
      runner_(in, out, context);
    } else {
      const std::size_t pixel = 3 * size_of(out.type);
      ImageView computed{nullptr, in.width * scale_, in.height * scale_, out.type, 0};
      computed.row_bytes = static_cast<std::size_t>(computed.width) * pixel;
      scratch_.resize(computed.row_bytes * static_cast<std::size_t>(computed.height));
      computed.data = scratch_.data();
      runner_(in, computed, context);
      const ImageView kept =
          computed.crop((columns.begin - columns.from) * scale_, (rows.begin - rows.from) * scale_,
                        out.width, out.height);
      for (int y = 0; y < out.height; ++y) {
        std::memcpy(out.data + static_cast<std::size_t>(y) * out.row_bytes,
                    kept.data + static_cast<std::size_t>(y) * kept.row_bytes,
                    static_cast<std::size_t>(out.width) * pixel);
      }
    }
    done_ = before + share;
  }

  Runner runner_;
  ConstImageView in_;
  int scale_;
  const RunOptions& run_;
  std::function<void(const std::string&)> warning_;
  std::vector<std::byte> scratch_;
  double done_ = 0;
};

}  // namespace

// Bands of tiles of the enlarged picture.
class BandSource : public BandedRows {
 public:
  BandSource(Engine::State& state, const ConstImageView& picture, SampleType out_type,
             RunOptions run, std::size_t reserved)
      : BandedRows(picture, state.model.scale(), out_type),
        run_(std::move(run)),
        request_(state.request(picture.width, picture.height, reserved)),
        plan_(plan_tiles(request_)),
        tiler_(state.runner(), in(), scale(), run_) {}

 private:
  int compute_band(int begin) override {
    int end = begin;
    with_smaller_tiles(request_, plan_, [&] {
      const Span rows = tile_span(in().height, begin, plan_.tile_height, plan_.overlap);
      tiler_.band(plan_, rows, hold(rows.end - rows.begin));
      end = rows.end;
    });
    return end;
  }

  RunOptions run_;
  TileRequest request_;
  TilePlan plan_;
  Tiler tiler_;
};

Engine::Engine(Model model, EngineOptions options)
    : state_(std::make_unique<State>(std::move(model), std::move(options))) {
  state_->use(open_device(state_->model, state_->options));
}

Engine::Engine(Model model, EngineOptions options, std::unique_ptr<Backend> backend)
    : state_(std::make_unique<State>(std::move(model), std::move(options))) {
  Device device;
  device.name = "custom";
  device.backends.push_back(std::move(backend));
  state_->use(std::move(device));
}

Engine::Engine(Model model, EngineOptions options, std::vector<std::unique_ptr<Backend>> backends)
    : state_(std::make_unique<State>(std::move(model), std::move(options))) {
  check_option(!backends.empty(), "device: expected at least one backend, found none");
  Device device;
  device.name = "custom";
  device.backends = std::move(backends);
  state_->use(std::move(device));
}

Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

void Engine::upscale(const ConstImageView& in, const ImageView& out, const RunOptions& run) {
  const TileRequest request = state_->request(in.width, in.height, 0);
  state_->check_sizes(in, out);
  TilePlan plan = plan_tiles(request);
  Tiler tiler(state_->runner(), in, state_->model.scale(), run);
  int begin = 0;
  while (begin < in.height) {
    with_smaller_tiles(request, plan, [&] {
      const Span rows = tile_span(in.height, begin, plan.tile_height, plan.overlap);
      const int scale = state_->model.scale();
      tiler.band(plan, rows,
                 out.crop(0, rows.begin * scale, out.width, (rows.end - rows.begin) * scale));
      begin = rows.end;
    });
  }
}

void Engine::upscale(std::span<const ConstImageView> in, std::span<const ImageView> out,
                     const RunOptions& run) {
  if (in.size() != out.size()) {
    throw Error(ErrorKind::input, "batch: " + std::to_string(in.size()) +
                                      " pictures in, room for " + std::to_string(out.size()) +
                                      " out");
  }
  if (in.empty()) return;
  bool together = plan(in[0].width, in[0].height).whole();
  for (std::size_t i = 0; i < in.size(); ++i) {
    state_->check_sizes(in[i], out[i]);
    together = together && in[i].width == in[0].width && in[i].height == in[0].height &&
               in[i].type == in[0].type && out[i].type == out[0].type;
  }
  RunOptions part = run;
  part.warning = once(run.warning);
  // As many at once as fit; half as many after each time that memory ran out.
  std::size_t most = together ? in.size() : 1;
  while (most > 1 && !state_->fits(in[0].width, in[0].height, static_cast<int>(most))) {
    most = (most + 1) / 2;
  }
  for (std::size_t done = 0; done < in.size();) {
    const std::size_t count = std::min(most, in.size() - done);
    const double before = static_cast<double>(done) / static_cast<double>(in.size());
    const double share = static_cast<double>(count) / static_cast<double>(in.size());
    if (run.progress) {
      part.progress = [&run, before, share](double p) { run.progress(before + share * p); };
    }
    if (count == 1) {
      upscale(in[done], out[done], part);
    } else if (!state_->run_together(in.subspan(done, count), out.subspan(done, count), part)) {
      most = (count + 1) / 2;
      continue;
    }
    done += count;
  }
}

std::unique_ptr<RowSource> Engine::stream(const ConstImageView& in, SampleType out_type,
                                          const RunOptions& run, std::size_t reserved) {
  return std::make_unique<BandSource>(*state_, in, out_type, run, reserved);
}

TilePlan Engine::plan(int width, int height, std::size_t reserved) const {
  return plan_tiles(state_->request(width, height, reserved));
}

const Model& Engine::model() const {
  return state_->model;
}
const std::string& Engine::device() const {
  return state_->device.name;
}
const std::string& Engine::description() const {
  return state_->description;
}
Precision Engine::precision() const {
  return state_->device.backends.front()->precision();
}
const std::string& Engine::precision_plan() const {
  return state_->device.precision_plan;
}
std::size_t Engine::max_memory() const {
  return state_->max_memory;
}
int Engine::devices() const {
  return static_cast<int>(state_->device.backends.size());
}
const std::vector<std::string>& Engine::warnings() const {
  return state_->device.warnings;
}
Backend& Engine::backend() const {
  return *state_->device.backends.front();
}

}  // namespace elan
