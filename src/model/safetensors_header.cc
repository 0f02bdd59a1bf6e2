#include "model/safetensors_header.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "core/printable.h"
#include "elan/error.h"

namespace elan {
namespace {

struct DataType {
  std::string_view name;
  unsigned bits;
};

// All the format defines; which of them hold weights is for the caller to say.
constexpr std::array<DataType, 15> kDataTypes{{{"F64", 64},
                                               {"F32", 32},
                                               {"F16", 16},
                                               {"BF16", 16},
                                               {"F8_E4M3", 8},
                                               {"F8_E5M2", 8},
                                               {"I64", 64},
                                               {"I32", 32},
                                               {"I16", 16},
                                               {"I8", 8},
                                               {"U64", 64},
                                               {"U32", 32},
                                               {"U16", 16},
                                               {"U8", 8},
                                               {"BOOL", 8}}};

constexpr int kMaxDimensions = 8;

// Receives the parser's events. A header has exactly this form, so the state is small:
//   {"__metadata__": {KEY: TEXT, ...}, TENSOR: {"dtype": TEXT, "shape": [N, ...],
//    "data_offsets": [BEGIN, END]}, ...}
// Nothing is kept of a deeper nesting: the first unexpected event ends the parse.
class HeaderEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderEvents(SafetensorsHeader& header) : header_(header) {}

  [[nodiscard]] const std::string& problem() const { return problem_; }

  bool start_object(std::size_t /*unused*/) override {
    switch (place_) {
      case Place::start:
        place_ = Place::top;
        return true;
      case Place::top:
        if (key_ == "__metadata__") {
          if (has_metadata_) return reject("__metadata__: expected it once, found it twice");
          has_metadata_ = true;
          place_ = Place::metadata;
        } else {
          if (header_.entries.contains(key_)) {
            return reject(printable(key_) + ": expected the key once, found it twice");
          }
          tensor_ = {};
          has_dtype_ = has_shape_ = false;
          offsets_.reset();
          place_ = Place::tensor;
        }
        return true;
      default:
        return unexpected("an object");
    }
  }

  bool end_object() override {
    switch (place_) {
      case Place::metadata:
        place_ = Place::top;
        return true;
      case Place::tensor:
        place_ = Place::top;
        return finish_tensor();
      default:
        place_ = Place::end;
        return true;
    }
  }

  bool key(std::string& name) override {
    (place_ == Place::top ? key_ : field_) = name;
    return true;
  }

  bool string(std::string& value) override {
    if (place_ == Place::metadata) {
      if (!header_.metadata.emplace(field_, value).second) {
        return reject("__metadata__: expected each key once, found " + printable(field_) +
                      " twice");
      }
      return true;
    }
    if (place_ == Place::tensor && field_ == "dtype" && !has_dtype_) {
      has_dtype_ = true;
      tensor_.dtype = value;
      return true;
    }
    return unexpected("a text");
  }

  bool start_array(std::size_t /*unused*/) override {
    if (place_ != Place::tensor) return unexpected("an array");
    if (field_ == "shape" && !has_shape_) {
      has_shape_ = true;
      place_ = Place::shape;
      return true;
    }
    if (field_ == "data_offsets" && !offsets_) {
      offsets_.emplace();
      place_ = Place::offsets;
      return true;
    }
    return unexpected("an array");
  }

  bool end_array() override {
    place_ = Place::tensor;
    return true;
  }

  bool number_unsigned(std::uint64_t value) override {
    if (place_ == Place::shape) {
      if (tensor_.shape.size() == kMaxDimensions) {
        return reject(printable(key_) + ": shape: expected at most " +
                      std::to_string(kMaxDimensions) + " sides, found more");
      }
      tensor_.shape.push_back(value);
      return true;
    }
    if (place_ == Place::offsets) {
      if (offsets_->size() == 2) {
        return reject(printable(key_) + ": data_offsets: expected two numbers, found more");
      }
      offsets_->push_back(value);
      return true;
    }
    return unexpected("a number");
  }

  bool null() override { return unexpected("null"); }
  bool boolean(bool value) override { return unexpected(value ? "true" : "false"); }
  bool number_integer(std::int64_t value) override { return unexpected(std::to_string(value)); }
  bool number_float(double /*unused*/, const std::string& text) override {
    return unexpected(printable(text));
  }
  bool binary(nlohmann::json::binary_t& /*unused*/) override { return unexpected("bytes"); }

  bool parse_error(std::size_t position, const std::string& /*unused*/,
                   const nlohmann::json::exception& /*unused*/) override {
    return reject("header: expected JSON, found an error at byte " + std::to_string(position));
  }

