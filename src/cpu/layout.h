// How the CPU engine lays out activations and weights.
//
// The padded picture is cut into tiles of 16x16 pixels. A tile is stored channel by channel, each
// channel as 256 values in row order: pixels run along the vector lanes, so that no channel count
// needs padding and a softmax is lane-wise.
//
// Operands of matrix products are 32-bit words. A word holds `pack` consecutive channels of one
// pixel: 1 (a float), or 2 (bfloat16, the lower channel in the lower half). A product runs over
// steps; step s multiplies word s of a pixel with word s of a weight row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace elan::cpu {

inline constexpr int kTile = 16;                     // pixels a side
inline constexpr int kTilePixels = kTile * kTile;    // pixels
inline constexpr int kHalo = 2;                      // pixels of the neighbours an LFE reads
inline constexpr int kHaloRows = kTile + 2 * kHalo;  // rows of a tile with its halo
inline constexpr int kHaloStride = 24;               // words in a row of it; columns -4 .. 19
inline constexpr int kHaloPlane = kHaloRows * kHaloStride;   // words
inline constexpr int kHaloOrigin = kHalo * kHaloStride + 4;  // word of pixel (0, 0)

// An array of trivial values, aligned to 64 bytes, not initialised.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size) { reserve(size); }

  // Grows to hold `size` values; what was there is lost if it has to grow.
  void reserve(std::size_t size) {
    if (size <= size_) return;
    data_.reset();
    const std::size_t page = size * sizeof(T) >= kHugePage ? kHugePage : 64;
    void* memory = std::aligned_alloc(page, (size * sizeof(T) + page - 1) / page * page);
    if (memory == nullptr) throw std::bad_alloc();
    advise(memory, size * sizeof(T));
    data_.reset(static_cast<T*>(memory));
    size_ = size;
  }

  [[nodiscard]] T* data() { return data_.get(); }
  [[nodiscard]] const T* data() const { return data_.get(); }
  [[nodiscard]] std::size_t size() const { return size_; }
  T& operator[](std::size_t i) { return data_.get()[i]; }
  const T& operator[](std::size_t i) const { return data_.get()[i]; }

 private:
  static constexpr std::size_t kHugePage = std::size_t{2} << 20;
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  static void advise(void* memory, std::size_t bytes);

  std::unique_ptr<T, Free> data_;
  std::size_t size_ = 0;
};

// Asks for huge pages, where the system has them: a tile then needs one address translation.
void advise_huge_pages(void* memory, std::size_t bytes);

template <typename T>
void Buffer<T>::advise(void* memory, std::size_t bytes) {
  if (bytes >= kHugePage) advise_huge_pages(memory, bytes);
}

}  // namespace elan::cpu
