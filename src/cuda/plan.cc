#include "cuda/plan.h"

#include <algorithm>
#include <string>

#include "cuda/layout_narrow.h"
#include "cuda/layout_wide.h"
#include "elan/error.h"

namespace elan::cuda {
namespace {

constexpr int kTilesAcross = 4;  // blocks of 4 x 4 pixels in a tile's row

int tile_bytes(const ChannelLayout& l, Operand o, int tile_y) {
  return operand_planes(o) *
         tile_plane_bytes(l, kTilesAcross, tile_y, operand_bytes(o) / operand_planes(o));
}

int ring_bytes(const ChannelLayout& l, Operand o, int groups, bool has_q, int stages) {
  const int words = weight_words(o);
  const int conv = conv_slab_bytes(l, words), project = project_slab_bytes(l, words);
  if (stages > 0) return stages * std::max(conv, project);
  return groups * (l.conv0_parts + l.conv1_parts) * conv +
         project_slabs(l) * (has_q ? 2 : 1) * project;
}

[[noreturn]] void too_little(const char* what, int found) {
  throw Error(ErrorKind::usage,
              std::string("cuda: ") + what +
                  " in this precision: expected a GPU with more shared memory, found " +
                  std::to_string(found) + " bytes a thread block; try fp16 or bf16");
}

LfeShape plan_lfe(const NetworkShape& net, const PairKind& kind, const DeviceLimits& device,
                  const Grid& grid, bool has_q) {
  const ChannelLayout l = layout_of(net.channels);
  const Operand o = kind.operand;
  const int blocks = grid.width / 4 * (grid.height / 4) * grid.batch;
  constexpr int kTileBlocks = 8;
  if (uses_wide_kernels(kind)) {
    int stages = kWideMostStages;
    while (wide_shared_bytes(net.hidden_groups, stages) + kStaticShared > device.shared_per_block) {
      --stages;
    }
    return {2, stages, std::min(blocks / kTileBlocks, device.multiprocessors),
            wide_shared_bytes(net.hidden_groups, stages)};
  }
  if (uses_8_bit_kernels(kind)) {
    return {kInt8Warpgroups, kInt8Stages,
            std::min(blocks / (4 * kInt8Warpgroups), device.multiprocessors),
            int8_lfe_shared_bytes()};
  }
  if (kind.hopper && net.channels == 60) {
    // The largest tile that leaves no multiprocessor idle, or the smallest.
    LfeShape s;
    for (const int tile_y : {1, 2, 4}) {
      const int tiles = blocks / (kTilesAcross * tile_y);
      const int bytes =
          narrow_shared_bytes(net.hidden_groups, has_q, tile_y, kind.stream != StreamFormat::fp32);
      if (tile_y > 1 &&
          (tiles < device.multiprocessors || bytes + kStaticShared > device.shared_per_block)) {
        break;
      }
      const int resident =
          std::clamp(device.shared_per_multiprocessor / (bytes + kStaticShared + 1024), 1,
                     tile_y == 1 ? 4 : 2);
      s = {tile_y, 0, std::min(tiles, device.multiprocessors * resident), bytes};
    }
    return s;
  }
  if (kind.hopper) {
    // One warpgroup a multiprocessor where two would leave others idle; threads that load tiles are
    // always two.
    const int tile_y =
        kind.stream != StreamFormat::fp32 && blocks / kTilesAcross <= device.multiprocessors ? 1
                                                                                             : 2;
    return {tile_y, kHopperStages,
            std::min(blocks / (kTilesAcross * tile_y), device.multiprocessors),
            hopper_shared_bytes()};
  }
  // The larger tile reads less of its surroundings, unless it leaves multiprocessors idle.
  const bool small = blocks / (kTilesAcross * 2) < device.multiprocessors;
  const auto try_shape = [&](int tile_y, int stages, LfeShape& s) {
    s.tile_y = tile_y;
    s.stages = stages;
    s.shared_bytes = tile_bytes(l, o, tile_y) + ring_bytes(l, o, net.hidden_groups, has_q, stages);
    if (s.shared_bytes + kStaticShared > device.shared_per_block) return false;
    // As many blocks as run at once; 1 KiB of shared memory a block is the system's.
    const int by_shared =
        device.shared_per_multiprocessor / (s.shared_bytes + kStaticShared + 1024);
    const int most = net.channels == 60 && operand_bytes(o) == 2 ? 2 : 1;
    const int resident = std::clamp(by_shared, 1, tile_y == 1 ? 2 * most : most);
    s.blocks = std::min(blocks / (kTilesAcross * tile_y), device.multiprocessors * resident);
    return true;
  };
  LfeShape s;
  // Two blocks of pixels a warp where that leaves no multiprocessor idle.
  if (net.channels == 60 && kind.stream != StreamFormat::fp32 &&
      blocks / 16 >= device.multiprocessors && try_shape(4, 0, s)) {
    return s;
  }
  for (const int tile_y : {small ? 1 : 2, small ? 2 : 1}) {
    if (l.conv0_parts == 1 && try_shape(tile_y, 0, s)) return s;
    for (const int stages : {3, 2}) {
      if (try_shape(tile_y, stages, s)) return s;
    }
  }
  too_little("the network", device.shared_per_block);
}

GmsaShape plan_gmsa(const NetworkShape& net, const PairKind& kind, const DeviceLimits& device,
                    const Grid& grid) {
  const ChannelLayout l = layout_of(net.channels);
  if (uses_wide_kernels(kind)) return {true, wide_gmsa_shared_bytes()};
  if (uses_8_bit_kernels(kind)) return {true, int8_gmsa_shared_bytes()};
  const int windows = static_cast<int>(grid.pixels() / 256);
  if (kind.hopper && net.channels == 180) {
    // Parts of windows only where each has a multiprocessor.
    const int parts = 4 * windows <= device.multiprocessors   ? 4
                      : 2 * windows <= device.multiprocessors ? 2
                                                              : 1;
    return {true, hopper_gmsa_shared_bytes(false),
            std::min(parts * windows, device.multiprocessors), 4 / parts};
  }
  const int ring = std::max(gmsa_stages(l), 1) * out_slab_bytes(l, weight_words(kind.operand));
  const int most = device.shared_per_block - gmsa_static_shared(l, operand_bytes(kind.operand));
  GmsaShape s{true, ring + gmsa_window_bytes(l, operand_bytes(kind.operand))};
  if (s.shared_bytes > most) s = {false, ring};
  if (s.shared_bytes > most) too_little("attention", device.shared_per_block);
  if (net.channels == 60 && operand_bytes(kind.operand) == 2 && windows >= device.multiprocessors &&
      2 * (narrow_gmsa_shared_bytes(kind.hopper) + 1024) <= device.shared_per_multiprocessor) {
    s.walkers = std::min(windows, 2 * device.multiprocessors);
  }
  return s;
}

// Where multiprocessors have more than one window, for two are on their way at a time.
int plan_whole_pairs(const NetworkShape& net, const PairKind& kind, const DeviceLimits& device,
                     const Grid& grid) {
  const bool able =
      net.channels == 60 && kind.hopper && kind.operand == Operand::fp16 &&
      kind.stream != StreamFormat::fp32 &&
      narrow_pair_shared_bytes(net.hidden_groups, true) + kStaticShared <= device.shared_per_block;
  const int windows = static_cast<int>(grid.pixels() / 256);
  return able && 2 * windows >= 3 * device.multiprocessors ? device.multiprocessors : 0;
}

// shared_bytes is 0 if it does not fit.
TailShape plan_tail(int channels, int scale, Operand operand, const DeviceLimits& device) {
  const ChannelLayout l = layout_of(channels);
  for (const int tile_y : {2, 1}) {
    const TailShape s{
        tile_y, kTailStages, 0,
        tile_bytes(l, operand, tile_y) +
            kTailStages * tail_slab_bytes(l, tail_tiles(scale), weight_words(operand))};
    if (s.shared_bytes + kStaticShared <= device.shared_per_block) return s;
  }
  return {};
}

// On a stream of FP16: the largest tile that leaves no multiprocessor idle, and all weights beside
// it if that runs twice on a multiprocessor.
TailShape plan_half_tail(const NetworkShape& net, const DeviceLimits& device, const Grid& grid) {
  const ChannelLayout l = layout_of(net.channels);
  const int slab = tail_slab_bytes(l, tail_tiles(net.scale), weight_words(net.tail));
  TailShape s;
  for (const int tile_y : {1, 2, 4}) {
    const int tiles = static_cast<int>(grid.pixels()) / (64 * tile_y);
    const int bytes = tile_bytes(l, Operand::fp16, tile_y) + skip_patch_bytes(tile_y);
    const auto resident = [&](int shared) {
      return std::min(device.shared_per_multiprocessor / (shared + kStaticShared + 1024), 2);
    };
    int stages = 0, shared = bytes + 9 * slab;
    if (resident(shared) < 2) {
      stages = kTailStages;
      shared = bytes + stages * slab;
    }
    if (shared + kStaticShared > device.shared_per_block) break;
    if (tile_y > 1 && (tiles < device.multiprocessors || (net.channels == 180 && tile_y > 2))) {
      break;
    }
    s = {tile_y, stages, std::min(tiles, device.multiprocessors * std::max(resident(shared), 1)),
         shared};
  }
  return s;
}

}  // namespace

int padded(int side) {
  return (side + 15) / 16 * 16;
}

std::vector<PairKind> NetworkShape::kinds() const {
  std::vector<PairKind> found;
  for (const PairKind& kind : body) {
    if (std::find(found.begin(), found.end(), kind) == found.end()) found.push_back(kind);
  }
  return found;
}

const PairPlan& Plan::of(const PairKind& kind) const {
  return *std::find_if(pairs.begin(), pairs.end(),
                       [&](const PairPlan& p) { return p.kind == kind; });
}

Operand choose_tail(int channels, int scale, Operand asked, const DeviceLimits& device) {
  const bool fits = plan_tail(channels, scale, Operand::fp32, device).shared_bytes != 0;
  return fits || operand_bytes(asked) == 4 ? Operand::fp32 : Operand::fp16;
}

std::size_t stream_bytes(int channels, const Grid& grid, const PairKind& kind) {
  return grid.pixels() *
         static_cast<std::size_t>(stream_pixel_bytes(layout_of(channels).units, kind.stream));
}

std::size_t attention_bytes(int channels, const Grid& grid, const PairKind& kind) {
  return grid.pixels() / 16 * block_bytes(layout_of(channels), operand_bytes(kind.operand));
}

Arena plan_arena(const NetworkShape& net, int width, int height, int batch) {
  const Grid grid{padded(width), padded(height), batch, false};
  std::size_t stream = 0, blocks = 0, integers = 0;
  bool in_place = true;
  for (const PairKind& kind : net.kinds()) {
    stream = std::max(stream, stream_bytes(net.channels, grid, kind));
    blocks = std::max(blocks, attention_bytes(net.channels, grid, kind));
    in_place = in_place && keeps_stream_in_place(kind);
    if (uses_8_bit_kernels(kind)) integers = int8_image_bytes(grid.width, grid.height, batch);
  }
  Arena a;
  const auto take = [&a](std::size_t bytes) {
    const std::size_t at = a.bytes;
    a.bytes += (bytes + 255) / 256 * 256;
    return at;
  };
  a.x = take(stream);
  a.y = take(in_place ? 0 : stream);
  a.q = take(blocks);
  a.v = take(blocks);
  a.integers = take(integers);
  return a;
}

Plan make_plan(const NetworkShape& net, const DeviceLimits& device, int width, int height,
               int batch) {
  Plan p;
  p.grid = {padded(width), padded(height), batch, false};
  // Measured on an H200. Where the blocks of two kernels have multiprocessors of their own, or
  // there are several for each, that gains; between, blocks that wait crowd on some of them, and
  // ELAN-light takes 25 % longer at 128x128. In fp32 the wide network loses 4 % on Hopper; its
  // portable kernels, not timed so, are left as they are.
  const auto tiles = static_cast<int>(p.grid.pixels() / 128);  // an LFE has at most two blocks each
  const bool gains = 3 * tiles <= device.multiprocessors || tiles >= 2 * device.multiprocessors;
  const bool overlap = device.overlap && gains;
  p.grid.overlap = overlap;
  for (const PairKind& kind : net.kinds()) {
    const bool able = net.channels == 60 || (kind.hopper && kind.operand != Operand::fp32);
    p.pairs.push_back({kind, plan_lfe(net, kind, device, p.grid, true),
                       plan_lfe(net, kind, device, p.grid, false),
                       plan_gmsa(net, kind, device, p.grid),
                       plan_whole_pairs(net, kind, device, p.grid), overlap && able});
    p.grid.overlap = p.grid.overlap && p.pairs.back().overlap;  // of what is no pair's
  }
  p.tail = net.skip_in_tail() ? plan_half_tail(net, device, p.grid)
                              : plan_tail(net.channels, net.scale, net.tail, device);
  if (p.tail.shared_bytes == 0) too_little("the last convolution", device.shared_per_block);
  p.arena = plan_arena(net, width, height, batch);
  return p;
}

}  // namespace elan::cuda
