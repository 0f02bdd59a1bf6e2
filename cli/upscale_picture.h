// From a picture file to its enlargement: decode, compute, encode. Free of terminals and of
// options' spelling; safe to call from several threads with one engine.
//
//   upscale_picture(engine, {"in.png"}, {"out.png"}, {.save = {.format = picture::Format::png}});
#pragma once

#include <cstddef>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "core/picture_size.h"
#include "elan/engine.h"
#include "picture/picture.h"

namespace elan::cli {

struct UpscaleOptions {
  picture::SaveOptions save;  // its width and height are set here, from the two below
  int width = 0, height = 0;  // wanted size in pixels; one alone keeps the aspect; 0 0: the model's
  bool tta = false;
  int tile = 0;  // for tta, whose engine must have been made with tile 0; else the engine's own
  std::stop_token stop;
  std::function<void(double)> progress;  // 0..1, from any thread
};

struct UpscaleResult {
  int in_width = 0, in_height = 0;    // pixels
  int out_width = 0, out_height = 0;  // as written
  std::vector<std::string> warnings;
};

// The size to write for a picture of `in` when `width` and `height` (0: follows from the other)
// are wanted; both 0: `scale` times the picture.
PictureSize wanted_size(PictureSize in, int scale, int width, int height);

// The smallest of `scales` (sorted) that makes the picture at least as large as wanted each way;
// what is too much is taken off after. Throws Error (input) when even the largest is too small.
int scale_for(PictureSize in, PictureSize wanted, const std::vector<int>& scales);

// Bytes held at most from after decoding to the end, the picture included. Throws Error (memory)
// when the engine's limit cannot be kept.
std::size_t memory_needed(const Engine& engine, const picture::Picture& picture,
                          const UpscaleOptions& options);

// Computes and encodes. Throws as Engine::stream, check_output and save do.
UpscaleResult write_enlarged(Engine& engine, const picture::Picture& picture,
                             const picture::Output& output, const UpscaleOptions& options);

// Decodes, then write_enlarged. Throws as load does, too.
UpscaleResult upscale_picture(Engine& engine, const picture::Input& input,
                              const picture::Output& output, const UpscaleOptions& options);

}  // namespace elan::cli
