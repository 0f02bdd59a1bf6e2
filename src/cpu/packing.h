// Weights in the order in which the kernels read them, made once when a backend is created.
#pragma once

#include <vector>

#include "cpu/buffer.h"
#include "cpu/kernels.h"
#include "model/network.h"
#include "model/plan.h"

namespace elan::cpu {

// A matrix with the memory it lies in.
struct PackedMatrix : Matrix {
  Buffer<Word> word_memory;
  Buffer<float> bias_memory, scale_memory;
  Buffer<std::int32_t> start_memory;
  Buffer<std::int32_t> offset_memory;
};

// The hidden channels of an LFE that conv1 reads at one neighbour (dy, dx). They are computed for
// the tile moved by (dy, dx), so that conv1 finds them in place.
struct HiddenGroup {
  PackedMatrix conv0;
  int dy = 0, dx = 0;
  int first_row = 0;  // of the hidden operand; whole words
};

struct PackedLfe {
  Format input;   // what conv0 reads; int8: stored by whoever made x, channels in order
  Format hidden;  // what conv1 reads
  Word zero = 0;  // of the hidden operand
  Buffer<std::int32_t> channels;  // not int8: [halo_steps][pack], sorted by their tap, or -1
  int halo_steps = 0;
  std::vector<HiddenGroup> groups;
  int hidden_steps = 0;
  PackedMatrix conv1;
};

// The formats are those of what goes from one operation to the next.
struct PackedPair {
  bool shifted = false;
  bool computes_attention = false;
  PackedLfe lfe;
  Format q_input, v_input;            // x + LFE(x) as project_inp reads it
  Operand attention = Operand::fp32;  // of q and v
  // Of an attention in 8 bits, by group; see AttentionTask.
  std::array<float, 3> octaves{}, v_scale{};
  Format attended;  // what project_out reads
  PackedMatrix q;   // empty if the pair uses the q of an earlier one
  PackedMatrix v;
  PackedMatrix project_out;

  // Whether what others read of x is its 8-bit operand, so that a tile of x may be changed in
  // place.
  [[nodiscard]] bool in_place() const { return lfe.input.operand == Operand::int8; }
};

struct PackedNetwork {
  Architecture arch;
  int group = 0;             // channels of an attention group: channels / 3
  bool keeps_q = false;      // some pair uses the q of an earlier one
  bool keeps_input = false;  // some conv0 reads 8 bits
  std::array<float, 3> mean{};
  Buffer<std::int32_t> channel_order;  // 0, 1, .. channels - 1
  PackedMatrix head, tail;             // FP32
  std::vector<PackedPair> pairs;
  std::vector<std::uint8_t> x_buffer;  // [pairs + 1] which of two holds x after so many pairs

  // The operand that x after `pairs` pairs is stored as beside its values, or null.
  [[nodiscard]] const Format* stored_input(std::size_t count) const {
    const bool stored = count < pairs.size() && pairs[count].lfe.input.operand == Operand::int8;
    return stored ? &pairs[count].lfe.input : nullptr;
  }
  [[nodiscard]] bool emulates_bf16() const;
};

// The network's shifts must be one-hot. An operation runs in what the plan says, or more exactly:
// head and tail in FP32, an attention in the most exact of its parts, and what should be 8-bit but
// cannot in BF16 where that is native, else in FP32. Throws Error (usage) that names an operation
// whose precision the CPU lacks; Error (model) if 8 bits are asked of a model without scales.
PackedNetwork pack_network(const Network& network, const PrecisionPlan& plan,
                           const Kernels& kernels);

}  // namespace elan::cpu
