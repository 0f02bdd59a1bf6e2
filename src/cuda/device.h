// The CUDA runtime, with errors as exceptions and memory that frees itself.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>
#include <utility>

#include "cuda/plan.h"

namespace elan::cuda {

// Throws Error: memory when the device has none left, else device; with the call, file and line.
void check(cudaError_t status, const char* call, const char* file, int line);
#define ELAN_CUDA(call) ::elan::cuda::check((call), #call, __FILE__, __LINE__)

// Makes `index` the thread's current device for its lifetime.
class UseDevice {
 public:
  explicit UseDevice(int index);
  ~UseDevice();
  UseDevice(const UseDevice&) = delete;
  UseDevice& operator=(const UseDevice&) = delete;

 private:
  int before_ = 0;
};

// Opens device `index`; throws Error (device) when there is none or it cannot run these kernels.
struct DeviceInfo {
  std::string name;
  int major = 0, minor = 0;      // compute capability
  std::size_t memory = 0;        // bytes, whoever uses them at the moment
  int clock_khz = 0;             // of the multiprocessors, at most
  double gbytes_per_second = 0;  // of the memory, as its maker states
  DeviceLimits limits;
};
DeviceInfo open_device(int index);

// Why there is no device to open, from what the runtime says: `driver` and `runtime` are versions
// as it numbers them (13000 for 13.0), 0 for none.
std::string no_device_text(cudaError_t status, int driver, int runtime);

// Memory on the current device, or pinned memory of the host. Growing loses the content.
enum class MemoryKind { device, pinned };

template <MemoryKind kind>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t bytes) { reserve(bytes); }
  ~Buffer() { release(); }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&&) = delete;

  // Returns whether the memory moved.
  bool reserve(std::size_t bytes) {
    if (bytes <= size_) return false;
    release();
    if constexpr (kind == MemoryKind::device) {
      ELAN_CUDA(cudaMalloc(&data_, bytes));
    } else {
      ELAN_CUDA(cudaMallocHost(&data_, bytes));
    }
    size_ = bytes;
    return true;
  }
  void release() noexcept {
    if (data_ == nullptr) return;
    if constexpr (kind == MemoryKind::device) {
      cudaFree(data_);
    } else {
      cudaFreeHost(data_);
    }
    data_ = nullptr;
    size_ = 0;
  }
  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(data_); }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

using DeviceBuffer = Buffer<MemoryKind::device>;
using PinnedBuffer = Buffer<MemoryKind::pinned>;

// `timed` ones can be subtracted from each other.
enum class EventKind { plain, timed };

class Event {
 public:
  explicit Event(EventKind kind = EventKind::plain) {
    ELAN_CUDA(cudaEventCreateWithFlags(
        &event_, kind == EventKind::timed ? cudaEventDefault : cudaEventDisableTiming));
  }
  ~Event() {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&&) = delete;
  void record(cudaStream_t stream) { ELAN_CUDA(cudaEventRecord(event_, stream)); }
  // Until what was recorded has passed, leaving the core to other threads meanwhile.
  void wait() const;
  // Milliseconds; both must be timed and have passed.
  [[nodiscard]] double since(const Event& earlier) const {
    float ms = 0;
    ELAN_CUDA(cudaEventElapsedTime(&ms, earlier.event_, event_));
    return ms;
  }
  [[nodiscard]] cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

class Stream {
 public:
  Stream() { ELAN_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  [[nodiscard]] cudaStream_t get() const { return stream_; }
  void wait() const { ELAN_CUDA(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

// What is enqueued on `stream` from now on begins when `event` has passed.
inline void wait_on_device(cudaStream_t stream, const Event& event) {
  ELAN_CUDA(cudaStreamWaitEvent(stream, event.get(), 0));
}

}  // namespace elan::cuda
