// What Hopper adds: barriers in shared memory, bulk copies and asynchronous matrix products. Copies
// and products happen as late as what waits for them allows.
#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <memory>

#include "emulator.h"
#include "matrix.h"
#include "state.h"

namespace elan::emulator {
namespace {

struct MemoryBarrier {
  int count = 0, pending = 0;
  long bytes = 0;  // still expected
  std::uint32_t phase = 0;
  Clock arriving{}, passed{};  // what those know who have arrived, and whom a phase has let pass
  int maker = 0;
  std::uint32_t made = 0;
  std::uint32_t waiting[kMaxWarps] = {};
};
std::map<std::uint32_t, MemoryBarrier> barriers;

struct BulkCopy {
  char* to;
  const void* from;
  std::size_t bytes;
  std::uint32_t barrier;
};
std::deque<BulkCopy> bulk_copies;

MemoryBarrier& barrier_at(std::uint32_t address) {
  const auto at = barriers.find(address);
  if (at == barriers.end()) fail("mbarrier: the one at %u was never initialized", address);
  if (at->second.made > state.clocks[state.warp][at->second.maker]) {
    fail("mbarrier: race: used before anything orders that with its initialization");
  }
  return at->second;
}

void end_phase_if_done(MemoryBarrier& b) {
  if (b.pending != 0 || b.bytes != 0) return;
  ++b.phase;
  b.pending = b.count;
  b.passed = b.arriving;
  for (int w = 0; w < kMaxWarps; ++w) wake(w, std::exchange(b.waiting[w], 0));
}

void arrive(MemoryBarrier& b) {
  join(b.arriving, state.clocks[state.warp]);
  ++state.clocks[state.warp][state.warp];
  --b.pending;
  end_phase_if_done(b);
}

// ---- wgmma ----

struct Product {
  Format format;
  int tiles;
  std::uint32_t* d;
  std::uint32_t a[4];
  std::uint64_t a_descriptor, b_descriptor;  // a: 0 if in registers
  bool accumulate;
};
struct Products {
  std::vector<Product> open;
  std::deque<std::vector<Product>> groups;
  std::map<std::uint32_t*, std::vector<std::uint32_t>> saved;  // accumulators of those under way
  bool fenced = false;
};
std::vector<Products> products;

// The 16 bytes of k unit `unit` in row `row` of an operand in shared memory.
const char* operand_row(std::uint64_t d, int row, int unit) {
  const auto field = [d](int bit) { return static_cast<std::uint32_t>(d >> bit & 0x3fff) << 4; };
  const std::uint32_t start = field(0), leading = field(16), stride = field(32);
  const int swizzle = static_cast<int>(d >> 62);  // 0: none, 1: 128 bytes, 2: 64, 3: 32
  if (swizzle == 0) {
    return shared_pointer(start + unit * leading + row / 8 * stride + row % 8 * 16);
  }
  const std::uint32_t pitch = 256U >> swizzle;
  const std::uint32_t address = start + row / 8 * stride + row % 8 * pitch + unit * 16;
  return shared_pointer(address ^ (address >> 3 & (pitch - 16)));
}

void run_products(void* const* lanes) {
  const auto of = [&](int l) -> const Product& { return *static_cast<const Product*>(lanes[l]); };
  const Product& first = of(0);
  const int k_units = 2, words = 4;  // an instruction has 32 bytes of k
  for (int l = 1; l < 32; ++l) {
    if (of(l).b_descriptor != first.b_descriptor || of(l).tiles != first.tiles ||
        of(l).format != first.format || of(l).accumulate != first.accumulate ||
        of(l).a_descriptor != first.a_descriptor) {
      fail("wgmma: lanes disagree about the product");
    }
  }
  std::uint32_t b[32][2], a[32][4];
  for (int l = 0; l < 32; ++l) std::memcpy(a[l], of(l).a, sizeof a[l]);
  if (first.a_descriptor != 0) {
    for (int r = 0; r < 16; ++r) {
      for (int u = 0; u < k_units; ++u) {
        const char* row = operand_row(first.a_descriptor, state.warp % 4 * 16 + r, u);
        read_asynchronously(row, 16);
        for (int t = 0; t < words; ++t) {
          std::memcpy(&a[r % 8 * 4 + t][u * 2 + r / 8], row + t * 4, 4);
        }
      }
    }
  }
  for (int tile = 0; tile < first.tiles; ++tile) {
    for (int column = 0; column < 8; ++column) {
      for (int u = 0; u < k_units; ++u) {
        const char* row = operand_row(first.b_descriptor, tile * 8 + column, u);
        read_asynchronously(row, 16);
        for (int t = 0; t < words; ++t) std::memcpy(&b[column * 4 + t][u], row + t * 4, 4);
      }
    }
    MultiplyCall calls[32];
    void* pointers[32];
    for (int l = 0; l < 32; ++l) {
      std::uint32_t* d = of(l).d + tile * 4;
      if (!first.accumulate) std::fill_n(d, 4, 0);
      const Format b_format = first.format == Format::u8 ? Format::s8 : first.format;
      calls[l] = {first.format, b_format, k_of(first.format), d, a[l], b[l]};
      pointers[l] = &calls[l];
    }
    run_multiply_as(first.format, pointers);
  }
}

}  // namespace

void begin_hopper_block(int threads) {
  barriers.clear();
  bulk_copies.clear();
  products.assign(static_cast<std::size_t>(threads), {});
}

bool end_bulk_copy() {
  if (bulk_copies.empty()) return false;
  const BulkCopy c = bulk_copies.front();
  bulk_copies.pop_front();
  if (c.from == nullptr) {
    std::memset(c.to, 0, c.bytes);
  } else {
    std::memcpy(c.to, c.from, c.bytes);
  }
  ++state.clocks[kCopier][kCopier];
  mark_copied(c.to, c.bytes);
  MemoryBarrier& b = barriers.at(c.barrier);
  b.bytes -= static_cast<long>(c.bytes);
  b.arriving[kCopier] = state.clocks[kCopier][kCopier];
  end_phase_if_done(b);
  return true;
}

void barrier_init(std::uint32_t address, int count) {
  if (address % 8 != 0) fail("mbarrier: misaligned");
  shared_pointer(address);
  MemoryBarrier b;
  b.count = b.pending = count;
  b.maker = state.warp;
  b.made = state.clocks[state.warp][state.warp];
  barriers[address] = b;
}

void barrier_arrive(std::uint32_t address) {
  arrive(barrier_at(address));
}

void barrier_expect(std::uint32_t address, int bytes) {
  MemoryBarrier& b = barrier_at(address);
  b.bytes += bytes;
  arrive(b);
}

void barrier_wait(std::uint32_t address, int parity) {
  MemoryBarrier& b = barrier_at(address);
  while (static_cast<int>(b.phase & 1) == parity) {
    b.waiting[state.warp] |= 1U << state.lane;
    sleep("mbarrier");
  }
  join(state.clocks[state.warp], b.passed);
}

void copy_bulk(std::uint32_t to, const void* from, int bytes, std::uint32_t barrier) {
  barrier_at(barrier);
  if (bytes % 16 != 0 || to % 16 != 0 || reinterpret_cast<std::uintptr_t>(from) % 16 != 0) {
    fail("bulk copy: addresses and bytes must be multiples of 16");
  }
  char* p = shared_pointer(to);
  begin_bulk_copy(p, from, static_cast<std::size_t>(bytes));
  bulk_copies.push_back({p, from, static_cast<std::size_t>(bytes), barrier});
}

void multiply_fence() {
  products[state.thread()].fenced = true;
}

void multiply_async(Format format, int tiles, void* d, const std::uint32_t* a,
                    std::uint64_t a_descriptor, std::uint64_t b_descriptor, bool accumulate) {
  Products& p = products[state.thread()];
  Product product{format,       tiles,     static_cast<std::uint32_t*>(d), {}, a_descriptor,
                  b_descriptor, accumulate};
  if (a != nullptr) std::copy_n(a, 4, product.a);
  if (!p.fenced) fail("wgmma without wgmma.fence before it");
  if (!p.saved.contains(product.d)) {
    // Until waited for, what is in the accumulators is nobody's.
    p.saved[product.d].assign(product.d, product.d + tiles * 4);
    std::fill_n(product.d, tiles * 4, 0x7fffffffU);
  }
  p.open.push_back(product);
}

void multiply_commit() {
  Products& p = products[state.thread()];
  p.groups.push_back(std::exchange(p.open, {}));
}

void multiply_wait(int left) {
  Products& p = products[state.thread()];
  p.fenced = false;
  while (static_cast<int>(p.groups.size()) > left) {
    for (Product& product : p.groups.front()) {
      const auto saved = p.saved.find(product.d);
      if (saved != p.saved.end()) {
        std::copy(saved->second.begin(), saved->second.end(), product.d);
        p.saved.erase(saved);
      }
      meet("wgmma", ~0U, &product, run_products);
    }
    p.groups.pop_front();
  }
}

}  // namespace elan::emulator
