#include "cuda/device.h"

#include "cuda/cuda_backend.h"
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

DeviceInfo open_device(int index) {
  const int count = cuda_device_count();
  if (index < 0 || index >= count) {
    throw Error(ErrorKind::device, "cuda:" + std::to_string(index) + ": expected one of " +
                                       std::to_string(count) + " devices, found " +
                                       (count == 0 ? cuda_status() : "no such device"));
  }
  cudaDeviceProp properties{};
  ELAN_CUDA(cudaGetDeviceProperties(&properties, index));
  if (properties.major < kOldestMajor) {
    throw Error(ErrorKind::device, "cuda:" + std::to_string(index) +
                                       ": expected compute capability 8.0 or newer, found " +
                                       std::to_string(properties.major) + "." +
                                       std::to_string(properties.minor) + " (" + properties.name +
                                       ")");
  }
  DeviceInfo info;
  info.name = properties.name;
  info.major = properties.major;
  info.minor = properties.minor;
  info.limits.multiprocessors = properties.multiProcessorCount;
  info.limits.shared_per_block = static_cast<int>(properties.sharedMemPerBlockOptin);
  info.limits.shared_per_multiprocessor = static_cast<int>(properties.sharedMemPerMultiprocessor);
  info.limits.overlap = properties.major >= 9;
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
  if (status != cudaSuccess) {
    cudaGetLastError();
    return cudaGetErrorString(status);
  }
  std::string text = count == 0 ? "no devices" : "";
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp p{};
    if (cudaGetDeviceProperties(&p, i) != cudaSuccess) continue;
    text += (i == 0 ? "" : ", ") + std::string("cuda:") + std::to_string(i) + " " + p.name +
            " (sm_" + std::to_string(p.major) + std::to_string(p.minor) + ")";
  }
  return text;
}

}  // namespace elan
