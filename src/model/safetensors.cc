#include "model/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "core/printable.h"
#include "elan/error.h"
#include "model/safetensors_header.h"

namespace elan {
namespace {

static_assert(std::endian::native == std::endian::little, "values are stored little-endian");

constexpr std::size_t kLongestPath = 4096;

[[noreturn]] void fail(const std::string& name, const std::string& message) {
  throw Error(ErrorKind::model, name + ": " + message);
}

// What a file that is no safetensors file looks like, so that the message can say so.
std::optional<std::string> other_format(std::string_view head) {
  const auto starts = [&](std::string_view magic) { return head.substr(0, magic.size()) == magic; };
  if (starts("version https://git-lfs")) {
    return "a git-lfs pointer (run `git lfs pull` to get the file itself)";
  }
  if (starts("PK\x03\x04")) return "a zip archive such as a PyTorch .pth (convert it first)";
  if (starts("\x80\x02") || starts("\x80\x03") || starts("\x80\x04") || starts("\x80\x05")) {
    return "a Python pickle such as an old PyTorch .pth (convert it first)";
  }
  if (starts("\x89HDF")) return "an HDF5 file";
  if (starts("GGUF")) return "a GGUF file";
  if (starts("\x89PNG") || starts("\xFF\xD8\xFF") || starts("RIFF") || starts("GIF8")) {
    return "a picture";
  }
  if (starts("\x1F\x8B")) return "a gzip archive";
  const std::size_t text = head.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  if (text != std::string_view::npos && head[text] == '<') return "an HTML or XML page";
  if (text != std::string_view::npos && head[text] == '{') return "a JSON text";
  // ONNX is a protocol buffer: field 1 (IR version) as a small number, then field 2 (producer).
  if (head.size() >= 4 && head[0] == '\x08' && head[1] >= 1 && head[1] <= 20 &&
      (head[2] == '\x12' || head[2] == ':' || head[2] == '\x1A')) {
    return "an ONNX model";
  }
  return std::nullopt;
}

std::uint64_t header_length(const std::string& name, std::span<const std::byte> start,
                            std::uint64_t file_size) {
  if (file_size == 0) fail(name, "expected a safetensors file, found an empty file");
  std::uint64_t length = 0;
  if (file_size >= 8) std::memcpy(&length, start.data(), sizeof length);
  // The length may look like the start of another format, but a header always starts so.
  if (file_size <= 8 || start[8] != std::byte{'{'}) {
    const std::string_view head(reinterpret_cast<const char*>(start.data()), start.size());
    if (const auto other = other_format(head)) {
      fail(name, "expected a safetensors file, found " + *other);
    }
  }
  if (file_size < 8) {
    fail(name, "expected a safetensors file of at least 8 bytes, found " +
                   std::to_string(file_size) + " bytes");
  }
  if (length > Safetensors::kMaxHeader) {
    fail(name, "header length: expected at most " + std::to_string(Safetensors::kMaxHeader) +
                   " bytes, found " + std::to_string(length) + " (not a safetensors file?)");
  }
  if (length > file_size - 8) {
    fail(name, "header: expected " + std::to_string(length) + " bytes, found " +
                   std::to_string(file_size - 8) + " (truncated?)");
  }
  return length;
}

float from_half(std::uint16_t half) {
  const std::uint32_t sign = std::uint32_t{half} >> 15 << 31;
  const std::uint32_t exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent == 0) {  // too small for an implicit leading 1
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t wide = exponent == 31 ? 255 : exponent - 15 + 127;
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
}

float from_bfloat(std::uint16_t value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

template <typename Stored, typename Convert>
void decode(std::span<const std::byte> bytes, std::vector<float>& values, Convert&& convert) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + i * sizeof stored, sizeof stored);
    values[i] = convert(stored);
  }
}

}  // namespace

