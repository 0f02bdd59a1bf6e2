// Test-time augmentation: a picture is enlarged in its eight orientations and the results, turned
// back, are averaged in float.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "elan/engine.h"

namespace elan::cli {

// How one output of the eight is made: flips of the picture, then perhaps a transposition.
struct Orientation {
  bool flip_x = false, flip_y = false, transpose = false;
};

std::array<Orientation, 8> orientations();

struct TtaPlan {
  int tile = 0;            // input pixels a side, a multiple of 16; 0: the whole picture
  std::size_t memory = 0;  // bytes held at most, the engine's included
};

// What stream_tta() does with a picture of this size; `tile` 0: whole if it fits the engine's
// memory, else the largest tile that does. `reserved` as for Engine::plan. The engine must have
// been made with tile 0. Throws Error (memory).
TtaPlan plan_tta(const Engine& engine, int width, int height, SampleType out_type, int tile,
                 std::size_t reserved);

// As Engine::stream. Tiles overlap and lie on each turned picture's own grid, as if the turned
// picture itself were tiled.
std::unique_ptr<RowSource> stream_tta(Engine& engine, const ConstImageView& in, SampleType out_type,
                                      const RunOptions& run, int tile, std::size_t reserved);

}  // namespace elan::cli
