// Weights in the order in which the kernels read them, made once when a backend is created.
#pragma once

#include <vector>

#include "cpu/buffer.h"
#include "cpu/kernels.h"
#include "model/network.h"

namespace elan::cpu {

// A matrix with the memory it lies in.
struct PackedMatrix : Matrix {
  Buffer<Word> word_memory;
  Buffer<float> bias_memory;
  Buffer<std::int32_t> offset_memory;
};

// The hidden channels of an LFE that conv1 reads at one neighbour (dy, dx). They are computed for
// the tile moved by (dy, dx), so that conv1 finds them in place.
struct HiddenGroup {
  PackedMatrix conv0;
  int dy = 0, dx = 0;
  int first_row = 0;  // of the hidden operand; a multiple of the pack
};

struct PackedLfe {
  Buffer<std::int32_t> channels;  // [halo_steps][pack]: input channels sorted by their tap, or -1
  int halo_steps = 0;
  std::vector<HiddenGroup> hidden;
  int hidden_rows = 0;
  PackedMatrix conv1;
};

struct PackedPair {
  bool shifted = false;
  bool computes_attention = false;
  PackedLfe lfe;
  PackedMatrix q;  // empty if the pair uses the q of an earlier one
  PackedMatrix v;
  PackedMatrix project_out;
};

struct PackedNetwork {
  Architecture arch;
  int pack = 1;
  int group = 0;         // channels of an attention group: channels / 3
  int group_steps = 0;   // operand words of a pixel of a group
  int halo_steps = 0;    // the most of any LFE
  int hidden_rows = 0;   // likewise
  bool keeps_q = false;  // some pair uses the q of an earlier one
  std::array<float, 3> mean{};
  Buffer<std::int32_t> channel_order;  // 0, 1, .. channels - 1
  PackedMatrix head, tail;             // FP32
  std::vector<PackedPair> pairs;
};

// The network's shifts must be one-hot.
PackedNetwork pack_network(const Network& network, Operand operand);

}  // namespace elan::cpu
