// Runs CUDA kernels on the CPU, compiled as C++ with this header included first: every thread of a
// block is a fiber of its own, and one fiber runs at a time. What a warp or a block does together
// (barriers, shuffles, matrix products) is a place where fibers meet. A kernel that errs ends its
// launch with an Error that names the block, the thread and the place: see docs/kernels-cuda.md.
//
// Not thread-safe: one launch at a time in a process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#define __launch_bounds__(...)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <math_constants.h>
#include <vector_functions.h>

// Shared memory is whatever the kernels have of static variables.
#undef __shared__
#define __shared__ static

#include <algorithm>
#include <bit>
#include <cmath>
#include <tuple>

namespace elan::emulator {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Memory that kernels may use while this lives: filled with bytes that are no number, its ends
// watched. `cell`: bytes that are watched as one, what a thread writes at once at least (1 or 4).
class Memory {
 public:
  Memory(std::string name, std::size_t bytes, int cell = 4);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  void fill(const void* from, std::size_t bytes);  // from the host: known from now on

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Which warp goes first, and as far as it can: what a kernel computes must not depend on it.
enum class Order { ascending, descending };
void set_order(Order order);

// Bytes of shared memory that a launch may ask for.
inline constexpr int kSharedBytes = 227 * 1024;

// While this lives launches are checked alone.
struct NoLaunches {
  NoLaunches();
  ~NoLaunches();
  NoLaunches(const NoLaunches&) = delete;
  NoLaunches& operator=(const NoLaunches&) = delete;
};

struct Launch {
  dim3 blocks, threads;
  std::size_t shared = 0;
  bool overlap = false;  // may begin while the launch before runs: watched until it waits
};
void run(const Launch& launch, void (*thread)(const void*), const void* argument);

// ---- for what stands in for the kernels' instructions ----

[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// The lanes in `mask` meet; the last one runs `f` with what each of the 32 brought. Lanes that meet
// under different names are an error.
void meet(const char* name, std::uint32_t mask, void* mine, void (*f)(void* const* lanes));

// `count` threads of the block meet; `id` 0 is the barrier of __syncthreads(), count 0 all threads.
void block_barrier(int id, int count);

// Between pointers and the addresses of the shared window.
std::uint32_t shared_address(const void* p);
char* shared_pointer(std::uint32_t address);
char* dynamic_shared();

// What plain loads and stores are watched for, for what else touches memory: bounds, alignment to
// `bytes`, numbers never written, races.
void read(const void* p, std::size_t bytes);
void write(void* p, std::size_t bytes);

// cp.async: `bytes` from `from`, or zeros if it is null.
void copy_async(void* to, const void* from, std::size_t bytes);
void copy_async_commit();
void copy_async_wait(int left);

// Matrices. ldmatrix and stmatrix of `count` 8 x 8 matrices, and mma.sync with the operands'
// registers.
enum class Format { f16, bf16, tf32, e4m3, s8, u8 };
void load_matrices(std::uint32_t* r, int count, std::uint32_t address, bool transposed);
void store_matrices(const std::uint32_t* r, int count, std::uint32_t address, bool transposed);
std::uint32_t transpose_matrix(std::uint32_t v);
void multiply(Format a_format, Format b_format, int k, void* c, const std::uint32_t* a,
              const std::uint32_t* b);

// mbarriers, and bulk copies that complete on them; of zeros if `from` is null.
void barrier_init(std::uint32_t address, int count);
void barrier_arrive(std::uint32_t address);
void barrier_expect(std::uint32_t address, int bytes);  // and arrive
void barrier_wait(std::uint32_t address, int parity);
void copy_bulk(std::uint32_t to, const void* from, int bytes, std::uint32_t barrier);

// fence.proxy.async: what this warp has stored to shared memory may be read by wgmma.
void proxy_fence();

// wgmma: d (4 registers for each of `tiles`) = or += A (64 x 32 bytes of k) * B; A from 4
// registers, or from memory if `a` is null. B, and A there, k-major. `format` is A's; B is signed.
void multiply_fence();
void multiply_async(Format format, int tiles, void* d, const std::uint32_t* a,
                    std::uint64_t a_descriptor, std::uint64_t b_descriptor, bool accumulate);
void multiply_commit();
void multiply_wait(int left);

// What a launch that overlaps must do before it touches what others wrote.
void wait_for_previous();

}  // namespace elan::emulator

// ---- the language ----

extern uint3 threadIdx;
extern dim3 blockIdx, blockDim, gridDim;

template <typename... P, typename... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* c, void (*kernel)(P...), const A&... a) {
  struct Call {
    void (*kernel)(P...);
    std::tuple<P...> arguments;
    static void run(const void* p) {
      std::apply(static_cast<const Call*>(p)->kernel, static_cast<const Call*>(p)->arguments);
    }
  };
  const Call call{kernel, {a...}};
  elan::emulator::run({c->gridDim, c->blockDim, c->dynamicSmemBytes, c->numAttrs > 0}, &Call::run,
                      &call);
  return cudaSuccess;
}

inline void __syncthreads() {
  elan::emulator::block_barrier(0, 0);
}
inline void __syncwarp(unsigned mask = ~0U) {
  elan::emulator::meet("__syncwarp", mask, nullptr, nullptr);
}
[[noreturn]] inline void __trap() {
  elan::emulator::fail("__trap()");
}

namespace elan::emulator {
template <typename T>
struct Exchange {
  T mine, theirs;
  int from;
};
template <typename T>
T exchange(const char* name, unsigned mask, T v, int from) {
  Exchange<T> e{v, v, from};
  meet(name, mask, &e, [](void* const* lanes) {
    for (int i = 0; i < 32; ++i) {
      auto* lane = static_cast<Exchange<T>*>(lanes[i]);
      if (lane == nullptr) continue;
      const auto* other = static_cast<const Exchange<T>*>(lanes[lane->from & 31]);
      if (other == nullptr)
        fail("lane %d takes a value from lane %d, which is not there", i, lane->from & 31);
      lane->theirs = other->mine;
    }
  });
  return e.theirs;
}
inline int lane() {
  return static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) & 31;
}
std::uint32_t ballot(const char* name, unsigned mask, bool v);
}  // namespace elan::emulator

