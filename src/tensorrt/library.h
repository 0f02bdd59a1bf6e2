// Finds and opens TensorRT at run time. Nothing of it is linked, so the program starts without it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace elan::tensorrt {

// One of TensorRT's interfaces; headers and library must be of the same one.
struct FlavourName {
  const char* name;     // "8", "10", "11", "rtx"
  int major;            // of its library's version
  const char* library;  // "libnvinfer.so.10"
  const char* parser;   // "libnvonnxparser.so.10"
  const char* package;  // what a user installs
};
const std::vector<FlavourName>& all_flavours();  // newest first

// The functions that are used by name; everything else goes through the objects they give.
struct Library {
  const FlavourName* flavour = nullptr;
  std::filesystem::path path;  // of the library, as it was opened
  std::string version;         // "10.16.0"
  std::int32_t number = 0;     // as the library says it
  void* (*create_builder)(void* logger, std::int32_t version) = nullptr;
  void* (*create_runtime)(void* logger, std::int32_t version) = nullptr;
  void* (*create_parser)(void* network, void* logger, int version) = nullptr;  // null: no parser
  void* (*plugin_registry)() = nullptr;  // the process's; null: none
};

// The first of `names` that is found: in the folders of ELANSR_TENSORRT (separated by colons; a
// folder or its lib), then wherever the system looks. Libraries stay open. Throws Error (device)
// that says what to install and where it looked, or that a library is of another major version.
Library open_library(const std::vector<std::string>& names);

}  // namespace elan::tensorrt
