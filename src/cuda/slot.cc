#include "cuda/slot.h"

#include <cstring>

#include "elan/error.h"

namespace elan::cuda {
namespace {

// Small enough for the copies out of pinned memory to follow closely on the one into it.
constexpr std::size_t kBandBytes = std::size_t{256} << 10;

std::size_t row_of(int width, SampleType type) {
  return static_cast<std::size_t>(width) * 3 * size_of(type);
}

}  // namespace

void Slot::fill(std::span<const ConstImageView> in) {
  const std::size_t row = row_of(in.front().width, in.front().type);
  input_bytes_ = row * in.front().height * in.size();
  host_input_.reserve(input_bytes_);
  std::byte* to = host_input_.data();
  for (const ConstImageView& picture : in) {
    for (int y = 0; y < picture.height; ++y, to += row) {
      std::memcpy(to, picture.data + static_cast<std::size_t>(y) * picture.row_bytes, row);
    }
  }
}

DevicePictures Slot::upload(std::span<const ConstImageView> in, SampleType output_type, int scale,
                            cudaStream_t copies, cudaStream_t compute) {
  const ConstImageView& first = in.front();
  output_rows_ = {static_cast<std::size_t>(first.height) * scale * in.size(),
                  row_of(first.width * scale, output_type), kBandBytes, kMostBands};
  input_.reserve(input_bytes_);
  output_.reserve(output_rows_.bytes());
  host_output_.reserve(output_rows_.bytes());
  busy_ = true;
  ELAN_CUDA(cudaMemcpyAsync(input_.data(), host_input_.data(), input_bytes_, cudaMemcpyHostToDevice,
                            copies));
  ELAN_CUDA(cudaMemsetAsync(flag_.data(), 0, sizeof(unsigned), copies));
  uploaded_.record(copies);
  wait_on_device(compute, uploaded_);
  DevicePictures p;
  p.input = input_.data();
  p.input_type = first.type;
  p.output = output_.data();
  p.output_type = output_type;
  p.width = first.width;
  p.height = first.height;
  p.batch = static_cast<int>(in.size());
  p.not_finite = flag();
  return p;
}

void Slot::download(cudaStream_t compute, cudaStream_t copies) {
  computed_.record(compute);
  wait_on_device(copies, computed_);
  ELAN_CUDA(cudaMemcpyAsync(host_flag_.data(), flag_.data(), sizeof(unsigned),
                            cudaMemcpyDeviceToHost, copies));
  for (std::size_t band = 0; band < output_rows_.count(); ++band) {
    const std::size_t at = output_rows_.begin(band);
    ELAN_CUDA(cudaMemcpyAsync(host_output_.data() + at, output_.data() + at,
                              output_rows_.begin(band + 1) - at, cudaMemcpyDeviceToHost, copies));
    arrived_[band].record(copies);
  }
}

bool Slot::collect(std::span<const ImageView> out, int device, ThreadPool& pool) {
  arrived_[0].wait();  // before others are woken, who would ask all the while
  // One thread copies at a third of the rate that the bus brings.
  pool.parallel_for(output_rows_.count(), [&](std::size_t band, int) {
    const UseDevice use(device);
    arrived_[band].wait();
    output_rows_.copy(band, host_output_.data(), out);
  });
  busy_ = false;
  unsigned value = 0;
  std::memcpy(&value, host_flag_.data(), sizeof value);
  return value == 0;
}

void Slot::settle(cudaStream_t upload, cudaStream_t compute, cudaStream_t download) noexcept {
  if (!busy_) return;
  for (cudaStream_t stream : {upload, compute, download}) cudaStreamSynchronize(stream);
  cudaGetLastError();
  busy_ = false;
}

void Slot::release() noexcept {
  input_.release();
  output_.release();
  host_input_.release();
  host_output_.release();
}

Slot& SlotPool::take(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  const bool room =
      changed_.wait(lock, stop, [&] { return !free_.empty() || slots_.size() < most_; });
  if (!room) throw Error(ErrorKind::cancelled, "cancelled");
  if (free_.empty()) {
    slots_.push_back(std::make_unique<Slot>());
    return *slots_.back();
  }
  Slot& slot = *free_.back();
  free_.pop_back();
  return slot;
}

void SlotPool::give(Slot& slot) {
  {
    const std::lock_guard lock(mutex_);
    free_.push_back(&slot);
  }
  changed_.notify_one();
}

std::size_t SlotPool::device_bytes() const {
  const std::lock_guard lock(mutex_);
  std::size_t bytes = 0;
  for (const auto& slot : slots_) bytes += slot->device_bytes();
  return bytes;
}

}  // namespace elan::cuda
