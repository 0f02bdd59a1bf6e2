// Worker threads shared by all pictures of an engine.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <type_traits>

namespace elan {

// Cores this process may use: the affinity mask, capped by the cgroup CPU quota; at least 1.
int usable_cores();

// Safe to use from several threads: jobs of different callers interleave. The calling thread works
// too, so a pool of n threads starts n - 1.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // 0: usable_cores()
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int size() const;

  // Calls body(index, worker) for every index in [0, count), in any order, then returns. `worker`
  // is in [0, size()) and unique among the threads working on this call at any moment: use it to
  // pick scratch memory. Allocates nothing. The first exception is rethrown after all have ended.
  template <typename Body>
  void parallel_for(std::size_t count, Body&& body) {
    using Fn = std::remove_reference_t<Body>;
    run(
        count, [](void* fn, std::size_t i, int worker) { (*static_cast<Fn*>(fn))(i, worker); },
        const_cast<void*>(static_cast<const void*>(std::addressof(body))));
  }

 private:
  using Call = void (*)(void* fn, std::size_t index, int worker);
  void run(std::size_t count, Call call, void* fn);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace elan
