// The shipped models, and from what -m and -s say to a weights file.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "elan/model.h"

namespace elan::cli {

// Files named FAMILY_xSCALE.safetensors.
struct ShippedModel {
  std::string family;  // "elan_light"
  int scale = 0;
  std::filesystem::path path;
};

// Where they are looked for: $ELANSR_MODELS alone where it is set, else ../share/elan-sr/models
// from the executable's folder (installed), else the source tree the executable was built from.
std::vector<std::filesystem::path> model_folders();

// Sorted by family and scale.
std::vector<ShippedModel> shipped_models();

// The weights files that -m MODEL -s SCALE may mean.
struct ModelChoice {
  // A file given by its path: the only one, its scale known when it is loaded. Otherwise empty.
  std::filesystem::path file;
  // Shipped models of the family by scale; just one where -s or the name says which.
  std::map<int, std::filesystem::path> by_scale;
  int scale = 0;  // wanted; 0: as the file says

  // The file; of shipped models the one of the scale wanted.
  [[nodiscard]] const std::filesystem::path& one() const;
  // That file, loaded. Throws as load_model.
  [[nodiscard]] Model load() const;
};

// `model`: name or path, empty for the default; `scale`: 0 if not given. Throws Error: model (no
// such model; lists those there are), usage (no shipped model of that name has this scale).
ModelChoice choose_model(const std::string& model, int scale);

// Throws as Model::load, and Error (usage) where the model has another scale; 0: any will do.
Model load_model(const std::filesystem::path& file, int scale);

}  // namespace elan::cli
