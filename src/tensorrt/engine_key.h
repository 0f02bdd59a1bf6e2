// What an engine is built from, and its name in a cache: two engines share a name only if either
// could stand for the other.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "elan/model.h"
#include "model/plan.h"
#include "onnx/export.h"

namespace elan::tensorrt {

// Bumped when what the builder is told changes without any option having changed.
constexpr int kRecipeVersion = 3;

// Sizes of the input that one engine takes; all equal: one size, for which it is built best.
struct Profile {
  PictureSize least{1, 1}, best{304, 208}, most{1024, 1024};
  int batch = 1;  // at most
  [[nodiscard]] bool fixed() const;
  [[nodiscard]] bool in_graph() const { return fixed() && batch == 1; }  // which then has one size
  [[nodiscard]] bool holds(int width, int height, int pictures) const;
};

// Pictures from which TensorRT 8.6 finds scales of its own.
struct Calibration {
  std::vector<std::vector<float>> pictures;  // planar RGB, 0..255, of calibration_size()
  // False: they stay on the host, and the calibrator sees whatever the device's memory holds. That
  // is a mistake, made on purpose to see what comes of it.
  bool copied = true;
};

// What calibrates an engine of these sizes: small pictures, since ranges do not depend on the size
// and TensorRT looks at every value of every tensor; padded on the same sides as the best size, so
// that the graph of it has the same layers.
PictureSize calibration_size(const Profile& profile);

struct BuildOptions {
  // As in an export (onnx/export.h). fp32 clears TF32, and so does a plan of several; tf32, fp16,
  // int8 and fp8 leave it to what is FP32 beside them.
  PrecisionPlan precision = Precision::fp16;
  Profile profile;
  bool plugins = false;
  int effort = 3;      // how much the builder tries, 0 to 5; 3 is TensorRT's default
  bool loose = false;  // TensorRT 8.6: it may compute anything in FP16, not the branches alone
  // TensorRT 8.6, int8: scales by its calibrator, for all layers, instead of the model's.
  std::shared_ptr<const Calibration> calibration = nullptr;
};

// For the engine that is built only to find the scales for one with these: of calibration_size(),
// as soon as it can be.
BuildOptions calibrating(const BuildOptions& options);

// Throws Error (usage) for a profile that is none and for options that contradict each other.
void check(const BuildOptions& options);

// Also for what the model cannot be built as: 8 bits without any; a plan for another network (Error
// model).
void check(const BuildOptions& options, const Model& model);

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
