// An engine's plan in a file of ours: TensorRT's bytes behind a header that says what they are, so
// that a plan of another version, for another GPU or with damage is recognised before TensorRT
// reads it.
//
//   8 bytes   "ELANTRT1"
//   4 bytes   length of the description (little-endian, like all numbers)
//   4 bytes   0
//   8 bytes   length of the plan
//   8 bytes   XXH64 of description and plan
//   ...       description ("name: value" lines, see engine_key.h), plan
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "tensorrt/engine_key.h"

namespace elan::tensorrt {

struct PlanFile {
  std::string description;
  std::vector<std::byte> plan;

  // The value of a line of the description; empty if there is none.
  [[nodiscard]] std::string value(const std::string& name) const;
};

// Appears only when it is complete. Throws Error (input) when it cannot be written.
void write_plan(const std::filesystem::path& path, const PlanFile& file);

// Throws Error: input (no such file), model (not a plan of ours, damaged).
PlanFile read_plan(const std::filesystem::path& path);

// Throws Error (model) that names the file and the first thing that differs: TensorRT, GPU,
// weights, plugin version or recipe.
void check_plan(const std::filesystem::path& path, const PlanFile& file,
                const std::string& fingerprint, const Runtime& runtime);

// What most of it computes in. Throws Error (model) for a description without it.
Precision precision_of(const std::filesystem::path& path, const PlanFile& file);

// The sizes it was built for. Throws Error (model) for a description without them.
Profile profile_of(const std::filesystem::path& path, const PlanFile& file);

// $XDG_CACHE_HOME/elan-sr or ~/.cache/elan-sr. Throws Error (input) if there is no home.
std::filesystem::path cache_folder();

}  // namespace elan::tensorrt
