#include "cuda/device.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "cuda/cuda_backend.h"
#include "cuda/kernels/kernels.h"
#include "elan/error.h"

namespace elan {
namespace cuda {
namespace {

constexpr int kOldestMajor = 8;  // mma.sync on 16-bit and tf32 operands, cp.async

// A path from the top of the source tree.
std::string short_path(const std::string& file) {
  const auto at = file.rfind("src/");
  return at == std::string::npos ? file : file.substr(at);
}

}  // namespace

void check(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // a failed allocation must not be reported again by the next launch
  throw Error(status == cudaErrorMemoryAllocation ? ErrorKind::memory : ErrorKind::device,
              "cuda: " + std::string(cudaGetErrorString(status)) + " in " + call + " (" +
                  short_path(file) + ":" + std::to_string(line) + ")");
}

UseDevice::UseDevice(int index) {
  ELAN_CUDA(cudaGetDevice(&before_));
  if (index != before_) ELAN_CUDA(cudaSetDevice(index));
}

UseDevice::~UseDevice() {
  cudaSetDevice(before_);
}

void Event::wait() const {
  using Clock = std::chrono::steady_clock;
  constexpr auto kLongest = std::chrono::milliseconds(1);
  const auto start = Clock::now();
  for (;;) {
    const cudaError_t status = cudaEventQuery(event_);
    if (status != cudaErrorNotReady) {
      ELAN_CUDA(status);
      return;
    }
    // Late by a two-hundredth at most, and by the 50 us that a sleep takes longer than asked for;
    // short waits only make room for others.
    const auto pause = (Clock::now() - start) / 200;
    if (pause < std::chrono::microseconds(10)) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::min<Clock::duration>(pause, kLongest));
    }
  }
}

std::string no_device_text(cudaError_t status, int driver, int runtime) {
  const auto version = [](int v) {
    return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10);
  };
  if (driver == 0) return "no NVIDIA driver";
  if (status == cudaErrorInsufficientDriver || (driver < runtime && status != cudaErrorNoDevice)) {
    return "a driver for CUDA " + version(driver) + ", older than the CUDA " + version(runtime) +
           " that this program was built with";
  }
  return status == cudaSuccess ? "no device" : cudaGetErrorString(status);
}

DeviceInfo open_device(int index) {
  const std::string name = "cuda:" + std::to_string(index);
  const int count = cuda_device_count();
  if (count == 0) {
    throw Error(ErrorKind::device, name + ": expected an NVIDIA GPU, found " + cuda_status());
  }
  if (index < 0 || index >= count) {
    throw Error(ErrorKind::device, name + ": expected a GPU from 0 to " +
                                       std::to_string(count - 1) + ", found " + cuda_status());
  }
  cudaDeviceProp properties{};
  ELAN_CUDA(cudaGetDeviceProperties(&properties, index));
  if (properties.major < kOldestMajor) {
    throw Error(ErrorKind::device, name + ": expected compute capability 8.0 or newer, found " +
                                       std::to_string(properties.major) + "." +
                                       std::to_string(properties.minor) + " (" + properties.name +
                                       ")");
  }
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    ELAN_CUDA(cudaDeviceGetAttribute(&value, which, index));
    return value;
  };
  DeviceInfo info;
  info.name = properties.name;
  info.major = properties.major;
  info.minor = properties.minor;
  info.memory = properties.totalGlobalMem;
  info.clock_khz = attribute(cudaDevAttrClockRate);
  // Two transfers a clock.
  info.gbytes_per_second = 2.0 * attribute(cudaDevAttrMemoryClockRate) *
                           attribute(cudaDevAttrGlobalMemoryBusWidth) / 8 / 1e6;
  info.limits.multiprocessors = properties.multiProcessorCount;
  info.limits.shared_per_block = static_cast<int>(properties.sharedMemPerBlockOptin);
  info.limits.shared_per_multiprocessor = static_cast<int>(properties.sharedMemPerMultiprocessor);
  const UseDevice use(index);
  info.limits.overlap = properties.major >= 9 && waits_compiled();  // not from PTX of 8.0
  return info;
}

}  // namespace cuda

int cuda_device_count() noexcept {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

std::string cuda_status() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    cudaGetLastError();
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    return cuda::no_device_text(status, driver, runtime);
  }
  std::string text;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp p{};
    if (cudaGetDeviceProperties(&p, i) != cudaSuccess) continue;
    text += (i == 0 ? "" : ", ") + std::string("cuda:") + std::to_string(i) + " " + p.name +
            " (sm_" + std::to_string(p.major) + std::to_string(p.minor) + ")";
  }
  return text;
}

}  // namespace elan
