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
};

class CudaBackend : public Backend {
 public:
  // Enqueues the network on `stream` (a cudaStream_t; null: the backend's own) and returns; the
  // caller orders everything by that stream and keeps the pictures until it is done. One call at a
  // time per backend may be under way on the device. `graph`: replay a captured graph, captured on
  // the first call with these arguments.
  virtual void enqueue(const DevicePictures& pictures, void* stream, bool graph) = 0;

  // Waits for the backend's own stream; false if a result since the last call was no finite number.
  virtual bool finish() = 0;

  // Bytes of device memory held: the working memory, and the packed weights.
  [[nodiscard]] virtual std::size_t arena_bytes() const = 0;
  [[nodiscard]] virtual std::size_t weight_bytes() const = 0;

  // Milliseconds of each kind of operation in one pass, from events between the launches; medians
  // of several passes.
  virtual std::vector<std::pair<std::string, double>> profile(const DevicePictures& pictures) = 0;

  // How often a picture was computed again in a safer precision because it overflowed.
  [[nodiscard]] virtual std::uint64_t reruns() const = 0;
};

// Precisions: fp16, bf16, tf32, and fp32 as two FP16 terms. Throws Error: device (no such device,
// driver trouble, memory), usage (a precision it cannot do), model (a network it cannot run).
std::unique_ptr<CudaBackend> make_cuda_backend(std::shared_ptr<const Network> network,
                                               const PrecisionPlan& plan, int device_index);

}  // namespace elan