Safetensors Safetensors::read(const std::filesystem::path& path) {
  const std::string name = printable(path.string(), kLongestPath);
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    fail(name, "expected a safetensors file, found no such file");
  }
  if (error) fail(name, "expected a safetensors file, found: " + error.message());
  if (status.type() != std::filesystem::file_type::regular) {
    fail(name, std::string("expected a safetensors file, found ") +
                   (status.type() == std::filesystem::file_type::directory ? "a folder"
                                                                           : "a special file"));
  }
  const std::uint64_t size = std::filesystem::file_size(path, error);
  if (error) fail(name, "expected a safetensors file, found: " + error.message());
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) fail(name, std::string("expected a readable file, found: ") + std::strerror(errno));

  const auto read_bytes = [&](std::byte* to, std::uint64_t count) {
    in.read(reinterpret_cast<char*>(to), static_cast<std::streamsize>(count));
    if (!in) fail(name, "expected " + std::to_string(size) + " bytes, found fewer on reading");
  };
  Safetensors file;
  file.name_ = name;
  file.file_size_ = size;
  std::array<std::byte, 64> start{};
  const std::size_t started = std::min<std::uint64_t>(size, start.size());
  read_bytes(start.data(), started);
  std::vector<std::byte> json(header_length(name, std::span(start).first(started), size));
  in.seekg(8);
  read_bytes(json.data(), json.size());
  file.parse_header(json, size - 8 - json.size());
  file.values_.resize(size - 8 - json.size());
  read_bytes(file.values_.data(), file.values_.size());
  return file;
}

Safetensors Safetensors::parse(std::string_view name, std::span<const std::byte> bytes) {
  Safetensors file;
  file.name_ = printable(name, kLongestPath);
  file.file_size_ = bytes.size();
  const std::size_t started = std::min<std::size_t>(bytes.size(), 64);
  const std::uint64_t length = header_length(file.name_, bytes.first(started), bytes.size());
  const auto values = bytes.subspan(8 + length);
  file.parse_header(bytes.subspan(8, length), values.size());
  file.values_.assign(values.begin(), values.end());
  return file;
}

void Safetensors::parse_header(std::span<const std::byte> json, std::uint64_t value_bytes) {
  if (value_bytes > kMaxValues) {
    fail(name_, "values: expected at most " + std::to_string(kMaxValues) + " bytes, found " +
                    std::to_string(value_bytes));
  }
  SafetensorsHeader header = parse_safetensors_header(
      name_, std::string_view(reinterpret_cast<const char*>(json.data()), json.size()),
      value_bytes);
  entries_ = std::move(header.entries);
  metadata_ = std::move(header.metadata);
}

const TensorEntry& Safetensors::entry(std::string_view key) const {
  const auto found = entries_.find(key);
  if (found == entries_.end()) fail(name_, printable(key) + ": expected a tensor, found none");
  return found->second;
}

std::span<const std::byte> Safetensors::bytes(std::string_view key) const {
  const TensorEntry& tensor = entry(key);
  return std::span(values_).subspan(tensor.begin, tensor.end - tensor.begin);
}

std::vector<float> Safetensors::floats(std::string_view key) const {
  const TensorEntry& tensor = entry(key);
  const auto stored = bytes(key);
  std::vector<float> values(element_count(tensor.shape));
  if (tensor.dtype == "F32") {
    decode<float>(stored, values, [](float v) { return v; });
  } else if (tensor.dtype == "F16") {
    decode<std::uint16_t>(stored, values, from_half);
  } else if (tensor.dtype == "BF16") {
    decode<std::uint16_t>(stored, values, from_bfloat);
  } else if (tensor.dtype == "F64") {
    decode<double>(stored, values, [](double v) {
      // Beyond float's range the conversion would be undefined; the check below names the value.
      return std::abs(v) <= std::numeric_limits<float>::max()
                 ? static_cast<float>(v)
                 : std::numeric_limits<float>::infinity();
    });
  } else {
    fail(name_, printable(key) + ": expected type F32, F16, BF16 or F64, found " +
                    printable(tensor.dtype));
  }
  const auto bad =
      std::find_if_not(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
  if (bad != values.end()) {
    fail(name_, printable(key) + ": expected finite values, found " +
                    (std::isnan(*bad) ? "NaN" : "infinity") + " at index " +
                    std::to_string(bad - values.begin()));
  }
  return values;
}

std::vector<std::int8_t> Safetensors::int8s(std::string_view key) const {
  const TensorEntry& tensor = entry(key);
  if (tensor.dtype != "I8") {
    fail(name_, printable(key) + ": expected type I8, found " + printable(tensor.dtype));
  }
  const auto stored = bytes(key);
  std::vector<std::int8_t> values(stored.size());
  if (!values.empty()) std::memcpy(values.data(), stored.data(), values.size());
  const auto bad = std::find(values.begin(), values.end(), std::int8_t{-128});
  if (bad != values.end()) {
    fail(name_, printable(key) + ": expected values from -127 to 127, found -128 at index " +
                    std::to_string(bad - values.begin()));
  }
  return values;
}

std::string to_string(const TensorShape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

std::size_t element_count(const TensorShape& shape) {
  std::size_t count = 1;
  for (const std::size_t side : shape) count *= side;
  return count;
}

}  // namespace elan
