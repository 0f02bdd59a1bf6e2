// The operations on one tile that exist once per instruction set and data type, and the table
// through which the engine calls them. Nothing here depends on an instruction set.
#pragma once

#include <cstdint>

#include "cpu/isa.h"
#include "cpu/layout.h"
#include "elan/image.h"

namespace elan::cpu {

// The data type of operands; sums and the residual stream are FP32 in all.
enum class Operand { fp32, bf16, bf16_emulated };

// 32 bits of operand. Declared float so that FP32 values are operands as they are.
using Word = float;

// A matrix in the order in which product() reads it: blocks of `block` outputs (the last may be
// smaller), in each the steps in order, in each step one word per output of the block.
struct Matrix {
  int outs = 0;
  int steps = 0;
  int block = 0;
  const Word* words = nullptr;            // [outs / block][steps][block]
  const float* bias = nullptr;            // [outs]
  const std::int32_t* offsets = nullptr;  // [steps] words from a pixel to its operand of that step
};

enum class Store : std::uint8_t {
  values,        // values[row][256] = y
  residual,      // values = y + residual; if operand is set, also packed there
  operand,       // packed, `pack` rows to a word
  operand_relu,  // likewise max(y, 0)
  keys,          // v of the attention: operand[row][256 / pack], `pack` pixels to a word
};

// y = weights * in + bias for the 256 pixels of a tile.
struct ProductTask {
  const Matrix* weights = nullptr;
  const Word* in = nullptr;  // operand of pixel (0, 0) at step offset 0
  int in_stride = kTile;     // words from one row of pixels to the next: kTile or kHaloStride
  Store store = Store::values;
  float* values = nullptr;
  const float* residual = nullptr;
  Word* operand = nullptr;
};

// out = softmax(q q^T) v in every window of a tile. q is scaled by sqrt(log2(e)), so that powers
// of two take the place of exponentials.
struct AttentionTask {
  const Word* q = nullptr;  // [steps][256]
  const Word* v = nullptr;  // [channels][256 / pack]
  Word* out = nullptr;      // [steps][256]
  int channels = 0;
  int window = 0;            // 4, 8 or 16
  float* scratch = nullptr;  // attention_scratch(channels) floats, aligned
};
std::size_t attention_scratch(int channels);

// Operands of a tile with its neighbourhood, zero outside the picture.
struct HaloTask {
  const float* x[9] = {};                  // tiles around and itself (4), null outside the picture
  const std::int32_t* channels = nullptr;  // [steps][pack], -1 where a word is filled up
  int steps = 0;
  Word* out = nullptr;  // [steps][kHaloPlane]
};

// A tile of a grid that is rolled by `roll` pixels, cut from four tiles of the grid it is rolled
// against: itself, its right, lower and lower right neighbour. Also its inverse: with
// roll = 16 - window / 2 and the upper left neighbours.
struct RollTask {
  const Word* from[4] = {};
  int roll = 0;  // pixels; even
  int planes = 0;
  int pixels_per_word = 1;
  Word* out = nullptr;  // [planes][256 / pixels_per_word]
};

// A tile of conv outputs, pixel-shuffled into interleaved RGB.
struct ShuffleTask {
  const float* y = nullptr;  // [3 * scale^2][256]
  int scale = 0;
  const float* mean = nullptr;  // [3]
  ImageView out;                // where the tile goes; may be cut off at right and bottom
  float* scratch = nullptr;     // shuffle_scratch(scale) floats
};
std::size_t shuffle_scratch(int scale);

struct Kernels {
  int pack;               // channels in a word
  bool values_are_words;  // a tile of FP32 values is an operand as it is
  void (*product)(const ProductTask&);
  void (*attention)(const AttentionTask&);
  void (*halo)(const HaloTask&);
  void (*roll)(const RollTask&);
  void (*shuffle)(const ShuffleTask&);
  // Multiply-adds of `rounds` rounds of independent sums that touch no memory.
  double (*peak)(long rounds);
};

// The kernels of an instruction set; bf16 exists natively for avx512bf16 only.
const Kernels& kernels(Isa isa, Operand operand);

}  // namespace elan::cpu
