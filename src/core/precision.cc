#include "elan/precision.h"

#include <array>
#include <string>
#include <utility>

#include "elan/error.h"

namespace elan {
namespace {

constexpr std::array<std::pair<Precision, std::string_view>, 7> kNames{{{Precision::fp64, "fp64"},
                                                                        {Precision::fp32, "fp32"},
                                                                        {Precision::tf32, "tf32"},
                                                                        {Precision::bf16, "bf16"},
                                                                        {Precision::fp16, "fp16"},
                                                                        {Precision::fp8, "fp8"},
                                                                        {Precision::int8, "int8"}}};

}  // namespace

std::string_view to_string(Precision precision) {
  for (const auto& [value, name] : kNames) {
    if (value == precision) return name;
  }
  throw Error(ErrorKind::internal, "a precision without a name");
}

Precision parse_precision(std::string_view name) {
  std::string known;
  for (const auto& [value, text] : kNames) {
    if (text == name) return value;
    known += (known.empty() ? "" : ", ") + std::string(text);
  }
  throw Error(ErrorKind::usage,
              "precision: expected one of " + known + "; found " + std::string(name));
}

}  // namespace elan
