#include "cuda/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "cuda/layout_narrow.h"
#include "cuda/layout_wide.h"
#include "elan/error.h"

namespace elan::cuda {
namespace {

constexpr DeviceLimits kH200{132, 232448, 233472};     // compute capability 9.0
constexpr DeviceLimits kA100{108, 166912, 167936};     // 8.0
constexpr DeviceLimits kRtx4090{128, 101376, 102400};  // 8.9, as 8.6 and 12.0

NetworkShape shape(int channels, int scale, Operand operand, Operand tail = Operand::fp32) {
  return {channels, scale, 5, {{operand}}, tail};
}

constexpr std::array kOperands{Operand::fp16, Operand::bf16, Operand::tf32, Operand::fp32};

TEST(CudaPlan, PadsToMultiplesOfSixteen) {
  EXPECT_EQ(padded(1), 16);
  EXPECT_EQ(padded(16), 16);
  EXPECT_EQ(padded(17), 32);
  const Plan p = make_plan(shape(60, 4, Operand::fp16), kH200, 206, 292, 3);
  EXPECT_EQ(p.grid.width, 208);
  EXPECT_EQ(p.grid.height, 304);
  EXPECT_EQ(p.grid.batch, 3);
}

TEST(CudaPlan, EveryShapeFitsItsDevice) {
  for (const DeviceLimits& device : {kH200, kA100}) {
    for (const int channels : {60, 180}) {
      for (const Operand operand : kOperands) {
        for (const int scale : {2, 3, 4}) {
          const Operand tail = choose_tail(channels, scale, operand, device);
          const Plan p = make_plan(shape(channels, scale, operand, tail), device, 100, 70, 1);
          for (const int bytes : {p.pairs[0].lfe.shared_bytes, p.pairs[0].lfe_later.shared_bytes,
                                  p.pairs[0].gmsa.shared_bytes, p.tail.shared_bytes}) {
            EXPECT_GT(bytes, 0);
            EXPECT_LE(bytes, device.shared_per_block);
          }
          EXPECT_GE(p.pairs[0].lfe.blocks, 1);
        }
      }
    }
  }
}

// Down to the last byte: kernels hold some beside what is asked for.
TEST(CudaPlan, WhatKernelsHoldFitsToo) {
  for (const int channels : {60, 180}) {
    for (const Operand operand : kOperands) {
      const int attention = gmsa_static_shared(layout_of(channels), operand_bytes(operand));
      int planned = 0, refused = 0;
      for (DeviceLimits device = kH200; device.shared_per_block > 20000;
           device.shared_per_block -= 64) {
        try {
          const Operand tail = choose_tail(channels, 4, operand, device);
          const Plan p = make_plan(shape(channels, 4, operand, tail), device, 100, 70, 1);
          const int most = device.shared_per_block;
          ASSERT_LE(p.pairs[0].lfe.shared_bytes + kStaticShared, most);
          ASSERT_LE(p.pairs[0].lfe_later.shared_bytes + kStaticShared, most);
          ASSERT_LE(p.pairs[0].gmsa.shared_bytes + attention, most);
          ASSERT_LE(p.tail.shared_bytes + kStaticShared, most);
          ++planned;
        } catch (const Error&) {
          ++refused;
        }
      }
      EXPECT_GT(planned, 0);
      EXPECT_GT(refused, 0);
    }
  }
}

TEST(CudaPlan, HalfPrecisionFitsSmallSharedMemory) {
  for (const int channels : {60, 180}) {
    const Operand tail = choose_tail(channels, 4, Operand::fp16, kRtx4090);
    const Plan p = make_plan(shape(channels, 4, Operand::fp16, tail), kRtx4090, 206, 292, 1);
    EXPECT_LE(p.pairs[0].lfe.shared_bytes + 256, kRtx4090.shared_per_block);
    EXPECT_LE(p.pairs[0].gmsa.shared_bytes, kRtx4090.shared_per_block);
    EXPECT_LE(p.tail.shared_bytes + 256, kRtx4090.shared_per_block);
  }
}

TEST(CudaPlan, NarrowAttentionWalksOverWindowsWhereThereAreEnough) {
  const auto walkers = [](const DeviceLimits& device, Operand operand, int width, int height) {
    return make_plan(shape(60, 4, operand, operand), device, width, height, 1)
        .pairs[0]
        .gmsa.walkers;
  };
  EXPECT_LE(2 * (narrow_gmsa_shared_bytes(true) + 1024), kH200.shared_per_multiprocessor);
  EXPECT_EQ(walkers(kH200, Operand::fp16, 1920, 1080), 264);  // two a multiprocessor
  EXPECT_EQ(walkers(kH200, Operand::bf16, 206, 292), 247);    // one a window
  EXPECT_EQ(walkers(kH200, Operand::fp16, 64, 64), 0);
  EXPECT_EQ(walkers(kH200, Operand::tf32, 1920, 1080), 0);
  EXPECT_EQ(walkers(kRtx4090, Operand::fp16, 1920, 1080), 0);
}

TEST(CudaPlan, SaysWhenSharedMemoryIsTooSmall) {
  try {
    make_plan(shape(180, 4, Operand::fp32), kRtx4090, 64, 64, 1);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(e.what()).find("101376"), std::string::npos) << e.what();
  }
}

TEST(CudaPlan, SmallPicturesTakeSmallTiles) {
  EXPECT_EQ(make_plan(shape(180, 4, Operand::fp16), kH200, 64, 64, 1).pairs[0].lfe.tile_y, 1);
  EXPECT_EQ(make_plan(shape(180, 4, Operand::fp16), kH200, 640, 640, 1).pairs[0].lfe.tile_y, 2);
}

TEST(CudaPlan, KernelsOverlapOnlyWhereThatGains) {
  DeviceLimits device = kH200;
  const auto overlap = [&](int channels, int side, PairKind kind) {
    NetworkShape net = shape(channels, 4, kind.operand);
    net.body[0] = kind;
    return make_plan(net, device, side, side, 1).grid.overlap;
  };
  const PairKind half{Operand::fp16, true, StreamFormat::fp16};
  EXPECT_FALSE(overlap(60, 512, half));
  device.overlap = true;
  for (const int side : {64, 512}) {
    EXPECT_TRUE(overlap(60, side, half));
    EXPECT_TRUE(overlap(60, side, {Operand::fp32}));
    EXPECT_TRUE(overlap(180, side, half));
    EXPECT_TRUE(overlap(180, side, {Operand::fp16, true, StreamFormat::split}));
    EXPECT_TRUE(overlap(180, side, {Operand::tf32, true}));
    EXPECT_FALSE(overlap(180, side, {Operand::fp32, true}));
    EXPECT_FALSE(overlap(180, side, {Operand::fp16}));
  }
  EXPECT_FALSE(overlap(60, 128, half));
}

TEST(CudaPlan, HopperTakesItsOwnTiles) {
  NetworkShape net = shape(180, 4, Operand::fp16);
  net.body[0].hopper = true;
  const Plan p = make_plan(net, kH200, 206, 292, 1);
  EXPECT_EQ(p.pairs[0].lfe.shared_bytes, hopper_shared_bytes());
  EXPECT_LE(p.pairs[0].lfe.shared_bytes + 256, kH200.shared_per_block);
  EXPECT_EQ(p.pairs[0].lfe.blocks, 132);
  EXPECT_EQ(make_plan(net, kH200, 16, 16, 1).pairs[0].lfe.blocks, 2);
  // Half as high where that gives more multiprocessors work, and where tiles are copied.
  const auto lfe = [&](int side) { return make_plan(net, kH200, side, side, 1).pairs[0].lfe; };
  net.body[0].stream = StreamFormat::fp16;
  EXPECT_EQ(lfe(80).tile_y, 1);
  EXPECT_EQ(lfe(80).blocks, 100);
  EXPECT_EQ(lfe(96).tile_y, 2);
  EXPECT_EQ(lfe(96).blocks, 72);
}

TEST(CudaPlan, HopperTakesAsManySlabsOfWideOperandsAsFit) {
  for (const Operand operand : {Operand::tf32, Operand::fp32}) {
    NetworkShape net = shape(180, 4, operand);
    net.body[0].hopper = true;
    const Plan p = make_plan(net, kH200, 206, 292, 1);
    EXPECT_EQ(p.pairs[0].lfe.stages, kWideMostStages);
    EXPECT_EQ(p.pairs[0].lfe.shared_bytes, wide_shared_bytes(net.hidden_groups, kWideMostStages));
    EXPECT_EQ(p.pairs[0].lfe.blocks, 132);
    EXPECT_EQ(make_plan(net, kH200, 16, 16, 1).pairs[0].lfe.blocks, 2);
    EXPECT_EQ(p.pairs[0].gmsa.shared_bytes, wide_gmsa_shared_bytes());
    EXPECT_LE(p.pairs[0].gmsa.shared_bytes + 512, kH200.shared_per_block);
    net.hidden_groups = kMaxHiddenGroups;
    const LfeShape most = make_plan(net, kH200, 206, 292, 1).pairs[0].lfe;
    EXPECT_LE(most.shared_bytes + 512, kH200.shared_per_block);
    EXPECT_GE(most.stages, 2);
    EXPECT_LT(most.stages, kWideMostStages);
  }
}

TEST(CudaPlan, HopperAttentionHasWindowsOrAsManyPartsAsThereAreMultiprocessors) {
  NetworkShape net = shape(180, 4, Operand::fp16);
  net.body[0].hopper = true;
  const auto gmsa = [&](int width, int height) {
    return make_plan(net, kH200, width, height, 1).pairs[0].gmsa;
  };
  EXPECT_EQ(gmsa(206, 292).tile_y, 4);
  EXPECT_EQ(gmsa(206, 292).walkers, kH200.multiprocessors);
  EXPECT_EQ(gmsa(160, 160).tile_y, 4);
  EXPECT_EQ(gmsa(160, 160).walkers, 100);
  EXPECT_EQ(gmsa(128, 128).tile_y, 2);
  EXPECT_EQ(gmsa(128, 128).walkers, 128);
  EXPECT_EQ(gmsa(64, 64).tile_y, 1);
  EXPECT_EQ(gmsa(64, 64).walkers, 64);
  constexpr int kBarriers = 128;
  EXPECT_EQ(gmsa(64, 64).shared_bytes, hopper_gmsa_shared_bytes(false));
  EXPECT_LE(hopper_gmsa_shared_bytes(false) + kBarriers, kH200.shared_per_block);
  EXPECT_LE(hopper_gmsa_shared_bytes(true), hopper_gmsa_shared_bytes(false));
}

TEST(CudaPlan, NarrowStreamsOfOperandsTakeTwoBlocksAWarpWhereThatFillsTheDevice) {
  NetworkShape net = shape(60, 4, Operand::fp16);
  const auto tile = [&](int width, int height) {
    return make_plan(net, kH200, width, height, 1).pairs[0].lfe.tile_y;
  };
  EXPECT_EQ(tile(206, 292), 2);
  net.body[0].stream = StreamFormat::split;
  EXPECT_EQ(tile(206, 292), 4);
  net.body[0].stream = StreamFormat::fp16;
  EXPECT_EQ(tile(206, 292), 4);
  EXPECT_EQ(tile(64, 64), 1);
  const Plan p = make_plan(net, kH200, 1920, 1080, 1);
  EXPECT_EQ(p.pairs[0].lfe.tile_y, 4);
  EXPECT_EQ(p.pairs[0].lfe.stages, 0);
  EXPECT_EQ(p.pairs[0].lfe.blocks, 2 * kH200.multiprocessors);
  net.channels = 180;
  EXPECT_EQ(tile(640, 640), 2);
}

TEST(CudaPlan, NarrowLfeOfHopperHasThreeTilesAMultiprocessor) {
  NetworkShape net = shape(60, 4, Operand::fp16);
  net.body[0] = {Operand::fp16, true, StreamFormat::fp16};
  const auto lfe = [&](int width, int height) {
    return make_plan(net, kH200, width, height, 1).pairs[0].lfe;
  };
  EXPECT_EQ(lfe(1920, 1080).tile_y, 4);
  EXPECT_EQ(lfe(1920, 1080).blocks, kH200.multiprocessors);
  EXPECT_EQ(lfe(1920, 1080).shared_bytes, narrow_shared_bytes(5, true, 4, true));
  EXPECT_EQ(lfe(64, 64).tile_y, 1);
  EXPECT_EQ(lfe(64, 64).blocks, 64);
  const GmsaShape gmsa = make_plan(net, kH200, 64, 64, 1).pairs[0].gmsa;
  net.body[0].hopper = false;
  EXPECT_EQ(gmsa.shared_bytes, make_plan(net, kH200, 64, 64, 1).pairs[0].gmsa.shared_bytes);
  // Without copies two thread blocks have a tile each.
  net.body[0] = {Operand::bf16, true};
  EXPECT_EQ(lfe(1920, 1080).tile_y, 4);
  EXPECT_EQ(lfe(1920, 1080).blocks, 2 * kH200.multiprocessors);
  net = {60, 4, kMaxHiddenGroups, {{Operand::bf16, true}}};
  EXPECT_LE(lfe(1920, 1080).shared_bytes + 512, kH200.shared_per_block);
}

TEST(CudaPlan, NarrowPairsAreOneKernelWhereMultiprocessorsHaveMoreThanAWindow) {
  NetworkShape net = shape(60, 4, Operand::fp16);
  const PairKind able{Operand::fp16, true, StreamFormat::fp16};
  const auto blocks = [&](const PairKind& kind, int width, int height) {
    net.body[0] = kind;
    return make_plan(net, kH200, width, height, 1).pairs[0].whole_pairs;
  };
  EXPECT_EQ(blocks(able, 1920, 1080), kH200.multiprocessors);
  EXPECT_EQ(blocks(able, 206, 292), kH200.multiprocessors);
  EXPECT_EQ(blocks(able, 176, 192), 0);
  EXPECT_EQ(blocks({Operand::fp16, true, StreamFormat::split}, 206, 292), kH200.multiprocessors);
  EXPECT_EQ(blocks({Operand::fp16, true}, 1920, 1080), 0);
  EXPECT_EQ(blocks({Operand::bf16, true}, 1920, 1080), 0);
  EXPECT_EQ(blocks({Operand::fp16, false, StreamFormat::fp16}, 1920, 1080), 0);
  EXPECT_LE(narrow_pair_shared_bytes(net.hidden_groups, true) + kStaticShared,
            kH200.shared_per_block);
  net.hidden_groups = 9;  // whose weights leave no room for a window
  EXPECT_EQ(blocks(able, 1920, 1080), 0);
  const Plan p = make_plan(shape(60, 4, Operand::fp16), kH200, 1920, 1080, 1);
  EXPECT_FALSE(p.has_whole_pairs(p.pairs[0].kind, false));
}

TEST(CudaPlan, TailWithTheSkipHasTheLargestTilesThatFillTheDevice) {
  NetworkShape net = shape(60, 2, Operand::fp16);
  net.body[0].stream = StreamFormat::fp16;
  EXPECT_TRUE(net.skip_in_tail());
  const auto tail = [&](int width, int height) {
    return make_plan(net, kH200, width, height, 1).tail;
  };
  EXPECT_EQ(tail(1920, 1080).tile_y, 4);
  EXPECT_EQ(tail(1920, 1080).stages, 0);
  EXPECT_EQ(tail(1920, 1080).blocks, 2 * kH200.multiprocessors);
  EXPECT_EQ(tail(160, 120).tile_y, 2);
  EXPECT_EQ(tail(64, 64).tile_y, 1);
  EXPECT_EQ(tail(64, 64).blocks, 64);
  net.scale = 4;  // weights in parts, so that two thread blocks have room
  EXPECT_EQ(tail(1920, 1080).stages, kTailStages);
  EXPECT_EQ(tail(1920, 1080).blocks, 2 * kH200.multiprocessors);
  net.channels = 180;
  EXPECT_EQ(tail(1920, 1080).tile_y, 2);
  EXPECT_EQ(tail(1920, 1080).blocks, kH200.multiprocessors);
  EXPECT_LE(tail(1920, 1080).shared_bytes + 512, kH200.shared_per_block);
  net.body[0].stream = StreamFormat::split;
  EXPECT_FALSE(net.skip_in_tail());
}

TEST(CudaPlan, NeverMoreBlocksThanTilesOrThanRunAtOnce) {
  const Plan tiny = make_plan(shape(60, 4, Operand::fp16), kH200, 16, 16, 1);
  EXPECT_LE(tiny.pairs[0].lfe.blocks, 4);
  const Plan big = make_plan(shape(180, 4, Operand::fp16), kH200, 2048, 2048, 1);
  EXPECT_EQ(big.pairs[0].lfe.blocks, 132);
}

TEST(CudaArena, PartsDoNotOverlap) {
  for (const Operand operand : kOperands) {
    const Arena a = plan_arena(shape(60, 3, operand), 50, 30, 2);
    std::vector<std::size_t> at{a.x, a.y, a.q, a.v, a.bytes};
    EXPECT_TRUE(std::is_sorted(at.begin(), at.end()));
    for (const std::size_t offset : at) EXPECT_EQ(offset % 256, 0U);
    const std::size_t pixels = 64 * 32 * 2;
    EXPECT_GE(a.y - a.x, pixels * 64 * 4);
    // 60 channels and two references, or channels with their padding.
    EXPECT_GE(a.v - a.q, pixels * (operand_bytes(operand) == 2 ? 60 * 2 + 2 * 4 : 72 * 4));
  }
}

TEST(CudaArena, GrowsWithEverySize) {
  const NetworkShape s = shape(180, 4, Operand::fp16);
  const std::size_t base = plan_arena(s, 100, 80, 2).bytes;
  EXPECT_GT(plan_arena(s, 113, 80, 2).bytes, base);
  EXPECT_GT(plan_arena(s, 100, 81, 2).bytes, base);
  EXPECT_GT(plan_arena(s, 100, 80, 3).bytes, base);
}

TEST(CudaArena, HalfStreamTakesHalf) {
  NetworkShape s = shape(60, 3, Operand::fp16);
  const std::size_t stream = std::size_t{64} * 32 * 2 * 64 * 4;
  const Arena full = plan_arena(s, 50, 30, 2);
  s.body[0].stream = StreamFormat::fp16;
  const Arena half = plan_arena(s, 50, 30, 2);
  EXPECT_EQ(full.y - full.x, stream);
  EXPECT_EQ(half.y - half.x, stream / 2);
  EXPECT_EQ(half.q - half.y, stream / 2);
  EXPECT_EQ(full.bytes - half.bytes, stream);
}

TEST(CudaArena, SplitStreamTakesThreeQuarters) {
  NetworkShape s = shape(60, 3, Operand::fp16);
  s.body[0].stream = StreamFormat::split;
  const Arena a = plan_arena(s, 50, 30, 2);
  EXPECT_EQ(a.y - a.x, std::size_t{64} * 32 * 2 * 64 * 3);
}

TEST(CudaPlan, HasAPlanForEveryKind) {
  NetworkShape net = shape(180, 4, Operand::fp16);
  net.body = {{Operand::fp16, true, StreamFormat::fp16},
              {Operand::fp32},
              {Operand::fp16, true, StreamFormat::fp16},
              {Operand::bf16, true}};
  const DeviceLimits device{132, 232448, 233472, true};
  const Plan p = make_plan(net, device, 512, 512, 1);
  ASSERT_EQ(p.pairs.size(), 3U);
  for (const PairKind& kind : net.body) {
    NetworkShape alone = net;
    alone.body = {kind};
    const Plan q = make_plan(alone, device, 512, 512, 1);
    EXPECT_EQ(p.of(kind).kind, kind);
    EXPECT_EQ(p.of(kind).lfe.shared_bytes, q.pairs[0].lfe.shared_bytes);
    EXPECT_EQ(p.of(kind).lfe.stages, q.pairs[0].lfe.stages);
    EXPECT_EQ(p.of(kind).gmsa.shared_bytes, q.pairs[0].gmsa.shared_bytes);
    EXPECT_EQ(p.of(kind).overlap, q.grid.overlap);
  }
  EXPECT_FALSE(p.grid.overlap);
}

TEST(CudaArena, OneStreamWhereItStaysInPlace) {
  NetworkShape s = shape(180, 4, Operand::int8);
  const PairKind in_place{Operand::int8, true, StreamFormat::fp16};
  s.body = {in_place, {Operand::fp8, true, StreamFormat::fp16}};
  const Arena one = plan_arena(s, 100, 70, 2);
  EXPECT_EQ(one.q, one.y);
  s.body[1] = {Operand::fp16, true, StreamFormat::fp16};
  const Arena two = plan_arena(s, 100, 70, 2);
  EXPECT_EQ(two.q - two.y, two.y - two.x);
  EXPECT_EQ(two.bytes - one.bytes, stream_bytes(180, {112, 80, 2, false}, in_place));
}

TEST(CudaArena, HasRoomForTheWidestKind) {
  const auto of = [](std::vector<PairKind> body) {
    NetworkShape net = shape(60, 4, Operand::fp16);
    net.body = std::move(body);
    return plan_arena(net, 100, 70, 1);
  };
  const PairKind half{Operand::fp16, false, StreamFormat::fp16}, fp32{Operand::fp32};
  const PairKind split{Operand::fp16, false, StreamFormat::split}, fp16{Operand::fp16};
  EXPECT_EQ(of({half, fp32}).bytes, of({fp32}).bytes);
  EXPECT_EQ(of({half, split, fp16}).bytes, of({fp16}).bytes);
  EXPECT_LT(of({half}).bytes, of({split}).bytes);
  EXPECT_LT(of({split}).bytes, of({fp16}).bytes);
  EXPECT_LT(of({fp16}).bytes, of({fp32}).bytes);
}

TEST(CudaArena, StaysWithinItsBudget) {
  NetworkShape half = shape(180, 4, Operand::fp16);
  half.body[0].stream = StreamFormat::fp16;
  EXPECT_LE(plan_arena(half, 206, 292, 1).bytes, 150'000'000U);
  EXPECT_LE(plan_arena(shape(180, 4, Operand::fp16), 206, 292, 1).bytes, 200'000'000U);
  EXPECT_LE(plan_arena(shape(180, 4, Operand::fp32), 206, 292, 1).bytes, 260'000'000U);
}

}  // namespace
}  // namespace elan::cuda
