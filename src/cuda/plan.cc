#include "cuda/plan.h"

#include <algorithm>
#include <string>

#include "cuda/layout_wide.h"
#include "elan/error.h"

namespace elan::cuda {
namespace {

constexpr int kTilesAcross = 4;     // blocks of 4 x 4 pixels in a tile's row
constexpr int kStaticShared = 512;  // bytes a kernel holds beside what the launch asks for

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

LfeShape plan_lfe(const NetworkShape& net, const DeviceLimits& device, const Grid& grid,
                  bool has_q) {
  const ChannelLayout l = layout_of(net.channels);
  const int blocks = grid.width / 4 * (grid.height / 4) * grid.batch;
  constexpr int kTileBlocks = 8;
  if (net.hopper && operand_bytes(net.body) == 4) {
    int stages = kWideMostStages;
    while (wide_shared_bytes(net.hidden_groups, stages) + kStaticShared > device.shared_per_block) {
      --stages;
    }
    return {2, stages, std::min(blocks / kTileBlocks, device.multiprocessors),
            wide_shared_bytes(net.hidden_groups, stages)};
  }
  if (net.hopper) {
    return {2, kHopperStages, std::min(blocks / kTileBlocks, device.multiprocessors),
            hopper_shared_bytes()};
  }
  // The larger tile reads less of its surroundings, unless it leaves multiprocessors idle.
  const bool small = blocks / (kTilesAcross * 2) < device.multiprocessors;
  const auto try_shape = [&](int tile_y, int stages, LfeShape& s) {
    s.tile_y = tile_y;
    s.stages = stages;
    s.shared_bytes =
        tile_bytes(l, net.body, tile_y) + ring_bytes(l, net.body, net.hidden_groups, has_q, stages);
    if (s.shared_bytes + kStaticShared > device.shared_per_block) return false;
    // As many blocks as run at once; 1 KiB of shared memory a block is the system's.
    const int by_shared =
        device.shared_per_multiprocessor / (s.shared_bytes + kStaticShared + 1024);
    const int most = net.channels == 60 && operand_bytes(net.body) == 2 ? 2 : 1;
    const int resident = std::clamp(by_shared, 1, tile_y == 1 ? 2 * most : most);
    s.blocks = std::min(blocks / (kTilesAcross * tile_y), device.multiprocessors * resident);
    return true;
  };
  LfeShape s;
  // Two blocks of pixels a warp where that leaves no multiprocessor idle.
  if (net.channels == 60 && net.half_stream && blocks / 16 >= device.multiprocessors &&
      try_shape(4, 0, s)) {
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

GmsaShape plan_gmsa(const NetworkShape& net, const DeviceLimits& device) {
  const ChannelLayout l = layout_of(net.channels);
  if (net.hopper && operand_bytes(net.body) == 2) return {true, hopper_gmsa_shared_bytes()};
  const int ring = std::max(gmsa_stages(l), 1) * out_slab_bytes(l, weight_words(net.body));
  GmsaShape s{true, ring + gmsa_window_bytes(l, operand_bytes(net.body))};
  if (s.shared_bytes > device.shared_per_block) s = {false, ring};
  if (s.shared_bytes > device.shared_per_block) too_little("attention", device.shared_per_block);
  return s;
}

// shared_bytes is 0 if it does not fit.
TailShape plan_tail(int channels, int scale, Operand operand, const DeviceLimits& device) {
  const ChannelLayout l = layout_of(channels);
  for (const int tile_y : {2, 1}) {
    const TailShape s{
        tile_y, tile_bytes(l, operand, tile_y) +
                    kTailStages * tail_slab_bytes(l, tail_tiles(scale), weight_words(operand))};
    if (s.shared_bytes + kStaticShared <= device.shared_per_block) return s;
  }
  return {};
}

}  // namespace

int padded(int side) {
  return (side + 15) / 16 * 16;
}

Operand choose_tail(int channels, int scale, Operand body, const DeviceLimits& device) {
  const bool fits = plan_tail(channels, scale, Operand::fp32, device).shared_bytes != 0;
  return fits || operand_bytes(body) == 4 ? Operand::fp32 : Operand::fp16;
}

Arena plan_arena(const NetworkShape& net, int width, int height, int batch) {
  const ChannelLayout l = layout_of(net.channels);
  const Grid grid{padded(width), padded(height), batch, false};
  const std::size_t stream =
      grid.pixels() * 8 * static_cast<std::size_t>(l.units) * (net.half_stream ? 2 : sizeof(float));
  const std::size_t blocks = grid.pixels() / 16 * block_bytes(l, operand_bytes(net.body));
  Arena a;
  const auto take = [&a](std::size_t bytes) {
    const std::size_t at = a.bytes;
    a.bytes += (bytes + 255) / 256 * 256;
    return at;
  };
  a.x = take(stream);
  a.y = take(stream);
  a.q = take(blocks);
  a.v = take(blocks);
  return a;
}

Plan make_plan(const NetworkShape& net, const DeviceLimits& device, int width, int height,
               int batch) {
  Plan p;
  p.grid = {padded(width), padded(height), batch, false};
  // Measured on an H200: a gain of 4 % for the short kernels of the narrow network, 1 to 3 % for
  // the wide one on an FP16 stream, a loss of 4 % for the longer ones otherwise, and of more where
  // kernels do not fill the device.
  const std::size_t tiles = p.grid.pixels() / 128;
  const bool gains = net.channels == 60 || (net.hopper && net.half_stream);
  p.grid.overlap =
      device.overlap && gains && tiles >= 2 * static_cast<std::size_t>(device.multiprocessors);
  p.lfe = plan_lfe(net, device, p.grid, true);
  p.lfe_later = plan_lfe(net, device, p.grid, false);
  p.gmsa = plan_gmsa(net, device);
  p.tail = plan_tail(net.channels, net.scale, net.tail, device);
  if (p.tail.shared_bytes == 0) too_little("the last convolution", device.shared_per_block);
  p.arena = plan_arena(net, width, height, batch);
  return p;
}

}  // namespace elan::cuda
