// Fibers: one for every thread of a block, switched where they wait.
#include <sys/mman.h>

#include <bit>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "emulator.h"
#include "state.h"

uint3 threadIdx{1, 0, 0};  // not zero: what is, lies where shared memory is looked for
dim3 blockIdx(1), blockDim(1), gridDim(1);

// Saves the registers that a function must keep, and goes on where `to` left off.
extern "C" void elan_emulator_switch(void** from, void* to);
asm(R"(
.text
.type elan_emulator_switch, @function
elan_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size elan_emulator_switch, .-elan_emulator_switch
)");

namespace elan::emulator {

State state;

namespace {

constexpr std::size_t kPage = 4096, kStack = 128 * 1024;  // of which the lowest page is a guard
constexpr std::size_t kHostStack = 1 << 20;               // at most, above a launch

struct Warp {
  std::uint32_t runnable = 0, alive = 0;
  // Of the lanes that meet: who is to come, who has come, and with what.
  const char* name = nullptr;
  std::uint32_t mask = 0, arrived = 0;
  void* brought[32] = {};
  const char* waits_for[32] = {};
};

struct Barrier {
  int arrived = 0, count = 0;
  std::uint32_t waiting[kMaxWarps] = {};
  Clock clock{};
};

struct Block {
  int threads = 1, warps = 0, alive = 0;
  Warp warp[kMaxWarps];
  Barrier barrier[16];
  void* stack_of[kMaxWarps * 32] = {};
  void* host = nullptr;
};

Block block;  // not zero, either
Order order = Order::ascending;
bool launches = true;
void (*thread_function)(const void*) = nullptr;
const void* thread_argument = nullptr;
std::string error;

void go_to(void** from, int warp, int lane) {
  state.warp = warp;
  state.lane = lane;
  const int i = state.thread();
  threadIdx.x = i % blockDim.x;
  threadIdx.y = i / blockDim.x % blockDim.y;
  threadIdx.z = i / blockDim.x / blockDim.y;
  elan_emulator_switch(from, block.stack_of[i]);
}

void to_host(void** from) {
  state.running = false;
  elan_emulator_switch(from, block.host);
}

std::string place() {
  char text[160];
  std::snprintf(text, sizeof text, "block (%u, %u, %u), thread %d (warp %d, lane %d)", blockIdx.x,
                blockIdx.y, blockIdx.z, state.thread(), state.warp, state.lane);
  return text;
}

// Who waits for what, in words; the warps that are alike together.
std::string waiting() {
  std::string text, last;
  for (int w = 0; w < block.warps; ++w) {
    for (int l = 0; l < 32; ++l) {
      if ((block.warp[w].alive >> l & 1) == 0) continue;
      const std::string what = block.warp[w].waits_for[l];
      if (what == last) continue;
      text += (text.empty() ? "" : "; ") + ("from warp " + std::to_string(w)) + " lane " +
              std::to_string(l) + " on: " + what;
      last = what;
    }
  }
  return text;
}

// The next thread that can run: of this warp first, then of the others in order.
void next(void** from) {
  for (;;) {
    const std::uint32_t mine = block.warp[state.warp].runnable;
    if (mine != 0) {
      const std::uint32_t later = mine & ~((2U << state.lane) - 1);
      return go_to(from, state.warp, std::countr_zero(later != 0 ? later : mine));
    }
    for (int i = 0; i < block.warps; ++i) {
      const int w = order == Order::ascending ? i : block.warps - 1 - i;
      const std::uint32_t others = block.warp[w].runnable;
      if (others != 0) return go_to(from, w, std::countr_zero(others));
    }
    if (end_bulk_copy()) continue;
    if (block.alive != 0) {
      error = "deadlock in block (" + std::to_string(blockIdx.x) + ", " +
              std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) +
              "): " + std::to_string(block.threads - block.alive) + " of " +
              std::to_string(block.threads) + " threads have ended; " + waiting();
    }
    return to_host(from);
  }
}

void thread_main() {
  thread_function(thread_argument);
  Warp& w = block.warp[state.warp];
  if (w.arrived != 0 && (w.mask >> state.lane & 1) != 0) {
    fail("the thread ends while lanes of its warp wait for it in %s", w.name);
  }
  w.alive &= ~(1U << state.lane);
  w.runnable &= ~(1U << state.lane);
  --block.alive;
  void* nowhere = nullptr;
  next(&nowhere);
}

void run_block(char* stacks) {
  const int threads = block.threads;
  block = Block{};
  block.threads = block.alive = threads;
  block.warps = (threads + 31) / 32;
  begin_block(threads);
  for (int i = 0; i < threads; ++i) {
    // As elan_emulator_switch() leaves a stack: six registers and where to go on; there, the stack
    // pointer is what it is after a call.
    auto** top = reinterpret_cast<void**>(stacks + (i + 1) * kStack) - 2;
    *top = reinterpret_cast<void*>(&thread_main);
    block.stack_of[i] = std::memset(top - 6, 0, 6 * sizeof(void*));
    block.warp[i / 32].alive |= 1U << i % 32;
    block.warp[i / 32].runnable |= 1U << i % 32;
  }
  state.warp = order == Order::ascending ? 0 : block.warps - 1;
  state.lane = 31;
  state.running = true;
  next(&block.host);
  if (!error.empty()) throw Error(std::exchange(error, {}));
}

}  // namespace

void set_order(Order o) {
  order = o;
}

