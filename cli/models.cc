#include "models.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <tuple>

#include "elan/error.h"

namespace elan::cli {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kExtension = ".safetensors";
constexpr const char* kDefaultFamily = "elan_light";
constexpr int kDefaultScale = 4;

struct Name {
  std::string family;
  int scale = 0;  // 0: the name has none
};

// "elan_light_x4" to its parts.
Name split_name(std::string_view name) {
  const auto mark = name.rfind("_x");
  if (mark != std::string_view::npos && mark > 0) {
    const std::string_view digits = name.substr(mark + 2);
    int scale = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), scale);
    if (error == std::errc() && end == digits.data() + digits.size() && scale > 0) {
      return {std::string(name.substr(0, mark)), scale};
    }
  }
  return {std::string(name), 0};
}

std::string family_of_alias(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  if (name == "light") return "elan_light";
  if (name == "light_int8") return "elan_light_int8";
  if (name == "full") return "elan";
  if (name == "full_int8") return "elan_int8";
  return name;
}

std::string scales_text(const std::vector<ShippedModel>& models, const std::string& family) {
  std::string text;
  for (const ShippedModel& m : models) {
    if (m.family == family) text += (text.empty() ? "" : ", ") + std::to_string(m.scale);
  }
  return text;
}

// "elan (-s 4), elan_light (-s 2, 3, 4) in /usr/share/elan-sr/models".
std::string list_text(const std::vector<ShippedModel>& models) {
  if (models.empty()) {
    std::string text = "none in";
    for (const fs::path& folder : model_folders()) text += " " + folder.string();
    return text + "; ELANSR_MODELS says where they are";
  }
  std::set<std::string> families;
  for (const ShippedModel& m : models) families.insert(m.family);
  std::string text;
  for (const std::string& family : families) {
    text += (text.empty() ? "" : ", ") + family + " (-s " + scales_text(models, family) + ")";
  }
  return text + " in " + models.front().path.parent_path().string();
}

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error) && !fs::is_directory(path, error);
}

// The source tree of a build tree; empty if it is none.
fs::path source_of(const fs::path& build) {
  constexpr std::string_view kKey = "CMAKE_HOME_DIRECTORY:INTERNAL=";
  std::ifstream cache(build / "CMakeCache.txt");
  for (std::string line; std::getline(cache, line);) {
    if (line.starts_with(kKey)) return line.substr(kKey.size());
  }
  return {};
}

}  // namespace

std::vector<fs::path> model_folders() {
  if (const char* set = std::getenv("ELANSR_MODELS"); set != nullptr && *set != '\0') {
    return {fs::path(set)};
  }
  std::error_code error;
  const fs::path executable = fs::read_symlink("/proc/self/exe", error);
  if (error) return {};
  const fs::path bin = executable.parent_path();
  std::vector<fs::path> folders{(bin / "../share/elan-sr/models").lexically_normal()};
  if (const fs::path source = source_of(bin / ".."); !source.empty()) {
    folders.push_back(source / "models");
  }
  return folders;
}

std::vector<ShippedModel> shipped_models() {
  std::vector<ShippedModel> models;
  for (const fs::path& folder : model_folders()) {
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      const Name name = split_name(it->path().stem().string());
      if (it->path().extension() == kExtension && name.scale > 0) {
        models.push_back({name.family, name.scale, it->path()});
      }
    }
    if (!models.empty()) break;
  }
  std::sort(models.begin(), models.end(), [](const ShippedModel& a, const ShippedModel& b) {
    return std::tie(a.family, a.scale) < std::tie(b.family, b.scale);
  });
  return models;
}

ModelChoice choose_model(const std::string& model, int scale) {
  ModelChoice choice;
  choice.scale = scale;
  const bool has_extension = std::string_view(model).ends_with(kExtension);
  if (model.find('/') != std::string::npos || (!model.empty() && is_file(model))) {
    choice.file = model;
    return choice;
  }
  const std::vector<ShippedModel> shipped = shipped_models();
  Name name{kDefaultFamily, 0};
  if (!model.empty()) {
    name = split_name(has_extension ? model.substr(0, model.size() - kExtension.size()) : model);
    name.family = family_of_alias(name.family);
  }
  for (const ShippedModel& m : shipped) {
    if (m.family == name.family) choice.by_scale.emplace(m.scale, m.path);
  }
  if (choice.by_scale.empty()) {
    throw Error(ErrorKind::model, (model.empty() ? "model " + name.family : "model " + model) +
                                      ": expected a file or a shipped model, found neither; " +
                                      "shipped: " + list_text(shipped));
  }
  if (name.scale != 0 && scale != 0 && name.scale != scale) {
    throw Error(ErrorKind::usage, "--scale: expected " + std::to_string(name.scale) + " for " +
                                      model + ", found " + std::to_string(scale));
  }
  const int only = name.scale != 0 ? name.scale : scale;
  if (only != 0) {
    const auto found = choice.by_scale.find(only);
    if (found == choice.by_scale.end()) {
      throw Error(ErrorKind::usage, "--scale: expected one of " +
                                        scales_text(shipped, name.family) + " for model " +
                                        name.family + ", found " + std::to_string(only));
    }
    choice.by_scale = {*found};
    choice.scale = only;
  } else {
    choice.scale =
        choice.by_scale.contains(kDefaultScale) ? kDefaultScale : choice.by_scale.rbegin()->first;
  }
  return choice;
}

const fs::path& ModelChoice::one() const {
  return file.empty() ? by_scale.at(scale) : file;
}

Model ModelChoice::load() const {
  return load_model(one(), scale);
}

Model load_model(const fs::path& file, int scale) {
  Model model = Model::load(file);
  if (scale != 0 && model.scale() != scale) {
    throw Error(ErrorKind::usage, "--scale: expected " + std::to_string(model.scale()) +
                                      ", the scale of " + file.string() + ", found " +
                                      std::to_string(scale));
  }
  return model;
}

}  // namespace elan::cli
