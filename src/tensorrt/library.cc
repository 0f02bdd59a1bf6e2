#include "tensorrt/library.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>

#include "elan/error.h"

namespace elan::tensorrt {
namespace fs = std::filesystem;
namespace {

struct Opened {
  void* handle = nullptr;
  fs::path path;
};

std::vector<fs::path> folders() {
  std::vector<fs::path> result;
  const char* list = std::getenv("ELANSR_TENSORRT");
  const std::string text = list != nullptr ? list : "";
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(':', at), text.size());
    if (end > at) {
      const fs::path folder = text.substr(at, end - at);
      result.push_back(folder);
      result.push_back(folder / "lib");
    }
    at = end + 1;
  }
  return result;
}

// Global: a parser or plugin that is opened later finds this one's symbols.
Opened open_one(const char* name, std::string& problem) {
  for (const fs::path& folder : folders()) {
    const fs::path path = folder / name;
    if (!fs::exists(path)) continue;
    if (void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL)) return {handle, path};
    problem = dlerror();
  }
  if (void* handle = dlopen(name, RTLD_NOW | RTLD_GLOBAL)) return {handle, name};
  if (problem.empty()) {
    const std::string said = dlerror();
    if (said.find("No such file") == std::string::npos) problem = said;
  }
  return {};
}

template <typename Function>
Function symbol(const Opened& library, const char* name) {
  void* found = dlsym(library.handle, name);
  if (found == nullptr) {
    throw Error(ErrorKind::device,
                library.path.string() + ": expected the function " + name + ", found none");
  }
  return reinterpret_cast<Function>(found);
}

// 8.6.1 is 8601, later ones 101600 or 10701.
std::string version_text(std::int32_t number) {
  const int unit = number >= 10000 ? 10000 : 1000;
  return std::to_string(number / unit) + "." + std::to_string(number % unit / 100) + "." +
         std::to_string(number % 100);
}

Library take(const FlavourName& flavour, const Opened& opened) {
  Library library;
  library.flavour = &flavour;
  library.path = opened.path;
  library.number = symbol<std::int32_t (*)()>(opened, "getInferLibVersion")();
  library.version = version_text(library.number);
  const int major = library.number / (library.number >= 10000 ? 10000 : 1000);
  if (major != flavour.major) {
    throw Error(ErrorKind::device, opened.path.string() + ": expected TensorRT " +
                                       std::to_string(flavour.major) + ", found " +
                                       library.version);
  }
  library.create_builder =
      symbol<decltype(library.create_builder)>(opened, "createInferBuilder_INTERNAL");
  library.create_runtime =
      symbol<decltype(library.create_runtime)>(opened, "createInferRuntime_INTERNAL");
  library.plugin_registry = reinterpret_cast<decltype(library.plugin_registry)>(
      dlsym(opened.handle, "getPluginRegistry"));
  return library;
}

}  // namespace

const std::vector<FlavourName>& all_flavours() {
  static const std::vector<FlavourName> flavours{
      {"11", 11, "libnvinfer.so.11", "libnvonnxparser.so.11", "TensorRT 11"},
      {"10", 10, "libnvinfer.so.10", "libnvonnxparser.so.10", "TensorRT 10"},
      {"8", 8, "libnvinfer.so.8", "libnvonnxparser.so.8", "TensorRT 8.6"},
      {"rtx", 1, "libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1", "TensorRT-RTX 1"},
  };
  return flavours;
}

Library open_library(const std::vector<std::string>& names) {
  std::string packages, looked, problem;
  for (const FlavourName& flavour : all_flavours()) {
    if (std::find(names.begin(), names.end(), flavour.name) == names.end()) continue;
    const Opened opened = open_one(flavour.library, problem);
    if (opened.handle == nullptr) {
      packages += (packages.empty() ? "" : " or ") + std::string(flavour.package);
      looked += (looked.empty() ? "" : ", ") + std::string(flavour.library);
      continue;
    }
    Library library = take(flavour, opened);
    const Opened parser = open_one(flavour.parser, problem);
    if (parser.handle != nullptr) {
      library.create_parser =
          symbol<decltype(library.create_parser)>(parser, "createNvOnnxParser_INTERNAL");
    }
    return library;
  }
  if (packages.empty()) {
    throw Error(ErrorKind::device,
                "tensorrt: this program was built without TensorRT's headers "
                "(ELANSR_TENSORRT_ROOTS)");
  }
  std::string where;
  for (const fs::path& folder : folders()) where += folder.string() + ", ";
  throw Error(ErrorKind::device, "tensorrt: expected " + packages +
                                     ", found none: install it, or name its folder in " +
                                     "ELANSR_TENSORRT; looked for " + looked + " in " + where +
                                     "the system's library folders" +
                                     (problem.empty() ? "" : " (" + problem + ")"));
}

}  // namespace elan::tensorrt
