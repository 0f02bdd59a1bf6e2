#include "core/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "core/cgroup.h"

namespace elan {
namespace {

// The smallest CPU quota of this process's control groups in whole cores, rounded up; 0: none.
int cgroup_quota() {
  int cores = 0;
  const auto add = [&](double quota, double period) {
    if (quota <= 0 || period <= 0) return;
    const int n = std::max(1, static_cast<int>(std::ceil(quota / period)));
    cores = cores == 0 ? n : std::min(cores, n);
  };
  for (const std::string& text : cgroup_values("cpu.max", "cpu", "cpu.cfs_quota_us")) {
    // "QUOTA PERIOD" or "max PERIOD" (v2), "QUOTA" or "-1" (v1, where the period is 100 ms unless
    // somebody changed it).
    std::istringstream in(text);
    double quota = 0;
    double period = 100'000;
    if (in >> quota) {
      in >> period;
      add(quota, period == 0 ? 100'000 : period);
    }
  }
  return cores;
}

}  // namespace

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cores = sched_getaffinity(0, sizeof set, &set) == 0
                  ? CPU_COUNT(&set)
                  : static_cast<int>(std::thread::hardware_concurrency());
  if (const int quota = cgroup_quota(); quota > 0) cores = std::min(cores, quota);
  return std::max(1, cores);
}

namespace {

struct Job {
  void (*call)(void*, std::size_t, int) = nullptr;
  void* fn = nullptr;
  std::size_t count = 0;
  std::atomic<std::size_t> next{0};
  int users = 0;             // guarded by State::mutex: workers inside work()
  std::exception_ptr error;  // guarded by State::mutex
  Job* following = nullptr;  // guarded by State::mutex
};

}  // namespace

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable work_added, job_left;
  Job* jobs = nullptr;  // those whose caller is still in run()
  bool ending = false;
  std::vector<std::thread> threads;

  void work(Job& job, int worker) {
    for (;;) {
      const std::size_t i = job.next.fetch_add(1, std::memory_order_relaxed);
      if (i >= job.count) return;
      try {
        job.call(job.fn, i, worker);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!job.error) job.error = std::current_exception();
        job.next.store(job.count, std::memory_order_relaxed);
      }
    }
  }

  Job* find_work() const {
    for (Job* job = jobs; job != nullptr; job = job->following) {
      if (job->next.load(std::memory_order_relaxed) < job->count) return job;
    }
    return nullptr;
  }

  void loop(int worker) {
    std::unique_lock lock(mutex);
    for (;;) {
      Job* job = find_work();
      if (job == nullptr) {
        if (ending) return;
        work_added.wait(lock);
        continue;
      }
      ++job->users;
      lock.unlock();
      work(*job, worker);
      lock.lock();
      if (--job->users == 0) job_left.notify_all();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  const int n = threads > 0 ? threads : usable_cores();
  for (int worker = 1; worker < n; ++worker) {
    state_->threads.emplace_back([this, worker] { state_->loop(worker); });
  }
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->ending = true;
  }
  state_->work_added.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

int ThreadPool::size() const {
  return static_cast<int>(state_->threads.size()) + 1;
}

void ThreadPool::run(std::size_t count, Call call, void* fn) {
  if (count == 0) return;
  Job job;
  job.call = call;
  job.fn = fn;
  job.count = count;
  if (count > 1 && !state_->threads.empty()) {
    {
      const std::lock_guard lock(state_->mutex);
      job.following = state_->jobs;
      state_->jobs = &job;
    }
    state_->work_added.notify_all();
  }
  state_->work(job, 0);
  std::unique_lock lock(state_->mutex);
  for (Job** link = &state_->jobs; *link != nullptr; link = &(*link)->following) {
    if (*link == &job) {
      *link = job.following;
      break;
    }
  }
  state_->job_left.wait(lock, [&] { return job.users == 0; });
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace elan
