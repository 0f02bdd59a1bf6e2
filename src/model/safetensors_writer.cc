#include "model/safetensors_writer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

namespace elan {
namespace {

constexpr std::size_t kAlignment = 8;  // of the values in the file

std::size_t width_of(const TensorValues& tensor) {
  return tensor.bytes.size() / std::max<std::size_t>(1, element_count(tensor.shape));
}

}  // namespace

TensorValues float_tensor(TensorShape shape, std::span<const float> values) {
  const bool fits = std::all_of(values.begin(), values.end(), [](float v) {
    return (std::bit_cast<std::uint32_t>(v) & 0xFFFF) == 0;
  });
  if (!fits) {
    const auto bytes = std::as_bytes(values);
    return {"F32", std::move(shape), {bytes.begin(), bytes.end()}};
  }
  TensorValues tensor{"BF16", std::move(shape), {}};
  tensor.bytes.resize(2 * values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto upper = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(values[i]) >> 16);
    std::memcpy(tensor.bytes.data() + 2 * i, &upper, sizeof upper);
  }
  return tensor;
}

TensorValues int8_tensor(TensorShape shape, std::span<const std::int8_t> values) {
  const auto bytes = std::as_bytes(values);
  return {"I8", std::move(shape), {bytes.begin(), bytes.end()}};
}

std::vector<std::byte> serialise(const std::map<std::string, TensorValues>& tensors,
                                 const std::map<std::string, std::string>& metadata) {
  std::vector<std::pair<std::string_view, const TensorValues*>> order;
  for (const auto& [key, tensor] : tensors) order.emplace_back(key, &tensor);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::tuple(width_of(*b.second), a.first) < std::tuple(width_of(*a.second), b.first);
  });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t end = 0;
  for (const auto& [key, tensor] : order) {
    const std::size_t begin = std::exchange(end, end + tensor->bytes.size());
    header[std::string(key)] = {
        {"dtype", tensor->dtype}, {"shape", tensor->shape}, {"data_offsets", {begin, end}}};
  }
  std::string json = header.dump();
  json.resize((json.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');

  const std::uint64_t length = json.size();
  std::vector<std::byte> file(sizeof length + json.size() + end);
  std::byte* at = file.data();
  const auto append = [&at](std::span<const std::byte> bytes) {
    at = std::copy(bytes.begin(), bytes.end(), at);
  };
  append(std::as_bytes(std::span(&length, 1)));
  append(std::as_bytes(std::span(json)));
  for (const auto& [key, tensor] : order) append(tensor->bytes);
  return file;
}

}  // namespace elan
