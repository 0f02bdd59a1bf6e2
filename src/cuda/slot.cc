#include "cuda/slot.h"

#include <algorithm>
#include <cstring>

#include "elan/error.h"

namespace elan::cuda {
namespace {

// Small enough for the copy out of pinned memory to follow closely on the one into it.
constexpr std::size_t kPieceBytes = std::size_t{512} << 10;

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
  output_bytes_ = row_of(first.width * scale, output_type) * first.height * scale * in.size();
  input_.reserve(input_bytes_);
  output_.reserve(output_bytes_);
  host_output_.reserve(output_bytes_);
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
  piece_ = std::max(kPieceBytes, (output_bytes_ + kMostPieces - 1) / kMostPieces);
  for (std::size_t at = 0, i = 0; at < output_bytes_; at += piece_, ++i) {
    ELAN_CUDA(cudaMemcpyAsync(host_output_.data() + at, output_.data() + at,
                              std::min(piece_, output_bytes_ - at), cudaMemcpyDeviceToHost,
                              copies));
    arrived_[i].record(copies);
  }
  ELAN_CUDA(cudaMemcpyAsync(host_flag_.data(), flag_.data(), sizeof(unsigned),
                            cudaMemcpyDeviceToHost, copies));
  finished_.record(copies);
}

bool Slot::collect(std::span<const ImageView> out) {
  const ImageView& first = out.front();
  const std::size_t row = row_of(first.width, first.type);
  std::size_t there = 0, next = 0, at = 0;  // bytes that have arrived, the next piece, bytes taken
  for (const ImageView& picture : out) {
    for (int y = 0; y < picture.height; ++y, at += row) {
      while (there < at + row) {
        arrived_[next++].wait();
        there = std::min(output_bytes_, there + piece_);
      }
      std::memcpy(picture.data + static_cast<std::size_t>(y) * picture.row_bytes,
                  host_output_.data() + at, row);
    }
  }
  finished_.wait();
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
