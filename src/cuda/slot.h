// The way of pictures from the host through the device and back: pinned memory on one side, device
// memory on the other, so that copies of one slot run while another computes.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <vector>

#include "core/thread_pool.h"
#include "cuda/cuda_backend.h"
#include "cuda/device.h"
#include "cuda/row_bands.h"

namespace elan::cuda {

// One batch at a time: fill(), upload(), the network's work, download(), collect(). After an
// exception settle() must come before anything else. The device is current in every call.
class Slot {
 public:
  Slot() : flag_(sizeof(unsigned)), host_flag_(sizeof(unsigned)) {}

  // Copies the pictures into pinned memory; touches no device memory.
  void fill(std::span<const ConstImageView> in);

  // Enqueues the copy to the device and makes `compute` wait for it. The result describes the
  // slot's device memory; its output is for pictures `scale` times as large, of `output_type`.
  DevicePictures upload(std::span<const ConstImageView> in, SampleType output_type, int scale,
                        cudaStream_t copies, cudaStream_t compute);

  // Enqueues the copies back, behind what `compute` has been given.
  void download(cudaStream_t compute, cudaStream_t copies);

  // Waits band by band and copies each on into `out`, on the threads of `pool`; `device` is the
  // current one. Returns false, with `out` unspecified, if a result was no finite number.
  bool collect(std::span<const ImageView> out, int device, ThreadPool& pool);

  // Waits for whatever is under way, which may have failed.
  void settle(cudaStream_t upload, cudaStream_t compute, cudaStream_t download) noexcept;

  // Gives the memory back; nothing may be under way.
  void release() noexcept;

  [[nodiscard]] unsigned* flag() const { return reinterpret_cast<unsigned*>(flag_.data()); }
  [[nodiscard]] std::size_t device_bytes() const { return input_.size() + output_.size(); }
  [[nodiscard]] bool busy() const { return busy_; }

 private:
  static constexpr std::size_t kMostBands = 32;

  DeviceBuffer input_, output_, flag_;
  PinnedBuffer host_input_, host_output_, host_flag_;
  Event uploaded_, computed_;
  std::array<Event, kMostBands> arrived_;
  std::size_t input_bytes_ = 0;
  RowBands output_rows_;
  bool busy_ = false;
};

// A few slots for any number of threads.
class SlotPool {
 public:
  explicit SlotPool(std::size_t most) : most_(most) {}

  // Waits for a free slot, which is then the caller's until it gives it back. Throws Error
  // (cancelled) when `stop` is set first.
  Slot& take(const std::stop_token& stop);
  void give(Slot& slot);

  [[nodiscard]] std::size_t device_bytes() const;
  // Nothing may be under way in any slot.
  void clear() {
    free_.clear();
    slots_.clear();
  }

 private:
  const std::size_t most_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*> free_;
};

}  // namespace elan::cuda
