#include "cuda/fake_runtime.h"

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "cuda/device.h"
#include "elan/error.h"

struct CUevent_st {
  int recorded = 0, passed = 0;  // how often
};
struct CUstream_st {
  struct Item {
    std::function<void()> work;
    CUevent_st* event = nullptr;  // waited for until it has passed so often
    int times = 0;
  };
  std::deque<Item> items;
};

namespace elan {
namespace {

struct Device {
  std::mutex mutex;
  std::mt19937 random;
  std::set<CUstream_st*> streams;
  std::set<CUevent_st*> events;
  std::map<void*, std::unique_ptr<char[]>> memory;
  int copies_to_failure = -1, allocations_to_failure = -1;

  // Lets one thing happen, if anything can.
  bool step() {
    std::vector<CUstream_st*> ready;
    for (CUstream_st* stream : streams) {
      if (stream->items.empty()) continue;
      const CUstream_st::Item& item = stream->items.front();
      if (item.event == nullptr || item.event->passed >= item.times) ready.push_back(stream);
    }
    if (ready.empty()) return false;
    CUstream_st& stream = *ready[random() % ready.size()];
    const CUstream_st::Item item = std::move(stream.items.front());
    stream.items.pop_front();
    if (item.work) item.work();
    return true;
  }
};
Device device;
thread_local int current_device = 0;

cudaError_t add(cudaStream_t stream, CUstream_st::Item item) {
  const std::lock_guard lock(device.mutex);
  stream->items.push_back(std::move(item));
  return cudaSuccess;
}

cudaError_t allocate(void** p, std::size_t bytes) {
  const std::lock_guard lock(device.mutex);
  if (device.allocations_to_failure-- == 0) return cudaErrorMemoryAllocation;
  auto memory = std::make_unique<char[]>(bytes);
  std::memset(memory.get(), 0xa5, bytes);
  *p = memory.get();
  device.memory.emplace(*p, std::move(memory));
  return cudaSuccess;
}

cudaError_t release(void* p) {
  const std::lock_guard lock(device.mutex);
  return device.memory.erase(p) == 1 ? cudaSuccess : cudaErrorInvalidValue;
}

// Streams and events.
template <typename T>
cudaError_t create(T** p, std::set<T*>& all) {
  *p = new T;
  all.insert(*p);
  return cudaSuccess;
}

template <typename T>
cudaError_t destroy(T* p, std::set<T*>& all) {
  all.erase(p);
  delete p;
  return cudaSuccess;
}

}  // namespace

namespace test {

void start_device(unsigned seed) {
  device.random.seed(seed);
  device.copies_to_failure = device.allocations_to_failure = -1;
}

void enqueue(cudaStream_t stream, std::function<void()> work) {
  add(stream, {std::move(work)});
}

bool idle() {
  for (const CUstream_st* stream : device.streams) {
    if (!stream->items.empty()) return false;
  }
  return true;
}

std::size_t live() {
  return device.memory.size() + device.events.size();
}

void fail_copy(int copies) {
  device.copies_to_failure = copies;
}

void fail_allocation(int allocations) {
  device.allocations_to_failure = allocations;
}

}  // namespace test

// Of cuda/device.cc, whose rest wants kernels.
namespace cuda {

void check(cudaError_t status, const char* call, const char* /*file*/, int /*line*/) {
  if (status == cudaSuccess) return;
  throw Error(status == cudaErrorMemoryAllocation ? ErrorKind::memory : ErrorKind::device, call);
}

UseDevice::UseDevice(int index) : before_(std::exchange(current_device, index)) {}
UseDevice::~UseDevice() {
  current_device = before_;
}

void Event::wait() const {
  while (cudaEventQuery(event_) == cudaErrorNotReady) std::this_thread::yield();
}

}  // namespace cuda
}  // namespace elan

using elan::device;

// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name): CUDA's header names them.
cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  return elan::allocate(p, bytes);
}
cudaError_t cudaMallocHost(void** p, std::size_t bytes) {
  return elan::allocate(p, bytes);
}
cudaError_t cudaFree(void* p) {
  return elan::release(p);
}
cudaError_t cudaFreeHost(void* p) {
  return elan::release(p);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind /*kind*/,
                            cudaStream_t stream) {
  if (device.copies_to_failure-- == 0) return cudaErrorLaunchFailure;
  return elan::add(stream, {[=] { std::memcpy(to, from, bytes); }});
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  return elan::add(stream, {[=] { std::memset(to, value, bytes); }});
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned /*flags*/) {
  return elan::create(stream, device.streams);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return elan::destroy(stream, device.streams);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const std::lock_guard lock(device.mutex);
  while (!stream->items.empty()) {
    if (!device.step()) throw std::logic_error("streams wait for one another");
  }
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned /*flags*/) {
  return elan::create(event, device.events);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return elan::destroy(event, device.events);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const int times = ++event->recorded;
  return elan::add(stream, {[=] { event->passed = times; }});
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned /*flags*/) {
  return elan::add(stream, {{}, event, event->recorded});
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard lock(device.mutex);
  if (event->passed == event->recorded) return cudaSuccess;
  if (!device.step()) throw std::logic_error("an event waits for what never happens");
  return cudaErrorNotReady;
}
cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
// NOLINTEND(readability-inconsistent-declaration-parameter-name)