 private:
  enum class Place { start, top, metadata, tensor, shape, offsets, end };

  bool reject(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
    return false;
  }

  bool unexpected(const std::string& found) {
    switch (place_) {
      case Place::start:
        return reject("header: expected a JSON object, found " + found);
      case Place::top:
        return reject(printable(key_) + ": expected an object, found " + found);
      case Place::metadata:
        return reject("__metadata__: " + printable(field_) + ": expected a text, found " + found);
      case Place::shape:
        return reject(printable(key_) + ": shape: expected sizes, found " + found);
      case Place::offsets:
        return reject(printable(key_) + ": data_offsets: expected two offsets, found " + found);
      default:
        return reject(printable(key_) + ": expected dtype, shape and data_offsets once, found " +
                      found + " for " + printable(field_));
    }
  }

  bool finish_tensor() {
    if (!has_dtype_ || !has_shape_ || !offsets_ || offsets_->size() != 2) {
      return reject(printable(key_) + ": expected dtype, shape and data_offsets, found no " +
                    (!has_dtype_   ? "dtype"
                     : !has_shape_ ? "shape"
                                   : "data_offsets"));
    }
    tensor_.begin = (*offsets_)[0];
    tensor_.end = (*offsets_)[1];
    header_.entries.emplace(key_, tensor_);
    return true;
  }

  SafetensorsHeader& header_;
  std::string problem_;
  Place place_ = Place::start;
  std::string key_, field_;
  TensorEntry tensor_;
  bool has_metadata_ = false, has_dtype_ = false, has_shape_ = false;
  std::optional<std::vector<std::uint64_t>> offsets_;
};

// Empty if all is well.
std::string check_size(const TensorEntry& tensor, std::uint64_t value_bytes) {
  const auto* const type = std::find_if(kDataTypes.begin(), kDataTypes.end(),
                                        [&](const DataType& t) { return t.name == tensor.dtype; });
  if (type == kDataTypes.end()) {
    return "dtype: expected F32, F16, BF16 or F64, found " + printable(tensor.dtype);
  }
  if (tensor.begin > tensor.end || tensor.end > value_bytes) {
    return "data_offsets: expected a range within the " + std::to_string(value_bytes) +
           " bytes of values, found [" + std::to_string(tensor.begin) + ", " +
           std::to_string(tensor.end) + "]" + (tensor.end > value_bytes ? " (truncated?)" : "");
  }
  std::uint64_t bytes = type->bits / 8;
  for (const std::size_t side : tensor.shape) {
    if (__builtin_mul_overflow(bytes, side, &bytes)) {
      return "shape: expected a size that fits 64 bits, found " + to_string(tensor.shape);
    }
  }
  if (bytes != tensor.end - tensor.begin) {
    return "data_offsets: expected " + std::to_string(bytes) + " bytes for " + tensor.dtype + " " +
           to_string(tensor.shape) + ", found " + std::to_string(tensor.end - tensor.begin);
  }
  return "";
}

// The format allows neither gaps nor overlaps; both tell of a damaged or crafted file.
std::string check_cover(const Safetensors::Entries& entries, std::uint64_t value_bytes) {
  using Item = Safetensors::Entries::value_type;
  std::vector<const Item*> order;
  for (const auto& item : entries) order.push_back(&item);
  std::sort(order.begin(), order.end(), [](const Item* a, const Item* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::uint64_t reached = 0;
  for (const auto* item : order) {
    if (item->second.begin != reached) {
      return printable(item->first) + ": data_offsets: expected to begin at " +
             std::to_string(reached) + ", found " + std::to_string(item->second.begin) +
             (item->second.begin < reached ? " (an overlap)" : " (a gap)");
    }
    reached = item->second.end;
  }
  if (reached != value_bytes) {
    return "values: expected " + std::to_string(reached) + " bytes, found " +
           std::to_string(value_bytes);
  }
  return "";
}

}  // namespace

SafetensorsHeader parse_safetensors_header(const std::string& name, std::string_view json,
                                           std::uint64_t value_bytes) {
  SafetensorsHeader header;
  HeaderEvents events(header);
  std::string problem;
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &events)) {
    problem = events.problem();
  }
  for (const auto& [key, tensor] : header.entries) {
    if (!problem.empty()) break;
    problem = check_size(tensor, value_bytes);
    if (!problem.empty()) problem = printable(key) + ": " + problem;
  }
  if (problem.empty()) problem = check_cover(header.entries, value_bytes);
  if (!problem.empty()) throw Error(ErrorKind::model, name + ": " + problem);
  return header;
}

}  // namespace elan
