// How numbers lie in device memory: constants shared by the packing on the host and the kernels.
//
// A picture is computed in blocks of 4 x 4 pixels: the 16 rows of one matrix product, token
// r = 4 * (y % 4) + x % 4. The stream x is [pixel][stride] with channels sorted by the tap of
// the LFE's first shift. q and v are kept by block as the operands that the attention reads:
// [block][window group][unit][lane][words], a unit being 16 tokens x 8 channels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "model/rounding.h"

namespace elan::cuda {

// What the operands of a product are; accumulation is always FP32. fp32: two FP16 terms a number.
// int8: the integers of docs/quantization.md, for which FP16 has room, beside an attention in fp16;
// fp8 likewise.
enum class Operand : std::uint8_t { fp16, bf16, tf32, fp32, int8, fp8 };
constexpr bool has_8_bits(Operand o) {
  return o == Operand::int8 || o == Operand::fp8;
}
constexpr int operand_bytes(Operand o) {
  return o == Operand::tf32 || o == Operand::fp32 ? 4 : 2;
}
constexpr int operand_planes(Operand o) {
  return o == Operand::fp32 ? 2 : 1;
}
// Words of 8 k x 8 columns of weights that one lane holds.
constexpr int weight_words(Operand o) {
  return operand_bytes(o) / 2;
}

// How the residual stream is kept. split: numbers rounded to FP16, and behind all of them a byte
// each of what they are off by, 14 bits in all. Kernels of fp16 take all of these, those of int8
// and fp8 the first two, others FP32.
enum class StreamFormat : std::uint8_t { fp32, fp16, split };

// The bytes of split behind the first terms: 4 lanes have a pixel, each a word for every two units;
// 4 words a lane, 64 bytes, are together.
constexpr int rest_bytes(int units) {  // a pixel
  return (units + 7) / 8 * 64;
}
constexpr int rest_word(int lane, int word) {
  return word / 4 * 64 + lane * 16 + word % 4 * 4;
}
// Where that of a stream channel is; as in column_channel(), an odd unit's 8 are two a lane.
constexpr int rest_byte(int units, int channel) {
  const bool paired = channel < units / 2 * 16;
  const int lane = paired ? channel / 4 % 4 : channel % 8 / 2;
  return rest_word(lane, channel / 16) + channel % (paired ? 4 : 2);
}
constexpr int stream_pixel_bytes(int units, StreamFormat f) {
  return f == StreamFormat::fp32 ? 32 * units
                                 : 16 * units + (f == StreamFormat::split ? rest_bytes(units) : 0);
}

// How an activation becomes what a matrix takes: times `factor`, within -most..most, and rounded by
// adding and subtracting a number: `least`, or in fp8 `relative` times the power of two in the
// value, if that is more. The defaults change nothing: what goes into a matrix in floating point.
struct Rounding {
  float factor = 1;
  float most = std::numeric_limits<float>::infinity();
  float least = 0;
  float relative = 0;
};
constexpr float kToInteger = 12582912;  // 1.5 * 2^23
constexpr float kMostInt8 = 127;
constexpr Rounding to_int8(float factor) {
  return {factor, kMostInt8, kToInteger};
}
// E4M3: steps of an eighth of the power of two, of 2^-9 at least.
constexpr Rounding to_fp8() {
  return {1, kMostFp8, kToInteger / 512, kToInteger / 8};
}

// What the kernels of a pair (LFE with project_inp, GMSA with project_out) work with. An LFE leaves
// q and v as its GMSA reads them, and the pairs of an ELAB share q: all of these are of one kind.
struct PairKind {
  Operand operand = Operand::fp16;
  bool hopper = false;  // Hopper's own instructions, see has_hopper_kernels()
  StreamFormat stream = StreamFormat::fp32;
  friend constexpr bool operator==(const PairKind&, const PairKind&) = default;
};
// Hopper's kernels of 32-bit operands, which have layouts of their own.
constexpr bool uses_wide_kernels(const PairKind& kind) {
  return kind.hopper && operand_bytes(kind.operand) == 4;
}
constexpr bool uses_8_bit_kernels(const PairKind& kind) {
  return kind.hopper && has_8_bits(kind.operand);
}
// Whether y of a pair may lie where x does: an LFE that finds the pixels around in the image of
// integers reads its own alone of the stream. That is less for the caches to hold.
constexpr bool keeps_stream_in_place(const PairKind& kind) {
  return uses_8_bit_kernels(kind);
}

// A slab is the part of a matrix that is in shared memory at once: k in units of 8, columns in
// tiles of 8, in the order of use: for every two units of k, for every tile, the two units.
struct ChannelLayout {
  int channels;       // of the network
  int units;          // of 8 channels in the stream; stride = 8 * units
  int hidden_tiles;   // tiles of hidden channels that are computed together; all have one tap
  int conv0_parts;    // slabs of conv0 in such a group (k is cut) ...
  int conv1_parts;    // ... and of conv1 (columns are cut)
  int project_tiles;  // tiles in a slab of project_inp
  int group_units;    // of one window group's q (or v), padded
  int out_tiles;      // tiles in a slab of project_out
  int out_slabs;
};

constexpr ChannelLayout layout_of(int channels) {
  return channels == 180 ? ChannelLayout{180, 23, 9, 2, 2, 4, 8, 4, 6}
                         : ChannelLayout{60, 8, 3, 1, 1, 3, 3, 8, 1};
}

// Of the narrow network Hopper has kernels for 16 bits alone.
constexpr bool has_hopper_kernels(int channels, Operand o) {
  return channels == 180 || o == Operand::fp16 || o == Operand::bf16;
}

constexpr bool has_layout(int channels) {
  return channels == 60 || channels == 180;
}

// The stream channel in column `column` of a product whose columns are the stream: two neighbouring
// tiles share 16 channels in such a way that a lane holds 4 channels in a row, 16 bytes.
constexpr int column_channel(const ChannelLayout& l, int column) {
  const int tile = column / 8, j = column % 8;
  if (tile / 2 * 2 + 1 >= l.units) return column;
  return tile / 2 * 16 + j / 2 * 4 + tile % 2 * 2 + j % 2;
}

constexpr int kWindowGroups = 3;
// What the first padding channel of a key of the narrow network is; the second is 1.
constexpr float kReferenceUnit = 64;
constexpr int kMaxHiddenGroups = 24;
constexpr int kMaxChunks = 48;  // of 4 stream channels

// Part `i` of `parts` of n: the first ones are rounded up to even, so that pairs stay together.
constexpr int part_size(int n, int parts, int i) {
  const int first = parts == 1 ? n : (n / parts + 1) / 2 * 2;
  return i + 1 < parts ? first : n - first * (parts - 1);
}
constexpr int part_begin(int n, int parts, int i) {
  return i * part_size(n, parts, 0);
}

// `words` is weight_words() of the operand.
constexpr int slab_bytes(int units, int tiles, int words) {
  return (units * tiles * words + 3) / 4 * 512;
}

// Bytes of one conv slab of an LFE (all are padded to the largest) and of one project_inp slab.
constexpr int conv_slab_bytes(const ChannelLayout& l, int words) {
  const int a = slab_bytes(part_size(l.units, l.conv0_parts, 0), l.hidden_tiles, words);
  const int b = slab_bytes(l.hidden_tiles, part_size(l.units, l.conv1_parts, 0), words);
  return a > b ? a : b;
}
constexpr int project_slab_bytes(const ChannelLayout& l, int words) {
  return slab_bytes(l.units, l.project_tiles, words);
}
constexpr int project_slabs(const ChannelLayout& l) {  // of q; as many of v
  return kWindowGroups * l.group_units / l.project_tiles;
}
constexpr int out_slab_bytes(const ChannelLayout& l, int words) {
  return slab_bytes(kWindowGroups * l.group_units, l.out_tiles, words);
}
constexpr int tail_tiles(int scale) {
  return (3 * scale * scale + 7) / 8;
}
constexpr int tail_slab_bytes(const ChannelLayout& l, int tiles, int words) {
  return slab_bytes(l.units, tiles, words);
}

// Bytes of q (or v) of one block of 16 pixels and a window group as operands of `operand_bytes` (2
// or 4) each ...
constexpr std::size_t group_operand_bytes(const ChannelLayout& l, int operand_bytes) {
  return static_cast<std::size_t>(l.group_units) * 128 * operand_bytes;
}
// ... and in memory. In the narrow network with 16 bits without the padding: of the last unit only
// the half that holds channels. Behind the groups of q there is room for the references of the
// softmaxes of windows of 8 and 16, a word for each row (kernels/gmsa.cuh). v has that room, too,
// unused, so that a block of either begins at the same multiple of 2048 bytes.
constexpr bool is_compact(const ChannelLayout& l, int operand_bytes) {
  return l.channels == 60 && operand_bytes == 2;
}
constexpr std::size_t group_bytes(const ChannelLayout& l, int operand_bytes) {
  return group_operand_bytes(l, operand_bytes) - (is_compact(l, operand_bytes) ? 128 : 0);
}
constexpr int kReferenceBytes = 16 * 4;  // of a group
constexpr std::size_t block_bytes(const ChannelLayout& l, int operand_bytes) {
  return kWindowGroups * group_bytes(l, operand_bytes) +
         (is_compact(l, operand_bytes) ? (kWindowGroups - 1) * kReferenceBytes : 0);
}
constexpr std::size_t references_at(int group) {  // in a block of q
  return kWindowGroups * group_bytes(layout_of(60), 2) +
         static_cast<std::size_t>(group - 1) * kReferenceBytes;
}

// A picture tile in shared memory with its ring of one pixel: WX x WY blocks. The row length is 4
// modulo 8 pixels, so that the two picture rows of an ldmatrix fall into different banks.
constexpr int tile_row_pixels(int blocks_x) {
  return ((4 * blocks_x + 2 + 3) / 8) * 8 + 4;
}
constexpr int tile_pixels(int blocks_x, int blocks_y) {
  return (4 * blocks_y + 1) * tile_row_pixels(blocks_x) + 4 * blocks_x + 2;
}
// One plane's bytes a pixel: an odd number of 16 bytes for 16-bit operands, 32 modulo 64 for
// others.
constexpr int tile_pitch(const ChannelLayout& l, int plane_bytes) {
  const int bytes = 8 * l.units * plane_bytes;
  if (plane_bytes == 2) return bytes / 16 % 2 == 1 ? bytes : bytes + 16;
  return bytes % 64 == 32 ? bytes : (bytes + 32);
}

// One plane of a tile; a tile has operand_planes() of them.
constexpr int tile_plane_bytes(const ChannelLayout& l, int blocks_x, int blocks_y,
                               int plane_bytes) {
  return (tile_pixels(blocks_x, blocks_y) * tile_pitch(l, plane_bytes) + 127) / 128 * 128;
}

// Slabs of the Hopper path: core matrices of 8 columns x 8 k, [k unit][column tile]; an odd unit is
// followed by one of zeros. 16 bits.
constexpr int core_slab_bytes(int units, int tiles) {
  return (units + 1) / 2 * 2 * tiles * 128;
}
// The LFEs in 16 bits have biases as products, too: each is the sum of two weights for which
// operands have kBiasOne; kBiasOnes are two of those operands.
constexpr float kBiasOne = 64;
template <bool F16>
constexpr std::uint32_t kBiasOnes = F16 ? 0x54005400U : 0x42804280U;
constexpr ChannelLayout kHopperLayout = layout_of(180);
constexpr int kHopperConv0Bytes = core_slab_bytes(kHopperLayout.units, kHopperLayout.hidden_tiles);
constexpr int kHopperConv1Bytes = core_slab_bytes(kHopperLayout.hidden_tiles, kHopperLayout.units);
constexpr int kHopperProjectBytes = core_slab_bytes(kHopperLayout.units, kHopperLayout.group_units);
constexpr int kHopperStageBytes = kHopperConv1Bytes;
// The LFE's tile of 16 x 8 or 16 x 4 pixels, with a ring of two: whole pixels, as the stream of
// FP16 has them. conv0 reads each unit of 8 channels where its tap finds it. With five taps of 36
// channels two units have a tap for either half: in these pairs of units both taps are read.
constexpr int kHopperTileRow = 16 + 4;
constexpr int hopper_tile_rows(int tile_y) {
  return 4 * tile_y + 4;
}
constexpr int kHopperTilePitch = tile_pitch(kHopperLayout, 2);
constexpr int hopper_tile_bytes(int tile_y) {
  return kHopperTileRow * hopper_tile_rows(tile_y) * kHopperTilePitch;
}
constexpr int kHopperTileBytes = hopper_tile_bytes(2);
static_assert(kHopperTilePitch == 16 * kHopperLayout.units && kHopperTileRow % 8 == 4);
constexpr int kHopperUnitPairs = (kHopperLayout.units + 1) / 2;
constexpr int kHopperMixedPairs = 2;
constexpr int hopper_mixed_pair(int i) {
  return i == 0 ? 2 : 6;
}
template <typename Taps>
constexpr bool hopper_taps_fit(const Taps& chunk_y, const Taps& chunk_x) {
  for (int unit = 0; unit < kHopperLayout.units; ++unit) {
    const int low = 2 * unit, high = low + 1;
    const bool mixed = chunk_y[low] != chunk_y[high] || chunk_x[low] != chunk_x[high];
    if (mixed && unit / 2 != hopper_mixed_pair(0) && unit / 2 != hopper_mixed_pair(1)) return false;
  }
  return true;
}
// project_out, in slabs of 64 columns. In 16 bits all of them stay in shared memory, beside q and v
// of a window of 16 and those of windows of 4 or 8 in its blocks, or what rolled windows of 4 give.
constexpr int kHopperOutTiles = 8, kHopperOutSlabs = 3;
constexpr int kHopperOutBytes =
    core_slab_bytes(kWindowGroups * kHopperLayout.group_units, kHopperOutTiles);
constexpr int hopper_gmsa_shared_bytes(bool shifted) {
  return kHopperOutSlabs * kHopperOutBytes +
         (shifted ? 3 : 4) * 16 * static_cast<int>(group_bytes(kHopperLayout, 2));
}
static_assert(kHopperOutSlabs * kHopperOutTiles >= kHopperLayout.units);
constexpr int kHopperStages = 4;
// Biases in shared memory, of operands of 32 bits: of conv1, of q and v, of the hidden groups.
constexpr int kWideBias1 = 0, kWideBiasProject = 8 * kHopperLayout.units;
constexpr int kWideBias0 = kWideBiasProject + 2 * kWindowGroups * kHopperLayout.group_units * 8;
constexpr int hopper_shared_bytes() {
  return kHopperTileBytes + kHopperStages * kHopperStageBytes;
}
static_assert(kHopperConv0Bytes <= kHopperStageBytes && kHopperProjectBytes <= kHopperStageBytes);
static_assert(kHopperTileBytes % 128 == 0);

// The narrow LFE on Hopper. Its tile has a ring of two pixels and is the stream as it is: conv0
// reads each unit of 8 channels where its tap finds it, a unit whose two chunks have different taps
// twice, with zeros among the weights. All weights stay in shared memory: of conv0 in a slab for
// each hidden group, of conv1 in one, of q and v in one each. For the rest see layout_narrow.h.
constexpr ChannelLayout kNarrowLayout = layout_of(60);
constexpr int kNarrowReads = 10;  // units that conv0 reads
struct NarrowRead {
  int chunk = 0;                 // one whose tap it has
  bool low = true, high = true;  // which chunks of the unit it is for
};
// The `read`th of them, in order of units; false if there are not so many.
template <typename Taps>
constexpr bool narrow_read(const Taps& chunk_y, const Taps& chunk_x, int read, NarrowRead& found) {
  for (int unit = 0; unit < kNarrowLayout.units; ++unit) {
    const int low = 2 * unit, high = low + 1;
    const bool both = chunk_y[low] == chunk_y[high] && chunk_x[low] == chunk_x[high];
    if (read == 0) return found = {low, true, both}, true;
    if (!both && read == 1) return found = {high, false, true}, true;
    read -= both ? 1 : 2;
  }
  return false;
}
constexpr int kNarrowProjectTiles = kWindowGroups * kNarrowLayout.group_units;
constexpr int kNarrowConv0Bytes = core_slab_bytes(kNarrowReads, kNarrowLayout.hidden_tiles);
constexpr int kNarrowProjectBytes = core_slab_bytes(kNarrowLayout.units, kNarrowProjectTiles);
constexpr int narrow_conv_bytes(int groups) {
  return groups * kNarrowConv0Bytes +
         core_slab_bytes(groups * kNarrowLayout.hidden_tiles, kNarrowLayout.units);
}
constexpr int narrow_weight_bytes(int groups, bool has_q) {
  return narrow_conv_bytes(groups) + (has_q ? 2 : 1) * kNarrowProjectBytes;
}
// Its project_out, one slab.
constexpr int kNarrowOutBytes =
    core_slab_bytes(kWindowGroups * kNarrowLayout.group_units, kNarrowLayout.out_tiles);

// The Hopper path of int8 and fp8: bytes, in core matrices of 8 columns x 16 k. What the LFE reads
// of the stream is an image of integers of its own, with a ring of two pixels of zeros around it:
// for each row six planes, [plane][x][32 bytes]. The 36 channels of a plane's tap are 9 chunks of
// 4; eight of them are that plane, and the ninths of all taps are the first 20 bytes of the last
// plane.
constexpr int kInt8Warpgroups = 4;  // with a tile of 4 x 1 blocks each, one below the other
constexpr int kInt8Taps = 5, kInt8TapChunks = 9;
constexpr int kInt8Planes = kInt8Taps + 1, kInt8PlaneBytes = 32;  // of a pixel
constexpr int kInt8Ring = 2;
constexpr int int8_chunk_plane(int chunk) {
  return chunk % kInt8TapChunks == kInt8TapChunks - 1 ? kInt8Taps : chunk / kInt8TapChunks;
}
constexpr int int8_chunk_byte(int chunk) {  // in the pixel's 32
  return 4 * (chunk % kInt8TapChunks == kInt8TapChunks - 1 ? chunk / kInt8TapChunks
                                                           : chunk % kInt8TapChunks);
}
constexpr int kInt8Units = 12;  // of 16 k: of the stream, of what project_inp and project_out take
constexpr int kInt8HiddenGroups = 5;
constexpr int kInt8HiddenTiles = 10;  // an instruction's columns are an even number of tiles
constexpr int kInt8HiddenUnits = 24;
constexpr int kInt8Tiles = 8;  // in a slab of all others
constexpr int kInt8OutSlabs = 3;
constexpr int kInt8Conv0Bytes = kInt8Units * kInt8HiddenTiles * 128;
constexpr int kInt8SlabBytes = kInt8Units * kInt8Tiles * 128;  // of conv1: half of k
constexpr int kInt8Stages = 6;
// A warpgroup's tile: the planes of 18 x 6 pixels, each displaced by its tap; the last plane as it
// is, 20 x 8 pixels; the same displaced, so that it is a plane like the others. When conv0 is done
// the residual of 16 x 4 pixels comes where the first two were. Rows are 16 bytes off a multiple of
// 32, so that the two picture rows of an ldmatrix fall into different banks.
constexpr int kInt8TileWidth = 18, kInt8TileHeight = 6;
constexpr int kInt8TileRow = kInt8TileWidth * kInt8PlaneBytes + 16;
constexpr int kInt8TilePlane = kInt8TileHeight * kInt8TileRow;
constexpr int kInt8RestRow = (kInt8TileWidth + 2) * kInt8PlaneBytes;
constexpr int kInt8RestAt = kInt8Taps * kInt8TilePlane;
constexpr int kInt8ResidualRow = 16 * 2 * 8 * kHopperLayout.units;
constexpr int kInt8LastPlaneAt = 4 * kInt8ResidualRow;
constexpr int kInt8TileBytes = (kInt8LastPlaneAt + kInt8TilePlane + 127) / 128 * 128;
static_assert(kInt8RestAt + (kInt8TileHeight + 2) * kInt8RestRow <= kInt8LastPlaneAt);
// Scales and biases: for two columns of a lane both scales, then both biases; tiles of the hidden
// groups, of conv1, of q (if any) and v.
constexpr int kInt8Conv1Columns = kInt8HiddenGroups * kInt8HiddenTiles;
constexpr int kInt8ProjectColumns = kInt8Conv1Columns + kInt8OutSlabs * kInt8Tiles;
constexpr int kInt8Columns = kInt8ProjectColumns + 2 * kWindowGroups * kInt8Tiles;
constexpr int kInt8ColumnBytes = 64;  // of a tile
constexpr int int8_lfe_shared_bytes() {
  return kInt8Warpgroups * kInt8TileBytes + kInt8Stages * kInt8Conv0Bytes +
         kInt8Columns * kInt8ColumnBytes;
}
// q, or v, of a block and a window group as bytes, where attention is in 8 bits.
constexpr int kInt8GroupBytes = 16 * 8 * kInt8Tiles;
// The integers of a warp's block on their way out: 4 rows of [plane][4 pixels][32 bytes].
constexpr int kInt8OutRow = kInt8Planes * 4 * kInt8PlaneBytes + 16;
constexpr int int8_gmsa_shared_bytes(bool int8_attention = false) {
  const int group =
      int8_attention ? kInt8GroupBytes : static_cast<int>(group_bytes(kHopperLayout, 2));
  return kInt8OutSlabs * (kInt8SlabBytes + kInt8Tiles * kInt8ColumnBytes) + 2 * 16 * group;
}
static_assert(8 * 4 * kInt8OutRow <= 2 * 16 * kInt8GroupBytes);
// Where the columns of two neighbouring accumulator tiles come to lie as 16 k of the next product:
// the column at byte `k` of 16.
constexpr int int8_column(int k) {
  return k / 16 * 16 + k % 4 / 2 * 8 + k % 16 / 4 * 2 + k % 2;
}
constexpr std::size_t int8_image_bytes(int width, int height, int batch) {
  return static_cast<std::size_t>(width + 2 * kInt8Ring) *
         static_cast<std::size_t>(height + 2 * kInt8Ring) * static_cast<std::size_t>(batch) *
         kInt8Planes * kInt8PlaneBytes;
}

// The head on tensor cores, in fp32's operands: slabs of 64 columns.
constexpr int kHeadUnits = 4;  // of the 27 numbers that a pixel's convolution takes
constexpr int kHeadTiles = 8;
constexpr int kHeadSlabBytes = slab_bytes(kHeadUnits, kHeadTiles, 2);
constexpr int head_slabs(const ChannelLayout& l) {
  return (l.units + kHeadTiles - 1) / kHeadTiles;
}

constexpr int kTailStages = 2;
// The skip in the tail: the head and the last convolution are one of 5 x 5 from 3 colours, in
// fp32's operands. 16 k are four pixels, one for each lane t, with four numbers, of which the last
// is 1: in each step four of a row, then the last ones of all rows. There are nine kinds of pixels,
// by which of the last convolution's taps are outside of the grid: in the first row (0), the last
// (2) or another (1), and the same for columns.
constexpr int kSkipSide = 5, kSkipSteps = kSkipSide + 2, kSkipKinds = 9;
struct SkipPixel {
  int y, x;
  bool twice = false;  // a lane had it before
};
constexpr SkipPixel skip_pixel(int step, int t) {
  if (step < kSkipSide) return {step, t};
  if (step == kSkipSide) return {t, kSkipSide - 1};
  return {kSkipSide - 1, kSkipSide - 1, t > 0};
}
constexpr int skip_kind(int row, int column) {
  return 3 * row + column;
}
constexpr int skip_slab_bytes(int tiles) {
  return slab_bytes(2 * kSkipSteps, tiles, 2);
}
constexpr int kSkipBias = kSkipSide * kSkipSide / 2;  // the pixel with whose 1 the bias goes
// The picture around a tile, 16 bytes a pixel, and zeros behind it.
constexpr int skip_patch_width() {
  return 4 * 4 + kSkipSide - 1;
}
constexpr int skip_patch_rows(int tile_y) {
  return 4 * tile_y + kSkipSide - 1;
}
constexpr int kSkipZeros = (kSkipSide - 1) * skip_patch_width() + kSkipSide;
constexpr int skip_patch_bytes(int tile_y) {
  return (skip_patch_width() * skip_patch_rows(tile_y) + kSkipZeros) * 16;
}
constexpr int gmsa_stages(const ChannelLayout& l) {
  return l.out_slabs > 1 ? 2 : 0;
}
constexpr int gmsa_window_bytes(const ChannelLayout& l, int bytes) {  // q and v of a window of 16
  return 2 * 16 * static_cast<int>(group_operand_bytes(l, bytes));
}
// Bytes of shared memory that kernels hold beside what a launch asks for, at most: allow_shared()
// of kernels/launch.cuh compares them with what was compiled. The narrow attention of 16 bits keeps
// what windows of 4 give, and has bytes to spare for what compilers add on other architectures.
constexpr int kStaticShared = 640, kSpareShared = 128;
constexpr int gmsa_static_shared(const ChannelLayout& l, int bytes) {
  return is_compact(l, bytes) ? 8 * static_cast<int>(group_operand_bytes(l, 2)) + kSpareShared
                              : kStaticShared;
}
// The attention of the narrow network that walks over windows of 16: weights, and q and v of all
// groups (kernels/gmsa_narrow.cuh).
constexpr int kNarrowThreads = 256;
constexpr int narrow_gmsa_shared_bytes(bool hopper) {
  return (hopper ? kNarrowOutBytes : out_slab_bytes(layout_of(60), 1)) +
         kWindowGroups * (gmsa_window_bytes(layout_of(60), 2) + 16 * kReferenceBytes);
}

}  // namespace elan::cuda
