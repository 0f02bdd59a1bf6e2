// What an engine is built from, and its name in a cache: two engines share a name only if either
// could stand for the other.
#pragma once

#include <cstdint>
#include <string>

#include "elan/model.h"
#include "elan/precision.h"
#include "onnx/export.h"

namespace elan::tensorrt {

// Bumped when what the builder is told changes without any option having changed.
constexpr int kRecipeVersion = 1;

// Sizes of the input that one engine takes; all equal: one size, for which it is built best.
struct Profile {
  PictureSize least{1, 1}, best{304, 208}, most{1024, 1024};
  int batch = 1;  // at most
  [[nodiscard]] bool fixed() const;
  [[nodiscard]] bool holds(int width, int height, int pictures) const;
};

struct BuildOptions {
  Precision precision = Precision::fp16;  // fp32 (TF32 cleared), tf32 or fp16 (branches only)
  Profile profile;
  bool plugins = false;
  bool loose = false;  // TensorRT 8.6: it may compute anything in FP16, not the branches alone
};

// Throws Error (usage) for a profile that is none and for options that contradict each other.
void check(const BuildOptions& options);

// Where an engine runs: it runs nowhere else.
struct Runtime {
  std::string flavour;  // "8", "10", "11" or "rtx"
  std::string version;  // of TensorRT, "8.6.0"
  std::string gpu;      // "NVIDIA H200, sm_90"
};

// One "name: value" line each, in a fixed order; everything that decides what the engine is.
std::string describe(const std::string& fingerprint, const BuildOptions& options,
                     const Runtime& runtime);

// 16 hexadecimal digits over a description.
std::string key_of(const std::string& description);

// "WxH" or "WxH/WxH/WxH" (least, best, most).
std::string to_string(const Profile& profile);

}  // namespace elan::tensorrt
