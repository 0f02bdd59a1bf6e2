// For TensorRT 8.6 alone, whose headers this needs: its calibration of 8 bits.
#pragma once

#include <NvInfer.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <utility>
#include <vector>

namespace elan::tensorrt {

// Feeds it one picture after another and keeps the scales that it finds; or, where there are scales
// already, gives it those, so that it looks at no picture.
class Calibrator : public nvinfer1::IInt8EntropyCalibrator2 {
 public:
  // Picture `k` on the device; null: there is none.
  using Feed = std::function<void*(std::size_t k)>;

  Calibrator(std::size_t pictures, Feed feed, std::vector<std::byte>& scales)
      : pictures_(pictures), feed_(std::move(feed)), scales_(scales) {}

  [[nodiscard]] int32_t getBatchSize() const noexcept override { return 1; }
  bool getBatch(void* bindings[], const char* names[], int32_t count) noexcept override {
    if (next_ == pictures_ || count != 1 || std::strcmp(names[0], "input") != 0) return false;
    try {
      bindings[0] = feed_(next_++);
    } catch (...) {
      failure_ = std::current_exception();
      return false;
    }
    return bindings[0] != nullptr;
  }
  const void* readCalibrationCache(std::size_t& length) noexcept override {
    length = scales_.size();
    return scales_.empty() ? nullptr : scales_.data();
  }
  void writeCalibrationCache(const void* data, std::size_t length) noexcept override {
    const auto* from = static_cast<const std::byte*>(data);
    if (from == scales_.data()) return;  // what it was given
    scales_.assign(from, from + length);
  }

  // Of a picture that could not be fed: TensorRT takes that for the last one and goes on.
  void rethrow_failure() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  std::size_t pictures_;
  Feed feed_;
  std::vector<std::byte>& scales_;
  std::size_t next_ = 0;
  std::exception_ptr failure_;
};

}  // namespace elan::tensorrt