template <typename T>
T __shfl_sync(unsigned mask, T v, int from) {
  return elan::emulator::exchange("__shfl_sync", mask, v, from);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T v, int with) {
  return elan::emulator::exchange("__shfl_xor_sync", mask, v, elan::emulator::lane() ^ with);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T v, int by) {
  const int from = elan::emulator::lane() + by;
  return elan::emulator::exchange("__shfl_down_sync", mask, v,
                                  from < 32 ? from : elan::emulator::lane());
}
inline unsigned __ballot_sync(unsigned mask, int v) {
  return elan::emulator::ballot("__ballot_sync", mask, v != 0);
}
inline int __any_sync(unsigned mask, int v) {
  return elan::emulator::ballot("__any_sync", mask, v != 0) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int v) {
  return elan::emulator::ballot("__all_sync", mask, v == 0) == 0 ? 1 : 0;
}

inline float __fdividef(float a, float b) {
  return a / b;
}
template <typename T>
T __ldg(const T* p) {
  return *p;
}
inline unsigned __float_as_uint(float v) {
  return std::bit_cast<unsigned>(v);
}
inline int __float_as_int(float v) {
  return std::bit_cast<int>(v);
}
inline float __uint_as_float(unsigned v) {
  return std::bit_cast<float>(v);
}
inline float __int_as_float(int v) {
  return std::bit_cast<float>(v);
}
inline int __float2int_rn(float v) {
  if (std::isnan(v)) return 0;
  return static_cast<int>(
      std::clamp(std::nearbyint(static_cast<double>(v)), -2147483648.0, 2147483647.0));
}
inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __fdiv_rn(float a, float b) {
  return a / b;
}
inline float __int2float_rn(int v) {
  return static_cast<float>(v);
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const std::uint64_t bytes = static_cast<std::uint64_t>(b) << 32 | a;
  unsigned r = 0;
  for (int i = 0; i < 4; ++i) {
    // The upper bit of a selector counts in PTX, not here.
    const unsigned s = selector >> (4 * i) & 7;
    r |= (static_cast<unsigned>(bytes >> (8 * s)) & 255) << (8 * i);
  }
  return r;
}
using std::fmaf;
using std::isfinite;
using std::max;
using std::min;

// Nothing of the runtime but launches; the limits are those of the emulator.
#define cudaFuncSetAttribute(...) cudaSuccess
#define cudaFuncGetAttributes(...) cudaErrorNotSupported
#define cudaGetDevice(device) (*(device) = 0, cudaSuccess)
#define cudaDeviceGetAttribute(value, ...) (*(value) = elan::emulator::kSharedBytes, cudaSuccess)
#define cudaGetLastError() cudaSuccess
