// What these kernels can run: of networks at all, and of their ELABs on the Hopper path.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "cuda/layout_narrow.h"
#include "cuda/packer.h"
#include "elan/error.h"

namespace elan::cuda {
namespace {

[[noreturn]] void unsupported(const std::string& what) {
  throw Error(ErrorKind::model, "model: the CUDA backend expected " + what);
}

// FP16 has good numbers for these weights as they are, the largest above 2^-11, and for biases as
// rows of them: what is lost of smaller ones is little beside the largest's own rounding.
bool halves_hold(std::span<const float> weights, std::span<const float> biases) {
  const float scale = weight_scale(weights);
  return scale >= std::ldexp(1.F, 8 - 13) && scale <= std::ldexp(1.F, 8 + 10) &&
         std::all_of(biases.begin(), biases.end(),
                     [](float bias) { return std::abs(bias) <= std::ldexp(1.F, 15); });
}

bool halves_hold(const Linear& matrix) {
  return halves_hold(matrix.weight, matrix.bias);
}

}  // namespace

std::vector<int> stream_order(const Network& net) {
  const auto& taps = net.body.front().lfe.front().conv0.taps;
  const int stride = 8 * layout_of(net.arch.channels).units;
  std::vector<int> seen, order;
  for (const int tap : taps) {
    if (std::find(seen.begin(), seen.end(), tap) == seen.end()) seen.push_back(tap);
  }
  for (const int tap : seen) {
    for (int i = 0; i < net.arch.channels; ++i) {
      if (taps[i] == tap) order.push_back(i);
    }
    while (order.size() % 4 != 0) order.push_back(-1);
  }
  if (static_cast<int>(order.size()) > stride) unsupported("groups of shifts that fit the layout");
  order.resize(stride, -1);
  return order;
}

bool narrow_layout_fits(const Lfe& lfe, const std::vector<int>& order) {
  const Context context{kNarrowLayout, Operand::fp16, order, true};
  const PackedLfe p = packed_taps(context, lfe, Gmsa{}, {});
  NarrowRead read;
  if (narrow_read(p.chunk_y, p.chunk_x, kNarrowReads, read)) return false;
  // There is room for biases.
  const std::size_t groups =
      hidden_order(lfe.conv1.taps, 8 * kNarrowLayout.hidden_tiles).taps.size();
  return narrow_read(p.chunk_y, p.chunk_x, kNarrowBiasRead, read) && !read.high &&
         groups % 2 == 1 && order[kNarrowPadding] < 0;
}

bool lfe_numbers_fit(const Lfe& lfe, const Gmsa& gmsa, Operand operand) {
  if (operand == Operand::bf16) return true;
  Gmsa folded = gmsa;
  folded.project_inp = gmsa.folded_project_inp();
  return halves_hold(lfe.conv0.weight, lfe.conv0.bias) &&
         halves_hold(lfe.conv1.weight, lfe.conv1.bias) && halves_hold(folded.projection_v()) &&
         (!gmsa.computes_attention || halves_hold(folded.projection_q()));
}

bool out_numbers_fit(const Gmsa& gmsa, Operand operand) {
  return operand == Operand::bf16 || halves_hold(gmsa.project_out);
}

bool hopper_layout_fits(const Lfe& lfe, const std::vector<int>& order) {
  const PackedLfe p = packed_taps({kHopperLayout, Operand::fp16, order, true}, lfe, Gmsa{}, {});
  return hopper_taps_fit(p.chunk_y, p.chunk_x);
}

int most_hidden_groups(const Network& net) {
  std::size_t most = 0;
  for (const Elab& elab : net.body) {
    for (const Lfe& lfe : elab.lfe) {
      const int width = 8 * layout_of(net.arch.channels).hidden_tiles;
      most = std::max(most, hidden_order(lfe.conv1.taps, width).taps.size());
    }
  }
  return static_cast<int>(most);
}

void check_network(const Network& net) {
  if (!has_layout(net.arch.channels)) {
    unsupported("60 or 180 channels, found " + std::to_string(net.arch.channels));
  }
  if (net.arch.windows != std::array<int, 3>{4, 8, 16})
    unsupported("windows of 4, 8 and 16 pixels");
  if (net.arch.scale < 2 || net.arch.scale > 4) {
    unsupported("scale 2, 3 or 4, found " + std::to_string(net.arch.scale));
  }
  if (net.body.empty()) unsupported("at least one block");
  if (!net.one_hot_shifts()) unsupported("one-hot shift masks");
  if (most_hidden_groups(net) > kMaxHiddenGroups) {
    unsupported("hidden layers of at most " + std::to_string(kMaxHiddenGroups) + " groups");
  }
  const std::vector<int> order = stream_order(net);
  for (const Elab& elab : net.body) {
    for (const Lfe& lfe : elab.lfe) {
      for (std::size_t i = 0; i < order.size(); ++i) {
        const int first = order[i / 4 * 4];
        if (order[i] >= 0 && lfe.conv0.taps[order[i]] != lfe.conv0.taps[first]) {
          unsupported("the same groups of shifted channels in every block");
        }
      }
    }
  }
}

}  // namespace elan::cuda
