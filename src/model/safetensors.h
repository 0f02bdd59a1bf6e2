// Reads safetensors files: 8 bytes header length (little-endian), a JSON header that names the
// tensors, their raw little-endian values. Nothing of the file is trusted.
//
//   Safetensors file = Safetensors::read("elan_light_x4.safetensors");
//   std::vector<float> head = file.floats("head.0.weight");
//
// Every error is an Error (model) of the form "FILE: KEY: expected X, found Y". Immutable once
// read, hence safe to use from several threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace elan {

using TensorShape = std::vector<std::size_t>;

struct TensorEntry {
  std::string dtype;  // as the file spells it: F32, F16, BF16, U8, ...
  TensorShape shape;
  std::size_t begin = 0, end = 0;  // bytes, from the start of the values
};

class Safetensors {
 public:
  using Entries = std::map<std::string, TensorEntry, std::less<>>;

  static constexpr std::uint64_t kMaxHeader = 100'000'000;    // bytes; the format's own limit
  static constexpr std::uint64_t kMaxValues = 4'000'000'000;  // bytes; far beyond any ELAN

  static Safetensors read(const std::filesystem::path& path);

  // The same for a file that is already in memory; `name` stands for its path in messages.
  static Safetensors parse(std::string_view name, std::span<const std::byte> bytes);

  [[nodiscard]] const std::string& name() const { return name_; }  // printable
  [[nodiscard]] const Entries& entries() const { return entries_; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }
  [[nodiscard]] std::uint64_t file_size() const { return file_size_; }  // bytes

  // Throws if there is no such tensor.
  [[nodiscard]] const TensorEntry& entry(std::string_view key) const;
  [[nodiscard]] std::span<const std::byte> bytes(std::string_view key) const;

  // The values of an F64, F32, F16 or BF16 tensor. Throws if it has another type or a value that
  // is not a finite float.
  [[nodiscard]] std::vector<float> floats(std::string_view key) const;

  // The values of an I8 tensor. Throws if it has another type or a value of -128: all that is
  // quantised here is symmetric.
  [[nodiscard]] std::vector<std::int8_t> int8s(std::string_view key) const;

 private:
  void parse_header(std::span<const std::byte> json, std::uint64_t value_bytes);

  std::string name_;
  std::uint64_t file_size_ = 0;
  Entries entries_;
  std::map<std::string, std::string> metadata_;
  std::vector<std::byte> values_;
};

// "[60, 3, 3, 3]", "[]" for a scalar.
std::string to_string(const TensorShape& shape);

// The number of values; the caller made sure that it does not overflow.
std::size_t element_count(const TensorShape& shape);

}  // namespace elan
