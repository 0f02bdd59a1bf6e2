// What runs and where its data lies, for one size of picture: pure functions of numbers, so that
// they are tested without a GPU.
#pragma once

#include <cstddef>
#include <vector>

#include "cuda/layout.h"

namespace elan::cuda {

// What the choice depends on.
struct DeviceLimits {
  int multiprocessors = 0;
  int shared_per_block = 0;           // bytes a thread block may have at most
  int shared_per_multiprocessor = 0;  // bytes
  bool overlap = false;               // kernels can start before the one before has ended
};

// The padded picture (sides are multiples of 16) and the batch.
struct Grid {
  int width = 0, height = 0, batch = 0;
  bool overlap = false;  // a kernel may start while the one before ends (compute capability 9.0 on)
  [[nodiscard]] std::size_t pixels() const {
    return static_cast<std::size_t>(width) * height * batch;
  }
};

// Thread blocks of the fused LFE walk over tiles of 4 x tile_y blocks of 4 x 4 pixels: 1, 2 or, for
// a narrow FP16 stream, 4.
struct LfeShape {
  int tile_y = 2;
  int stages = 2;  // weight slabs in shared memory at once; 0: all of them, loaded once
  int blocks = 0;
  int shared_bytes = 0;
};

struct GmsaShape {
  bool staged = true;  // q and v of the largest window in shared memory
  int shared_bytes = 0;
  // Thread blocks that walk over tiles of 4 x tile_y blocks of 4 x 4 pixels: windows of 16, in the
  // wide network on Hopper also halves and quarters of them; 0: one for each half of a window. In
  // the narrow network in unshifted ELABs.
  int walkers = 0;
  int tile_y = 4;
};

// On a stream of FP16 its thread blocks walk over tiles of 4 x tile_y blocks of 4 x 4 pixels.
struct TailShape {
  int tile_y = 2;
  int stages = kTailStages;  // weight slabs in shared memory at once; 0: all of them
  int blocks = 0;
  int shared_bytes = 0;
};

// Byte offsets in the one buffer that a run works in; pictures lie elsewhere.
struct Arena {
  // Two places for the stream, the second only where it does not stay in one
  // (keeps_stream_in_place()); forward.cc knows which holds it.
  std::size_t x = 0, y = 0;
  std::size_t q = 0, v = 0;
  std::size_t integers = 0;  // 8 bits on Hopper: the stream in bytes (launch_integers())
  std::size_t bytes = 0;
};

struct NetworkShape {
  int channels = 0, scale = 0;
  int hidden_groups = 0;       // the most of any LFE
  std::vector<PairKind> body;  // [elab]
  Operand tail = Operand::fp32;

  [[nodiscard]] std::vector<PairKind> kinds() const;  // each once, in order of first use
  // The last convolution adds the head to what it reads; else a kernel does before it.
  [[nodiscard]] bool skip_in_tail() const { return body.back().stream == StreamFormat::fp16; }
};

// How pairs of one kind are launched.
struct PairPlan {
  PairKind kind;
  LfeShape lfe, lfe_later;  // of pairs that compute q, and of those that use it again
  GmsaShape gmsa;
  // Thread blocks of the kernel that computes a pair of an unshifted ELAB at once; 0: two kernels.
  int whole_pairs = 0;
  bool overlap = false;  // its kernels may start while the one before ends
};

struct Plan {
  Grid grid;
  std::vector<PairPlan> pairs;  // one a kind
  TailShape tail;
  Arena arena;

  [[nodiscard]] const PairPlan& of(const PairKind& kind) const;  // one of the network's
  // Whether pairs of an ELAB are computed at once.
  [[nodiscard]] bool has_whole_pairs(const PairKind& kind, bool shifted) const {
    return !shifted && of(kind).whole_pairs > 0;
  }
};

int padded(int side);  // to the next multiple of 16

// The last convolution's operands: fp32 where it fits, for little time; else fp16 if 16 bits are
// asked for.
Operand choose_tail(int channels, int scale, Operand asked, const DeviceLimits& device);

// Bytes of a stream and of q (or v) of pairs of this kind.
std::size_t stream_bytes(int channels, const Grid& grid, const PairKind& kind);
std::size_t attention_bytes(int channels, const Grid& grid, const PairKind& kind);

// Exact and monotone in each size. Has room for the widest kind of pair.
Arena plan_arena(const NetworkShape& net, int width, int height, int batch);

// Throws Error (usage) when the device has too little shared memory for this precision.
Plan make_plan(const NetworkShape& net, const DeviceLimits& device, int width, int height,
               int batch);

}  // namespace elan::cuda
