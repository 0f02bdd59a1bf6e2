// What the parts of the emulator share: which thread of which block runs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace elan::emulator {

inline constexpr int kMaxWarps = 16;
inline constexpr int kCopier = kMaxWarps;  // the agent behind bulk copies, beside the warps
inline constexpr int kAgents = kMaxWarps + 1;

// What an agent knows of the others: which of their steps happened before.
using Clock = std::array<std::uint32_t, kAgents>;
inline void join(Clock& a, const Clock& b) {
  for (int i = 0; i < kAgents; ++i) a[i] = a[i] < b[i] ? b[i] : a[i];
}

struct State {
  int warp = 0, lane = 0;
  bool running = false;      // a kernel's thread runs, not the host
  bool overlap = false;      // the launch may overlap the one before
  std::uint32_t launch = 0;  // number of this launch
  std::uint32_t block = 0;   // number of this block among those of all launches, from 1 on
  std::array<Clock, kAgents> clocks{};
  std::vector<bool> waited;      // threads that have waited for the launch before
  std::size_t shared_bytes = 0;  // that the launch asked for
  // Of all fibers, and of the host, where the launch's arguments are.
  const char *stacks_begin = nullptr, *stacks_end = nullptr;
  const char *host_begin = nullptr, *host_end = nullptr;
  // Steps of the warps before which stores are known to asynchronous readers.
  std::array<std::uint32_t, kMaxWarps> proxy_fences{};
  [[nodiscard]] int thread() const { return warp * 32 + lane; }
};
extern State state;

// Forgets what was under way.
void begin_block(int threads);
void begin_hopper_block(int threads);
// Reads shared memory as wgmma does: past what ordinary stores left unfenced.
void read_asynchronously(const void* p, std::size_t bytes);
// Marks the cells of a bulk copy that begins, with its bytes unknown, or that has ended.
void begin_bulk_copy(void* to, const void* from, std::size_t bytes);
void mark_copied(void* to, std::size_t bytes);
// Ends the oldest bulk copy under way; false if there is none.
bool end_bulk_copy();
void wake(int warp, std::uint32_t lanes);
// Lets other threads run until this one is woken; `what` it waits for, in words.
void sleep(const char* what);

}  // namespace elan::emulator
