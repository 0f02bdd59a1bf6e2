// How the CPU engine lays out activations and weights.
//
// The padded picture is cut into tiles of 16x16 pixels. A tile is stored channel by channel, each
// channel as 256 values in row order: pixels run along the vector lanes, so that no channel count
// needs padding and a softmax is lane-wise.
//
// Operands of matrix products are 32-bit words. A word holds `pack` consecutive channels of one
// pixel: 1 (a float), or 2 (bfloat16, the lower channel in the lower half). A product runs over
// steps; step s multiplies word s of a pixel with word s of a weight row.
#pragma once

namespace elan::cpu {

inline constexpr int kTile = 16;                     // pixels a side
inline constexpr int kTilePixels = kTile * kTile;    // pixels
inline constexpr int kHalo = 2;                      // pixels of the neighbours an LFE reads
inline constexpr int kHaloRows = kTile + 2 * kHalo;  // rows of a tile with its halo
inline constexpr int kHaloStride = 24;               // words in a row of it; columns -4 .. 19
inline constexpr int kHaloPlane = kHaloRows * kHaloStride;   // words
inline constexpr int kHaloOrigin = kHalo * kHaloStride + 4;  // word of pixel (0, 0)

}  // namespace elan::cpu
