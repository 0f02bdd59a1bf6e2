// What a weights file holds, for people: the data behind `elan-sr info MODEL`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "elan/model.h"
#include "model/key_names.h"

namespace elan {

struct ModelDescription {
  std::string path;
  std::uint64_t file_size = 0;                // bytes
  std::size_t tensors = 0;                    // in the file, ignored ones included
  std::map<std::string, std::size_t> dtypes;  // "F32" -> how many tensors have it
  KeyLayout layout = KeyLayout::published;
  std::string prefix;  // wrapper in front of every key, "params." for example; or empty
  std::map<std::string, std::string> metadata;

  Architecture architecture;   // variant(), scale, channels, windows, value_range, ...
  std::vector<double> mean;    // RGB on 0..255, subtracted and added again; empty: none
  std::size_t parameters = 0;  // trained numbers
  bool one_hot_shifts = true;  // false: only the reference runs it
  double multiply_adds = 0;    // per input pixel
  std::string fingerprint;

  // 1x1 convolutions of the body, q and v of project_inp counting as one each.
  std::size_t matrices = 0, int8_matrices = 0;  // all of them; those in 8 bits
  std::size_t int8_attentions = 0;              // of the elabs * pairs of them
};

// Reads and checks the whole file, as Model::load() does, and throws the same errors.
ModelDescription describe_model(const std::filesystem::path& path);

// Multiply-adds of the network per (padded) input pixel.
double multiply_adds_per_pixel(const Architecture& arch);

}  // namespace elan
