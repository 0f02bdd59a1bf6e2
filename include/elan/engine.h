// Runs a model on pictures: whole where memory allows, in tiles beyond that.
//
//   elan::Engine engine(elan::Model::load("elan_light_x4.safetensors"));
//   engine.upscale(elan::view_of(rgb, w, h), elan::view_of(big, 4 * w, 4 * h));
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "elan/error.h"
#include "elan/export.h"
#include "elan/image.h"
#include "elan/model.h"
#include "elan/precision.h"

namespace elan {

struct EngineOptions {
  std::string device = "auto";              // auto, cpu, reference, cuda, cuda:N[,N...]
  std::optional<Precision> precision = {};  // none: the device's default (cpu: fp32)
  // Instead of a precision: a precision for each operation (docs/precision.md), as a file's path or
  // as the JSON text itself, which begins with {.
  std::string precision_plan = {};
  int threads = 0;  // CPU threads; 0: every core this process may use
  // Bytes of the host's memory, and of a device's own; 0: half of the smaller of physical memory
  // and cgroup limit, and what the device offers (three quarters of a GPU's memory).
  std::size_t max_memory = 0;
  int tile = 0;  // input pixels a side, a multiple of 16; 0: whole if it fits
};

struct RunOptions {
  std::stop_token stop;                  // when set, the call throws Error (cancelled) soon
  std::function<void(double)> progress;  // share done, 0..1, rising; called from any thread
  // One line about how the result came about, such as a safer precision than the one asked for;
  // each text once a picture, from any thread.
  std::function<void(const std::string&)> warning;
};

// How a picture is cut, in input pixels. Origins and overlaps are multiples of 16 of the whole
// picture's grid.
struct TilePlan {
  int tile_width = 0, tile_height = 0;  // without overlap; the last column and row may be smaller
  int columns = 1, rows = 1;
  int overlap = 0;         // pixels around a tile that are computed and thrown away
  std::size_t memory = 0;  // bytes held at most: backend, tile and, when streaming, band buffers
  std::size_t device_memory = 0;  // bytes of the device's own memory, where it has one
  [[nodiscard]] bool whole() const { return columns == 1 && rows == 1; }
};

class Backend;
class BandSource;
class RowSource;

// One engine may be used from several threads at once; pictures then share its worker threads, or
// are handed out to its devices as these become free.
class ELAN_API Engine {
 public:
  // Throws Error: usage (unknown device, a precision or plan that it cannot do, both given), model
  // (the device cannot run this network, a plan that is none for it), device (no such device).
  explicit Engine(Model model, EngineOptions options = {});
  // On a backend of the caller's own; options.device, precision, precision_plan and
  // threads are ignored.
  Engine(Model model, EngineOptions options, std::unique_ptr<Backend> backend);
  // On several that compute the same; each run goes to the least busy one.
  Engine(Model model, EngineOptions options, std::vector<std::unique_ptr<Backend>> backends);
  ~Engine();
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  // `out` must be scale times `in`, each way. Throws Error: input (sizes do not match, empty
  // picture), memory (even with the smallest tile), device, cancelled.
  void upscale(const ConstImageView& in, const ImageView& out, const RunOptions& run = {});

  // Several pictures of one size in one pass, where the device gains from that.
  void upscale(std::span<const ConstImageView> in, std::span<const ImageView> out,
               const RunOptions& run = {});

  // Rows of the enlarged picture from top to bottom, computed as they are asked for, so that the
  // whole output never needs to be held when it is computed in tiles. `in` and the engine must
  // outlive the source. `reserved` as for plan().
  [[nodiscard]] std::unique_ptr<RowSource> stream(const ConstImageView& in, SampleType out_type,
                                                  const RunOptions& run = {},
                                                  std::size_t reserved = 0);

  // What upscale() and stream() do with a picture of this size while the caller holds `reserved`
  // bytes (its pictures, an encoder). Pure: the same options give the same plan, whatever else is
  // running. Throws Error (memory) when even the smallest tile exceeds max_memory().
  [[nodiscard]] TilePlan plan(int width, int height, std::size_t reserved = 0) const;

  [[nodiscard]] const Model& model() const;
  [[nodiscard]] const std::string& device() const;          // what was chosen, for example "cpu"
  [[nodiscard]] const std::string& description() const;     // and how, "cpu (avx512, 2 threads)"
  [[nodiscard]] Precision precision() const;                // a plan's default
  [[nodiscard]] const std::string& precision_plan() const;  // one line of JSON; "": one precision
  [[nodiscard]] std::size_t max_memory() const;             // bytes of the host's
  [[nodiscard]] int devices() const;  // that pictures are handed out to; 1 for CPUs
  [[nodiscard]] const std::vector<std::string>& warnings() const;  // about the choice of device
  [[nodiscard]] Backend& backend() const;  // for tools; not part of the stable API

 private:
  friend class BandSource;
  struct State;
  std::unique_ptr<State> state_;
};

// See Engine::stream. Not for concurrent use.
class ELAN_API RowSource {
 public:
  virtual ~RowSource() = default;
  // Writes rows [y, y + out.height) of the enlarged picture; `out` has its full width and the
  // sample type asked for. y may not go back behind the band of tiles that it is in. Throws as
  // Engine::upscale.
  virtual void read(int y, const ImageView& out) = 0;
};

}  // namespace elan
