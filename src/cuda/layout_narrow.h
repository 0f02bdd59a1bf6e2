// How Hopper's kernels of the narrow network with an LFE (kernels/lfe_hopper_narrow.cu, and
// pair_hopper_narrow.cu) use shared memory: tiles, weights, what is on its way out; and where
// biases are.
#pragma once

#include "cuda/layout.h"

namespace elan::cuda {

constexpr int kNarrowTileRow = 4 * 4 + 4;  // 4 modulo 8 pixels, as tile_row_pixels()
// Copied tiles are the stream of FP16 as it is, others are operands.
constexpr int narrow_pitch(bool copied) {
  return copied ? 16 * kNarrowLayout.units : tile_pitch(kNarrowLayout, 2);
}
constexpr int kNarrowTileAlignment = 1024;  // of copied ones
// Where the byte lies that would be at `address` if copied tiles were plain rows of pixels: tensor
// copies spread the same 16 bytes of eight pixels over all banks.
constexpr std::uint32_t swizzled(std::uint32_t address) {
  return address ^ (address >> 3 & 0x70U);
}
constexpr int narrow_tile_bytes(int tile_y, bool copied) {
  return kNarrowTileRow * (4 * tile_y + 4) * narrow_pitch(copied);
}
// Of the largest copied tiles two are computed at once, by a team of warpgroups each, while a third
// comes.
constexpr int narrow_teams(int tile_y, bool copied) {
  return copied && tile_y == 4 ? 2 : 1;
}
constexpr int narrow_buffers(int teams) {
  return teams == 1 ? 1 : teams + 1;
}
constexpr int kNarrowStageBytes = 1024;  // a warp's, of what leaves in whole lines
constexpr int narrow_shared_bytes(int groups, bool has_q, int tile_y, bool copied) {
  const int teams = narrow_teams(tile_y, copied), warps = (tile_y == 1 ? 4 : 8) * teams;
  return kNarrowTileAlignment + narrow_buffers(teams) * narrow_tile_bytes(tile_y, copied) +
         narrow_weight_bytes(groups, has_q) + (copied ? warps * kNarrowStageBytes : 0);
}

// LFE and GMSA of a pair in one kernel (kernels/pair_hopper_narrow.cu): a tile that comes while
// teams compute theirs in turn, all weights, and for each team y and q and v of one window group.
constexpr int kPairTeams = 2, kPairTeamThreads = 256;
constexpr int kPairBlockBytes = 16 * 16 * kNarrowLayout.units;  // y of 4 x 4 pixels
constexpr int kPairTeamBytes = 16 * kPairBlockBytes + gmsa_window_bytes(kNarrowLayout, 2);
constexpr int narrow_pair_shared_bytes(int groups, bool has_q) {
  return kNarrowTileAlignment + narrow_tile_bytes(4, true) + narrow_weight_bytes(groups, has_q) +
         kNarrowOutBytes + kPairTeams * kPairTeamBytes;
}

// Operands are kBiasOne in conv0 where the first unit that is read twice is read for its other
// half, in conv1 in the unit that makes the number of units even, in project_inp in the first
// channels of the stream's padding.
constexpr int kNarrowBiasRead = 1, kNarrowBiasK = 4;  // of conv0
constexpr int kNarrowPadding = 60;                    // the stream channel
constexpr int kNarrowPadUnit = 6;  // of project_inp, where lanes 3 modulo 4 have it

}  // namespace elan::cuda
