// Runs one module on the current device: packs and uploads its weights once, enqueues its kernel.
#pragma once

#include <cuda_runtime_api.h>

#include <map>
#include <memory>
#include <mutex>

#include "module.h"

namespace elan::plugins {

// Weights on one device.
class DeviceModule;

// What all clones of one plugin share; safe from several threads.
class SharedModule {
 public:
  explicit SharedModule(Module module);
  ~SharedModule();
  SharedModule(const SharedModule&) = delete;
  SharedModule& operator=(const SharedModule&) = delete;

  [[nodiscard]] const Module& module() const { return module_; }

  // Packed for and uploaded to the current device, on the first call; kept while anyone holds it.
  // Throws Error (device, memory, usage).
  std::shared_ptr<DeviceModule> on_device();

 private:
  Module module_;
  std::mutex mutex_;
  std::map<int, std::weak_ptr<DeviceModule>> devices_;
};

struct StreamSize {
  int batch = 0, height = 0, width = 0;  // pixels
  bool operator==(const StreamSize&) const = default;
};

// Enqueues on `stream` and returns; inputs and outputs as inputs_of() and outputs_of() say,
// `workspace` has workspace_bytes(). Safe
// from several threads, and while the stream is captured. Throws Error (device, usage).
void enqueue(const DeviceModule& module, const StreamSize& size, const void* const* inputs,
             void* const* outputs, void* workspace, cudaStream_t stream);

}  // namespace elan::plugins
