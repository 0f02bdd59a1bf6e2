// Memory that kernels see, and what is known of every cell of it: who wrote it and who has read it.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <span>

#include "emulator.h"
#include "state.h"

// The linker's bounds of this program: code and constants, and the variables that begin as zero.
extern "C" char __executable_start, __bss_start, _end;

namespace elan::emulator {
namespace {

constexpr std::uint8_t kUnknown = 0xff;  // NaN in every format of floating point
constexpr std::uint8_t kSeveral = 0xff;  // lanes

// A few bytes of shared memory, since `block` began: an older one's cell counts as never touched.
struct SharedCell {
  std::uint32_t block = 0;
  std::uint32_t write_step = 0;
  std::uint8_t writer = 0, lane = 0;
  bool written = false, in_flight = false;
  std::uint32_t read_step[kMaxWarps] = {};
  std::uint8_t reader[kMaxWarps] = {};  // lane
};

struct SharedRegion {
  const char* begin = nullptr;
  std::size_t bytes = 0;
  std::unique_ptr<SharedCell[]> cells;
};
constexpr int kSharedCell = 4;

// A few bytes of global memory: the last block that wrote it, and that read it, of all launches.
struct GlobalCell {
  std::uint32_t writer = 0;  // 0: never written; 1: the host
  std::uint32_t reader = 0;
};
struct GlobalRegion {
  std::string name;
  const char* begin = nullptr;
  std::size_t bytes = 0;
  int cell = 4;
  std::uint32_t launch = 0;  // that wrote here last; 0: none
  std::unique_ptr<GlobalCell[]> cells;
};

struct AsyncCopy {
  void* to;
  const void* from;
  std::size_t bytes;
};
struct AsyncCopies {
  std::vector<AsyncCopy> open;
  std::vector<std::vector<AsyncCopy>> groups;  // the oldest first
};

alignas(1024) char* dynamic = nullptr;
SharedRegion dynamic_region, static_region;
std::vector<GlobalRegion> globals;
std::vector<AsyncCopies> copies;
std::uint32_t first_block = 0;  // of this launch

void prepare_shared() {
  if (dynamic != nullptr) return;
  dynamic = static_cast<char*>(
      mmap(nullptr, kSharedBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  const auto region = [](const char* begin, std::size_t bytes) {
    return SharedRegion{begin, bytes, std::make_unique<SharedCell[]>(bytes / kSharedCell + 1)};
  };
  dynamic_region = region(dynamic, kSharedBytes);
  static_region = region(&__bss_start, static_cast<std::size_t>(&_end - &__bss_start));
}

SharedRegion* shared_region(const void* p) {
  const auto* c = static_cast<const char*>(p);
  for (SharedRegion* r : {&dynamic_region, &static_region}) {
    if (c >= r->begin && c < r->begin + r->bytes) return r;
  }
  return nullptr;
}

enum class Access { read, write, begin_copy, end_copy };

SharedCell& fresh(SharedCell& c) {
  if (c.block != state.block) {
    c = SharedCell{};
    c.block = state.block;
  }
  return c;
}

const char* agent(int a) {
  static char text[2][24];
  static int turn = 0;
  char* t = text[turn ^= 1];
  a == kCopier ? std::snprintf(t, 24, "a bulk copy") : std::snprintf(t, 24, "warp %d", a);
  return t;
}

// `as`: the warp or kCopier.
void touch_shared(SharedRegion& r, const void* p, std::size_t bytes, Access access, int as) {
  const auto at = static_cast<std::size_t>(static_cast<const char*>(p) - r.begin);
  if (&r == &dynamic_region && at + bytes > state.shared_bytes) {
    fail("shared memory: %zu bytes at %zu, the launch asked for %zu", bytes, at,
         state.shared_bytes);
  }
  Clock& clock = state.clocks[as];
  const auto lane = static_cast<std::uint8_t>(as == kCopier ? kSeveral : state.lane);
  for (std::size_t i = at / kSharedCell; i <= (at + bytes - 1) / kSharedCell; ++i) {
    SharedCell& c = fresh(r.cells[i]);
    const std::size_t byte = std::max(at, i * kSharedCell);
    if (access == Access::read && !c.written && !c.in_flight) {
      fail("shared memory: byte %zu is read but was never written", byte);
    }
    if (c.in_flight && access != Access::end_copy) {
      fail("shared memory: byte %zu is %s while an asynchronous copy to it is under way", byte,
           access == Access::read ? "read" : "written");
    }
    if (c.written && access != Access::end_copy) {
      if (c.writer == as ? c.write_step == clock[as] && c.lane != lane
                         : c.write_step > clock[c.writer]) {
        fail(
            "shared memory: race: byte %zu is %s, lane %d of %s wrote it and nothing orders the "
            "two",
            byte, access == Access::read ? "read" : "written", c.lane, agent(c.writer));
      }
    }
    if (access == Access::read) {
      if (as == kCopier) continue;
      if (c.read_step[as] != clock[as]) {
        c.read_step[as] = clock[as];
        c.reader[as] = lane;
      } else if (c.reader[as] != lane) {
        c.reader[as] = kSeveral;
      }
      continue;
    }
    if (access != Access::end_copy) {
      for (int w = 0; w < kMaxWarps; ++w) {
        if (c.read_step[w] == 0) continue;
        if (w == as ? c.read_step[w] == clock[as] && c.reader[w] != lane
                    : c.read_step[w] > clock[w]) {
          fail(
              "shared memory: race: byte %zu is written, %s has read it and nothing orders the two",
              byte, agent(w));
        }
      }
    }
    c.written = true;
    c.in_flight = access == Access::begin_copy;
    c.writer = static_cast<std::uint8_t>(as);
    c.lane = lane;
    c.write_step = clock[as];
  }
}

void touch_global(const void* p, std::size_t bytes, bool writes) {
  const auto* c = static_cast<const char*>(p);
  for (GlobalRegion& r : globals) {
    if (c < r.begin || c >= r.begin + r.bytes) continue;
    const auto at = static_cast<std::size_t>(c - r.begin);
    if (at + bytes > r.bytes) break;
    if (state.overlap && !state.waited[state.thread()] && (writes || r.launch != 0)) {
      fail("%s is %s before wait_for_previous()", r.name.c_str(), writes ? "written" : "read");
    }
    for (std::size_t i = at / r.cell; i <= (at + bytes - 1) / r.cell; ++i) {
      GlobalCell& cell = r.cells[i];
      if (cell.writer == 0 && !writes) {
        fail("%s: byte %zu is read but was never written", r.name.c_str(), i * r.cell);
      }
      if (cell.writer >= first_block && cell.writer != state.block) {
        fail("%s: race: byte %zu is %s, another block of this launch wrote it", r.name.c_str(),
             i * r.cell, writes ? "written" : "read");
      }
      if (writes && cell.reader >= first_block && cell.reader != state.block) {
        fail("%s: race: byte %zu is written, another block of this launch has read it",
             r.name.c_str(), i * r.cell);
      }
      if (writes) {
        cell.writer = state.block;
      } else if (cell.reader < first_block || cell.reader == state.block) {
        cell.reader = state.block;
      }
    }
    if (writes) r.launch = state.launch;
    return;
  }
  // The nearest that begins before, which is what was meant more often than not.
  const GlobalRegion* nearest = nullptr;
  for (const GlobalRegion& r : globals) {
    if (r.begin <= c && (nearest == nullptr || r.begin > nearest->begin)) nearest = &r;
  }
  const char* what = writes ? "write" : "read";
  if (nearest == nullptr) fail("%s of %zu bytes outside of all memory: at %p", what, bytes, p);
  fail("%s of %zu bytes outside of all memory: at byte %zu of %s, which has %zu", what, bytes,
       static_cast<std::size_t>(c - nearest->begin), nearest->name.c_str(), nearest->bytes);
}

// Of whatever the running thread of a kernel reads or writes.
void touch(const void* p, std::size_t bytes, bool writes) {
  if (!state.running) return;
  const auto* c = static_cast<const char*>(p);
  if (c >= state.stacks_begin && c < state.stacks_end) return;
  if (SharedRegion* r = shared_region(p)) {
    return touch_shared(*r, p, bytes, writes ? Access::write : Access::read, state.warp);
  }
  if (c >= &__executable_start && c < &__bss_start) {
    if (writes) fail("write of %zu bytes to a variable of the program", bytes);
    return;
  }
  if (!writes && c >= state.host_begin && c < state.host_end) return;
  touch_global(p, bytes, writes);
}

void check_alignment(const void* p, std::size_t bytes) {
  if (reinterpret_cast<std::uintptr_t>(p) % bytes != 0) {
    fail("misaligned: %zu bytes at an address that is no multiple of it", bytes);
  }
}

void finish(const AsyncCopy& c) {
  if (c.from != nullptr) {
    std::memcpy(c.to, c.from, c.bytes);
  } else {
    std::memset(c.to, 0, c.bytes);
  }
  touch_shared(*shared_region(c.to), c.to, c.bytes, Access::end_copy, state.warp);
}

}  // namespace

Memory::Memory(std::string name, std::size_t bytes, int cell) : size_(bytes) {
  // Aligned as the runtime's own allocations are.
  data_ = new (std::align_val_t{256}) std::byte[bytes];
  std::memset(data_, kUnknown, bytes);
  globals.push_back({std::move(name), reinterpret_cast<const char*>(data_), bytes, cell, 0,
                     std::make_unique<GlobalCell[]>(bytes / cell + 1)});
}

Memory::~Memory() {
  std::erase_if(globals, [&](const GlobalRegion& r) {
    return r.begin == reinterpret_cast<const char*>(data_);
  });
  ::operator delete[](data_, std::align_val_t{256});
}

void Memory::fill(const void* from, std::size_t bytes) {
  if (bytes > size_) fail("%zu bytes into memory of %zu", bytes, size_);
  if (bytes == 0) return;
  std::memcpy(data_, from, bytes);
  for (GlobalRegion& r : globals) {
    if (r.begin != reinterpret_cast<const char*>(data_)) continue;
    for (std::size_t i = 0; i <= (bytes - 1) / r.cell; ++i) r.cells[i] = {1, 0};
    r.launch = 0;
  }
}

void begin_block(int threads) {
  prepare_shared();
  if (state.block == 0) state.block = 1;  // 1 is the host
  ++state.block;
  if (blockIdx.x == 0 && blockIdx.y == 0 && blockIdx.z == 0) first_block = state.block;
  std::memset(dynamic, kUnknown, state.shared_bytes);
  state.clocks = {};
  state.proxy_fences = {};
  for (int i = 0; i < kAgents; ++i) state.clocks[i][i] = 1;
  state.waited.assign(static_cast<std::size_t>(threads), false);
  copies.assign(static_cast<std::size_t>(threads), {});
  begin_hopper_block(threads);
}

void read(const void* p, std::size_t bytes) {
  check_alignment(p, bytes);
  touch(p, bytes, false);
}
void write(void* p, std::size_t bytes) {
  check_alignment(p, bytes);
  touch(p, bytes, true);
}

void read_asynchronously(const void* p, std::size_t bytes) {
  read(p, bytes);
  const SharedRegion* r = shared_region(p);
  if (r == nullptr) fail("wgmma of what is no shared memory");
  const auto at = static_cast<std::size_t>(static_cast<const char*>(p) - r->begin);
  for (std::size_t i = at / kSharedCell; i <= (at + bytes - 1) / kSharedCell; ++i) {
    const SharedCell& c = r->cells[i];
    if (c.writer != kCopier && c.write_step >= state.proxy_fences[c.writer]) {
      fail("shared memory: wgmma reads byte %zu, which warp %d stored without fence.proxy.async",
           i * kSharedCell, c.writer);
    }
  }
}

void proxy_fence() {
  std::uint32_t& step = state.clocks[state.warp][state.warp];
  state.proxy_fences[state.warp] = ++step;
}

// The window of shared memory: variables first, then what the launch asked for.
std::uint32_t shared_address(const void* p) {
  prepare_shared();
  const auto* c = static_cast<const char*>(p);
  if (c >= dynamic && c <= dynamic + kSharedBytes) {
    return static_cast<std::uint32_t>(c - dynamic) + 1024;
  }
  if (shared_region(p) == nullptr) fail("no pointer into shared memory");
  return static_cast<std::uint32_t>(c - &__bss_start) + (1U << 24);
}

char* shared_pointer(std::uint32_t address) {
  if (address >= 1U << 24) return &__bss_start + (address - (1U << 24));
  return dynamic + static_cast<int>(address) - 1024;
}

char* dynamic_shared() {
  return dynamic;
}

void copy_async(void* to, const void* from, std::size_t bytes) {
  check_alignment(to, bytes);
  if (from != nullptr) read(from, bytes);
  SharedRegion* r = shared_region(to);
  if (r == nullptr) fail("cp.async to what is no shared memory");
  touch_shared(*r, to, bytes, Access::begin_copy, state.warp);
  std::memset(to, kUnknown, bytes);
  copies[state.thread()].open.push_back({to, from, bytes});
}

void copy_async_commit() {
  AsyncCopies& c = copies[state.thread()];
  c.groups.push_back(std::exchange(c.open, {}));
}

void copy_async_wait(int left) {
  auto& groups = copies[state.thread()].groups;
  while (static_cast<int>(groups.size()) > left) {
    for (const AsyncCopy& copy : groups.front()) finish(copy);
    groups.erase(groups.begin());
  }
}

void begin_bulk_copy(void* to, const void* from, std::size_t bytes) {
  if (from != nullptr) touch(from, bytes, false);
  SharedRegion* r = shared_region(to);
  if (r == nullptr) fail("bulk copy to what is no shared memory");
  touch_shared(*r, to, bytes, Access::begin_copy, state.warp);
  std::memset(to, kUnknown, bytes);
}

void mark_copied(void* to, std::size_t bytes) {
  touch_shared(*shared_region(to), to, bytes, Access::end_copy, kCopier);
}

void wait_for_previous() {
  state.waited[state.thread()] = true;
}

}  // namespace elan::emulator

// What GCC calls around every load and store of code compiled for its thread sanitizer, and what
// it calls when a pointer's alignment or an index is wrong.
extern "C" {
using elan::emulator::fail;
#define ELAN_HOOKS(BYTES)                       \
  void __tsan_read##BYTES(void* p) {            \
    elan::emulator::touch(p, BYTES, false);     \
  }                                             \
  void __tsan_write##BYTES(void* p) {           \
    elan::emulator::touch(p, BYTES, true);      \
  }                                             \
  void __tsan_unaligned_read##BYTES(void* p) {  \
    elan::emulator::touch(p, BYTES, false);     \
  }                                             \
  void __tsan_unaligned_write##BYTES(void* p) { \
    elan::emulator::touch(p, BYTES, true);      \
  }                                             \
  void __tsan_volatile_read##BYTES(void* p) {   \
    elan::emulator::touch(p, BYTES, false);     \
  }                                             \
  void __tsan_volatile_write##BYTES(void* p) {  \
    elan::emulator::touch(p, BYTES, true);      \
  }
ELAN_HOOKS(1)
ELAN_HOOKS(2)
ELAN_HOOKS(4)
ELAN_HOOKS(8)
ELAN_HOOKS(16)
void __tsan_read_range(void* p, std::size_t n) {
  elan::emulator::touch(p, n, false);
}
void __tsan_write_range(void* p, std::size_t n) {
  elan::emulator::touch(p, n, true);
}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}

struct SourceLocation {
  const char* file;
  std::uint32_t line, column;
};
struct TypeMismatch {
  SourceLocation location;
  const void* type;
  unsigned char log_alignment;
};
void __ubsan_handle_type_mismatch_v1(const TypeMismatch* m, std::uintptr_t p) {
  fail("%s:%u: misaligned: address ends in %#x, expected a multiple of %u", m->location.file,
       m->location.line, static_cast<unsigned>(p & 255), 1U << m->log_alignment);
}
void __ubsan_handle_out_of_bounds(const SourceLocation* at, std::uintptr_t index) {
  fail("%s:%u: index %lld is outside of its array", at->file, at->line,
       static_cast<long long>(index));
}
}
