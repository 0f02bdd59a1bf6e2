// How numbers lie for Hopper's LFE of 180 channels with operands of 32 bits: tf32, and fp32 as two
// FP16 terms a number.
//
// Operands are core matrices of 8 rows x 16 bytes, 128 bytes in a row. A unit of 8 k takes two
// parts of one core matrix for 8 rows each: tf32 its lower and its upper 4 k, fp32 its upper and
// its lower terms.
#pragma once

#include "cuda/layout.h"

namespace elan::cuda {

// How far core matrices lie apart, in bytes: to the other part, to the next unit of k, and to the
// next 8 rows (of A) or columns (of B).
struct Cores {
  int part, unit, rows;
};
constexpr Cores slab_cores(int tiles) {  // of weights: [unit][part][column tile]
  return {tiles * 128, tiles * 256, 128};
}
// q and v of a block in a window of 16: [half of its 16 tokens][unit of channels][part]. Tokens are
// the rows of q; they are the k of v, which is transposed.
constexpr int kWideHalf = kHopperLayout.group_units * 256;
constexpr Cores kWideQueryCores{128, 256, kWideHalf}, kWideValueCores{128, kWideHalf, 256};

// A thread block's tile is 8 x 16 pixels: one warpgroup has its even rows, the other its odd ones,
// so that a warp has two rows of two blocks of 4 x 4, two rows apart. In shared memory it has its
// ring of one pixel, [unit][part][row][column] of 16 bytes. The odd step between parts keeps
// neighbouring channels, which are stored at once, in different banks.
constexpr int kWideTileWidth = 8, kWideTileHeight = 16;
constexpr int kWideRow = kWideTileWidth + 2, kWideRows = kWideTileHeight + 2;
constexpr int kWidePart = (kWideRow * kWideRows + 1) * 16;
constexpr int kWideUnit = 2 * kWidePart;
constexpr int kWideTileBytes = kHopperLayout.units * kWideUnit;
constexpr Cores kWideTileCores{kWidePart, kWideUnit, 2 * kWideRow * 16};  // of every second row

// Weights come in slabs of some units of k and some column tiles: [unit][part][column tile].
constexpr int wide_slab_bytes(int units, int tiles) {
  return units * 2 * tiles * 128;
}
constexpr int kWideConv0Units = 8, kWideProjectUnits = 8;
// fp32 sums what a slab gives in registers. So those of conv1 have all k, and as many columns as
// there are registers for; the last one's last tile is empty.
constexpr int wide_conv1_units(Operand o) {
  return o == Operand::fp32 ? kHopperLayout.hidden_tiles : 3;
}
constexpr int wide_conv1_tiles(Operand o) {
  return o == Operand::fp32 ? 8 : kHopperLayout.units;
}
constexpr int slab_count(int units, int most) {
  return (units + most - 1) / most;
}
// Units in slab `i`.
constexpr int slab_units(int units, int most, int i) {
  return units - i * most < most ? units - i * most : most;
}
constexpr int kWideStageBytes = wide_slab_bytes(kWideConv0Units, kHopperLayout.hidden_tiles);
constexpr int wide_conv1_bytes(Operand o) {  // of a slab, but for one with fewer units
  return wide_slab_bytes(wide_conv1_units(o), wide_conv1_tiles(o));
}
constexpr int wide_conv1_pieces(Operand o) {  // of its columns
  return slab_count(kHopperLayout.units, wide_conv1_tiles(o));
}
static_assert(wide_conv1_bytes(Operand::tf32) <= kWideStageBytes);
static_assert(wide_conv1_bytes(Operand::fp32) <= kWideStageBytes);
static_assert(wide_slab_bytes(kWideProjectUnits, kHopperLayout.group_units) <= kWideStageBytes);

constexpr int wide_group_bytes(Operand o) {  // of a hidden group: conv0 and conv1
  return wide_slab_bytes(kHopperLayout.units, kHopperLayout.hidden_tiles) +
         wide_conv1_pieces(o) * wide_slab_bytes(kHopperLayout.hidden_tiles, wide_conv1_tiles(o));
}
constexpr int wide_project_bytes() {  // of one window group's q or v
  return wide_slab_bytes(kHopperLayout.units, kHopperLayout.group_units);
}

// project_out, in slabs of 64 columns, and q and v of a window of 16 in shared memory.
constexpr int kWideOutBytes =
    wide_slab_bytes(kWindowGroups * kHopperLayout.group_units, kHopperOutTiles);
constexpr int kWideOutStages = 2;
constexpr int wide_gmsa_shared_bytes() {
  return kWideOutStages * kWideOutBytes + gmsa_window_bytes(kHopperLayout, 4);
}

// Slabs in shared memory at once, at most; biases lie as in the 16-bit path.
constexpr int kWideMostStages = 5;
constexpr int wide_shared_bytes(int groups, int stages) {
  return kWideTileBytes + stages * kWideStageBytes +
         (kWideBias0 + groups * 8 * kHopperLayout.hidden_tiles) * static_cast<int>(sizeof(float));
}

}  // namespace elan::cuda
