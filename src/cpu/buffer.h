// Aligned memory for activations and weights.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace elan::cpu {

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
    const std::size_t bytes = size * sizeof(T) + kSlack;
    const std::size_t page = bytes >= kHugePage ? kHugePage : 64;
    void* memory = std::aligned_alloc(page, (bytes + page - 1) / page * page);
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
  // A vector whose lower part is wanted may be loaded from the last row.
  static constexpr std::size_t kSlack = 64;  // bytes
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
