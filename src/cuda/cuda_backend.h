// The network on an NVIDIA GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend.h"

namespace elan {

// Devices of this machine; 0 when there is no driver. Never throws.
int cuda_device_count() noexcept;

// The devices in words, or why there are none.
std::string cuda_status();

// Pictures that are on the device already: dense interleaved RGB, one after another.
struct DevicePictures {
  const void* input = nullptr;  // [batch][height][width][3]
  SampleType input_type = SampleType::u8;
  void* output = nullptr;  // [batch][scale * height][scale * width][3]
  SampleType output_type = SampleType::u8;
  int width = 0, height = 0, batch = 1;
  // On the device; set to 1 if a result is no finite number, never cleared. Null: the backend's
  // own.
  unsigned* not_finite = nullptr;
};

// How a pass gets onto the device; the results are the same bit for bit.
enum class Launch {
  plain,      // kernel by kernel
  graph,      // a replayed graph, captured on the first call with these arguments
  automatic,  // plain the first time, a graph from the second on: capturing takes longer than a
              // pass
};

class CudaBackend : public Backend {
 public:
  // Enqueues the network on `stream` (a cudaStream_t; null: the backend's own) and returns; the
  // pictures must stay until it is done. Passes on several streams wait for each other on the
  // device, since they share the working memory. Throws Error (usage) while the stream is being
  // captured: a graph of the caller's could not be told when the working memory moves.
  virtual void enqueue(const DevicePictures& pictures, void* stream, Launch launch) = 0;

  // Waits for all that was enqueued so far; false if a result without a not_finite of its own since
  // the last call was no finite number.
  virtual bool finish() = 0;

  // Makes room for pictures up to this size, so that no later call has to.
  virtual void reserve(int width, int height, int batch) = 0;

  // Bytes of device memory held: for working (pictures on their way included), and the packed
  // weights. While nothing is under way.
  [[nodiscard]] virtual std::size_t arena_bytes() const = 0;
  [[nodiscard]] virtual std::size_t weight_bytes() const = 0;

  // Each kind of operation in one pass: seconds between events around the launches, medians of
  // several passes.
  virtual std::vector<OperationTime> profile(const DevicePictures& pictures) = 0;

  // How often a picture was computed again in a safer precision because it overflowed.
  [[nodiscard]] virtual std::uint64_t reruns() const = 0;

  [[nodiscard]] virtual int device_index() const = 0;
};

// What a network runs in on this device unless told otherwise: fp16, or int8 where it has scales
// and that is faster. Throws Error (device) as make_cuda_backend does.
Precision default_cuda_precision(const Network& network, int device_index);

// Precisions: fp16, bf16, tf32, fp32 as two FP16 terms, fp8 and int8; a plan may mix them by ELAB,
// each of which gets what its most exact operation asks for (cuda/shape.h). Throws Error: device
// (no such device, driver trouble, memory), usage (a precision it cannot do), model (a network it
// cannot run).
std::unique_ptr<CudaBackend> make_cuda_backend(std::shared_ptr<const Network> network,
                                               const PrecisionPlan& plan, int device_index);

}  // namespace elan
