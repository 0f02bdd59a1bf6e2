#include "model/rounding.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include "elan/error.h"

namespace elan {
namespace {

struct Format {
  int digits;       // of the significand, the leading 1 included
  int least_power;  // the smallest normal number is 2 to this
  int most_power;   // all numbers are below 2 to this
  // What is larger becomes this.
  float most = std::numeric_limits<float>::infinity();
};

Format format_of(Precision precision) {
  switch (precision) {
    case Precision::fp32:
      return {24, -126, 128};
    case Precision::tf32:
      return {11, -126, 128};
    case Precision::bf16:
      return {8, -126, 128};
    case Precision::fp16:
      return {11, -14, 16};
    case Precision::fp8:
      return {4, -6, 9, kMostFp8};
    default:
      throw Error(ErrorKind::internal, std::string(to_string(precision)) + ": no rounding");
  }
}

// Without branches, so that the compiler vectorises the loop over it.
template <typename T>
class Rounder {
 public:
  explicit Rounder(const Format& format)
      : dropped_(std::numeric_limits<T>::digits - format.digits),
        smallest_(std::ldexp(T(1), format.least_power)),
        limit_(std::ldexp(T(1), format.most_power - 1) * 2),
        most_(format.most),
        shifter_(T(1.5) * std::ldexp(T(1), format.least_power + dropped_)) {}

  T operator()(T value) const {
    const Bits bits = std::bit_cast<Bits>(value);
    const Bits half = (Bits(1) << dropped_ >> 1) - 1 + (bits >> dropped_ & 1);
    const T normal = std::bit_cast<T>((bits + half) >> dropped_ << dropped_);
    const T small = (value + shifter_) - shifter_;  // the sum's last digit is the format's last
    const T rounded = std::abs(value) < smallest_ ? small : normal;
    const T finite = std::abs(rounded) < limit_ ? rounded : std::copysign(kInfinity, value);
    const T within = std::abs(finite) < most_ ? finite : std::copysign(most_, value);
    return std::isnan(value) ? value : within;
  }

 private:
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  static constexpr T kInfinity = std::numeric_limits<T>::infinity();

  int dropped_;  // bits at the end of T's significand
  T smallest_, limit_, most_, shifter_;
};

}  // namespace

template <typename T>
void round_to(Precision precision, std::span<T> values) {
  if (holds<T>(precision)) return;
  const Rounder<T> round(format_of(precision));
  for (T& value : values) value = round(value);
}

template void round_to(Precision, std::span<float>);
template void round_to(Precision, std::span<double>);

Fp8Matrix fp8_matrix(std::span<const float> weight, std::size_t rows) {
  Fp8Matrix m{{weight.begin(), weight.end()}, {}};
  const std::size_t columns = weight.size() / rows;
  for (std::size_t row = 0; row < rows; ++row) {
    const std::span<float> values(m.weight.data() + row * columns, columns);
    float largest = 0;
    for (const float v : values) largest = std::max(largest, std::abs(v));
    m.scale.push_back(largest > 0 ? largest / kMostFp8 : 1);
    for (float& v : values) v /= m.scale.back();
  }
  round_to<float>(Precision::fp8, m.weight);
  return m;
}

}  // namespace elan