void fail(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (!state.running) throw Error(text);
  error = place() + ": " + text;
  void* nowhere = nullptr;
  to_host(&nowhere);
  __builtin_unreachable();
}

void wake(int warp, std::uint32_t lanes) {
  block.warp[warp].runnable |= lanes;
}

void sleep(const char* what) {
  Warp& w = block.warp[state.warp];
  w.runnable &= ~(1U << state.lane);
  w.waits_for[state.lane] = what;
  next(&block.stack_of[state.thread()]);
}

void meet(const char* name, std::uint32_t mask, void* mine, void (*f)(void* const*)) {
  Warp& w = block.warp[state.warp];
  const std::uint32_t own = 1U << state.lane;
  mask &= block.threads % 32 != 0 && state.warp == block.warps - 1 ? (1U << block.threads % 32) - 1
                                                                   : ~0U;
  if ((mask & own) == 0) fail("%s with a mask without the own lane", name);
  if ((mask & ~w.alive) != 0) fail("%s waits for lanes that have ended", name);
  if (w.arrived == 0) {
    w.name = name;
    w.mask = mask;
  } else if (w.mask != mask || (w.name != name && std::strcmp(w.name, name) != 0)) {
    fail("lanes of a warp diverge: this one is in %s, others are in %s", name, w.name);
  }
  w.arrived |= own;
  w.brought[state.lane] = mine;
  if (w.arrived != mask) return sleep(name);
  if (f != nullptr) f(w.brought);
  std::fill_n(w.brought, 32, nullptr);
  w.arrived = 0;
  w.runnable |= mask;
  ++state.clocks[state.warp][state.warp];
}

std::uint32_t ballot(const char* name, unsigned mask, bool v) {
  struct Vote {
    bool mine;
    std::uint32_t all;
  } vote{v, 0};
  meet(name, mask, &vote, [](void* const* lanes) {
    std::uint32_t all = 0;
    for (int i = 0; i < 32; ++i) {
      if (lanes[i] != nullptr && static_cast<Vote*>(lanes[i])->mine) all |= 1U << i;
    }
    for (int i = 0; i < 32; ++i) {
      if (lanes[i] != nullptr) static_cast<Vote*>(lanes[i])->all = all;
    }
  });
  return vote.all;
}

void block_barrier(int id, int count) {
  if (count == 0) count = block.threads;
  if (id < 0 || id > 15 || (count % 32 != 0 && count != block.threads)) {
    fail("barrier %d of %d threads: expected 0..15 and whole warps", id, count);
  }
  Barrier& b = block.barrier[id];
  if (b.arrived == 0) {
    b.count = count;
    b.clock = {};
  } else if (b.count != count) {
    fail("barrier %d of %d threads, others wait there for %d", id, count, b.count);
  }
  join(b.clock, state.clocks[state.warp]);
  b.waiting[state.warp] |= 1U << state.lane;
  if (++b.arrived < count) {
    static const char* const kNames[16] = {
        "__syncthreads", "barrier 1",  "barrier 2",  "barrier 3", "barrier 4",  "barrier 5",
        "barrier 6",     "barrier 7",  "barrier 8",  "barrier 9", "barrier 10", "barrier 11",
        "barrier 12",    "barrier 13", "barrier 14", "barrier 15"};
    return sleep(kNames[id]);
  }
  for (int w = 0; w < block.warps; ++w) {
    if (b.waiting[w] == 0) continue;
    join(state.clocks[w], b.clock);
    ++state.clocks[w][w];
    wake(w, b.waiting[w]);
    b.waiting[w] = 0;
  }
  b.arrived = 0;
}

NoLaunches::NoLaunches() {
  launches = false;
}
NoLaunches::~NoLaunches() {
  launches = true;
}

void run(const Launch& launch, void (*thread)(const void*), const void* argument) {
  const std::size_t threads =
      static_cast<std::size_t>(launch.threads.x) * launch.threads.y * launch.threads.z;
  if (threads < 1 || threads > kMaxWarps * 32) fail("%zu threads in a block", threads);
  const dim3& blocks = launch.blocks;
  if (blocks.x < 1 || blocks.x > 0x7fffffffU || blocks.y < 1 || blocks.y > 65535 || blocks.z < 1 ||
      blocks.z > 65535) {
    fail("%u x %u x %u blocks: expected at most 2147483647 x 65535 x 65535", blocks.x, blocks.y,
         blocks.z);
  }
  if (launch.shared > kSharedBytes) fail("%zu bytes of shared memory", launch.shared);
  if (!launches) return;
  static char* const stacks = [] {
    auto* p = static_cast<char*>(mmap(nullptr, kMaxWarps * 32 * kStack, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    for (int i = 0; i < kMaxWarps * 32; ++i) mprotect(p + i * kStack, kPage, PROT_NONE);
    return p;
  }();
  state.stacks_begin = stacks;
  state.stacks_end = stacks + kMaxWarps * 32 * kStack;
  state.host_begin = static_cast<const char*>(__builtin_frame_address(0));
  state.host_end = state.host_begin + kHostStack;
  thread_function = thread;
  thread_argument = argument;
  state.overlap = launch.overlap;
  state.shared_bytes = launch.shared;
  ++state.launch;
  blockDim = launch.threads;
  gridDim = launch.blocks;
  block.threads = static_cast<int>(threads);
  for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z) {
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y) {
      for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) run_block(stacks);
    }
  }
}

}  // namespace elan::emulator
