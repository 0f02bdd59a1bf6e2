// The weights as the kernels read them: computed once on the host when a model is loaded.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cuda/layout.h"
#include "cuda/plan.h"
#include "elan/precision.h"
#include "model/network.h"

namespace elan::cuda {

// Throws Error (usage) for a precision that these kernels do not compute in.
Operand operand_of(Precision precision);

// Numbers in the formats of the tensor cores, rounded to nearest (even; away for tf32, as the
// hardware's own conversion does).
std::uint16_t to_half(float v);
std::uint8_t to_e4m3(float v);  // within -448..448
float from_half(std::uint16_t h);

// A stream channel of one pixel of a stream of so many.
float stream_number(const void* stream, StreamFormat format, int units, std::size_t pixels,
                    std::size_t pixel, int channel);
std::uint16_t to_bf16(float v);
std::uint32_t to_tf32_bits(float v);

// Which channel lies at each place of the stream (-1: none), sorted by the tap of the first LFE's
// first shift, every tap beginning at a multiple of 4.
std::vector<int> stream_order(const Network& net);

// Channels of a hidden layer, in groups of one tap and at most `group` channels (-1 fills up).
struct HiddenOrder {
  std::vector<int> channels;  // groups * group entries
  std::vector<int> taps;      // of each group, 3 * ky + kx
};
HiddenOrder hidden_order(std::span<const std::uint8_t> taps, int group);

// A power of two that brings the largest magnitude into (128, 256], where FP16 is at its best.
float weight_scale(std::span<const float> weights);

// Writes units [unit, unit + units) x tiles [tile, tile + tiles) of the matrix value(k, column).
using MatrixFn = std::function<float(int k, int column)>;
void pack_slab(std::span<std::byte> slab, Operand operand, int unit, int units, int tile, int tiles,
               const MatrixFn& value);

// The transposed matrix as left operands of 16 rows, in FP16 with one term or, for fp32, two: for
// every two units of k, for every two tiles of columns, for each term, the four words of a lane; of
// an odd last unit two words.
void pack_rows(std::span<std::byte> slab, Operand operand, int units, int tiles,
               const MatrixFn& value);

// The same matrix as core matrices of the Hopper path; operands of 16 bits.
void pack_core_slab(std::span<std::byte> slab, Operand operand, int units, int tile, int tiles,
                    const MatrixFn& value);

// Offsets are into PackedNetwork::data and multiples of 256.
struct PackedLfe {
  std::size_t weights = 0, bias0 = 0, bias1 = 0, bias_project = 0;
  float unscale0 = 1, unscale1 = 1, unscale_project = 1;
  std::size_t scale0 = 0, scale1 = 0, scale_project = 0;  // 8 bits: one for each column instead
  Rounding input, hidden, projected;
  std::size_t columns = 0;  // 8 bits on Hopper: all scales and biases
  bool int8_attention = false;
  int groups = 0;
  std::array<signed char, kMaxHiddenGroups> hidden_y{}, hidden_x{};
  std::array<signed char, kMaxChunks> chunk_y{}, chunk_x{};
  bool has_q = true;
};

// project_out, or the last convolution. Of project_out in 60 channels on Hopper there are two slabs
// one behind the other: core matrices, kNarrowOutBytes, and the portable one.
struct PackedOut {
  std::size_t weights = 0, bias = 0;
  float unscale = 1;
  std::size_t scale = 0;  // 8 bits: one for each column instead
  Rounding input;
  std::size_t columns = 0;  // 8 bits on Hopper: all scales and biases
  bool int8_attention = false;
  std::array<float, kWindowGroups> power{}, value{};  // see GmsaArgs
};

struct PackedSkip {  // the skip in the tail (kernels/skip.cuh): slabs of all kinds
  std::size_t weights = 0;
  float scale = 1;
};

struct PackedPair {
  PackedLfe lfe;
  PackedOut out;
};

struct PackedNetwork {
  std::vector<std::byte> data;
  std::vector<int> order;  // stream_order()
  std::size_t head_weights = 0, head_bias = 0;
  std::size_t head_slabs = 0, head_column_bias = 0;  // the same for tensor cores
  float head_unscale = 1;
  std::vector<std::vector<PackedPair>> body;  // [elab][pair]
  PackedOut tail;
  PackedSkip skip;        // if the tail has it
  int hidden_groups = 0;  // the most of any LFE
};

// The most hidden groups of any LFE; known before packing, for the plan.
int most_hidden_groups(const Network& net);

// Throws Error (model) when these kernels cannot run the network: channels other than 60 or 180,
// windows other than 4, 8, 16, masks that are not one-hot or do not agree between blocks.
void check_network(const Network& net);
// Whether a stream of this order has conv0's taps where the integers of Hopper's 8-bit kernels do.
bool int8_planes_fit(const ShiftConv& conv0, std::span<const int> order);
// Whether the 8-bit kernels of the Hopper path can run all of an ELAB's pairs.
bool byte_layout_fits(const Elab& elab, Operand operand, std::span<const int> order);
// Whether the narrow LFE of the Hopper path has room for what an LFE's conv0 reads.
bool narrow_layout_fits(const Lfe& lfe, const std::vector<int>& order);
// Whether the LFE of 180 channels in 16 bits of that path can read what an LFE's conv0 reads.
bool hopper_layout_fits(const Lfe& lfe, const std::vector<int>& order);
// Whether operands of 16 bits hold weights as they are, and biases as rows of weights: those of the
// LFE and of project_inp, which Hopper's LFEs want; those of project_out, which its attention of
// 180 channels wants and that of 60 everywhere.
bool lfe_numbers_fit(const Lfe& lfe, const Gmsa& gmsa, Operand operand);
bool out_numbers_fit(const Gmsa& gmsa, Operand operand);
// Each ELAB as its kind wants it; `shape` is of this network.
PackedNetwork pack_network(const Network& net, const NetworkShape& shape);

// One module alone, for a runtime that launches the kernels one by one. `order` is its stream's;
// the LFE takes project_inp from `gmsa`. Offsets are into `data`.
template <typename Packed>
struct PackedModule {
  std::vector<std::byte> data;
  Packed at;
};
struct ModuleLayout {
  int channels = 0;
  Operand operand = Operand::fp16;
  bool hopper = false;  // core matrices, as Hopper's kernels take them
};
PackedModule<PackedLfe> pack_lfe_alone(const Lfe& lfe, const Gmsa& gmsa,
                                       const std::vector<int>& order, const ModuleLayout& layout);
PackedModule<PackedOut> pack_out_alone(const Gmsa& gmsa, const std::vector<int>& order,
                                       const ModuleLayout& layout);

}  // namespace elan::cuda
