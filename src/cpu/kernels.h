// The operations on one tile that exist once per instruction set and data type, and the table
// through which the engine calls them. Nothing here depends on an instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/isa.h"
#include "cpu/layout.h"
#include "elan/image.h"

namespace elan::cpu {

// The data type of operands; sums and the residual stream are FP32 in all (8-bit operands: exact
// 32-bit integers, see docs/quantization.md). `bf16_emulated` rounds and multiplies in FP32.
enum class Operand : std::uint8_t { fp32, bf16, bf16_emulated, int8 };

int pack_of(Operand operand);                 // channels in a word: 1, for bf16 2, for int8 4
int steps_of(int channels, Operand operand);  // words of a pixel

// What the products of q with itself are scaled by, beside log2(e): the attention's powers of two
// are those of a score divided by this.
inline constexpr float kBf16ScoreScale = 128;
float score_scale(Operand operand);  // the above for bf16, else 1

// How values become operands. `inverse` is for int8: of the scale.
struct Format {
  Operand operand = Operand::fp32;
  float inverse = 1;

  bool operator==(const Format&) const = default;
};

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
  Operand operand = Operand::fp32;
  // For int8, [outs]: y = sum * scale + bias; sums begin with what makes up for Kernels::zero_byte.
  const float* scale = nullptr;
  const std::int32_t* start = nullptr;
};

enum class Store : std::uint8_t {
  values,        // values[row][256] = y; if operand is set, also packed there
  residual,      // likewise y + residual
  operand,       // packed, as many rows to a word as the format has
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
  Format format = {};  // of `operand`; keys in int8 have no scale: y is rounded as it is
  // What a later step reads or writes: fetched into the second-level cache beside the product.
  const Word* ahead = nullptr;
  std::size_t ahead_words = 0;
};

// values[rows][256] to operand[steps][256].
struct PackTask {
  const float* values = nullptr;
  int rows = 0;
  Word* operand = nullptr;
  Format format = {};
};

// out = softmax(q q^T) v in every window of a tile. q is scaled by the square root of
// score_scale(), so that powers of two take the place of exponentials. For int8 q and v are the
// integers of docs/quantization.md, those of v with a sign whatever Kernels::zero_byte is, and
// channels are at most kMostInt8Channels.
inline constexpr int kMostInt8Channels = 128;  // scores stay below 2^22, biased bytes counted
struct AttentionTask {
  Operand operand = Operand::fp32;  // of q and v
  const Word* q = nullptr;          // [steps][256]
  const Word* v = nullptr;          // [channels][256 / pack]
  int channels = 0;
  int window = 0;            // 4, 8 or 16
  float* scratch = nullptr;  // attention_scratch(channels) floats, aligned
  Word* out = nullptr;       // [steps][256]
  Format format = {};        // of `out`
  float octaves = 0;         // for int8: what a score counts as power of two
  float v_scale = 0;         // for int8
};
std::size_t attention_scratch(int channels);

// Operands of a tile with its neighbourhood, zero outside the picture.
struct HaloTask {
  Operand operand = Operand::fp32;  // of `out`
  // Tiles around and itself (4), null outside the picture: values; for int8 operands.
  const float* x[9] = {};
  // [steps][pack], -1 where a word is filled up; for int8 unused, the words are taken in order.
  const std::int32_t* channels = nullptr;
  int steps = 0;
  Word* out = nullptr;  // [steps][kHaloPlane]
};

// A tile of a grid that is rolled by `roll` pixels, cut from four tiles of the grid it is rolled
// against: itself, its right, lower and lower right neighbour. Also its inverse: with
// roll = 16 - window / 2 and the upper left neighbours.
struct RollTask {
  const Word* from[4] = {};
  int roll = 0;  // pixels; even, also where four share a word
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
  Operand half;            // bf16 or bf16_emulated
  std::uint8_t zero_byte;  // what an 8-bit operand holds for 0
  void (*product)(const ProductTask&);
  void (*attention)(const AttentionTask&);
  void (*pack)(const PackTask&);
  void (*halo)(const HaloTask&);
  void (*roll)(const RollTask&);
  void (*shuffle)(const ShuffleTask&);
  // Multiply-adds of `rounds` rounds of independent sums that touch no memory.
  double (*peak)(Operand operand, long rounds);
};

// Operands other than those named there must not be asked of a table: bf16 where half is
// bf16_emulated, and the other way round.
const Kernels& kernels(Isa isa);

// What an operand holds where all its channels are 0.
Word zero_word(const Kernels& kernels, Operand operand);

}  // namespace elan::cpu
