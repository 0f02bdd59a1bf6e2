// Numbers in the formats of the tensor cores and of the stream.
#include <bit>
#include <cmath>

#include "cuda/pack.h"
#include "model/rounding.h"

namespace elan::cuda {

std::uint16_t to_half(float v) {
  const auto bits = std::bit_cast<std::uint32_t>(v);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return static_cast<std::uint16_t>(sign | 0x7e00U);
  if (magnitude >= 0x477ff000U) return static_cast<std::uint16_t>(sign | 0x7c00U);  // 65520
  if (magnitude < 0x38800000U) {  // below the normal numbers: multiples of 2^-24
    const float steps = std::nearbyint(std::bit_cast<float>(magnitude) * 0x1p24F);
    return static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(steps));
  }
  const std::uint32_t rounded = magnitude + 0xfffU + (magnitude >> 13 & 1U);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
}

std::uint8_t to_e4m3(float v) {
  round_to<float>(Precision::fp8, {&v, 1});
  const int sign = std::signbit(v) ? 0x80 : 0;
  const float magnitude = std::abs(v);
  if (std::isnan(v)) return 0x7f;
  if (magnitude < 0x1p-6F) return static_cast<std::uint8_t>(sign | std::lround(magnitude * 512));
  const int exponent = std::ilogb(magnitude);
  const long eighths = std::lround(std::ldexp(magnitude, 3 - exponent)) - 8;
  return static_cast<std::uint8_t>(sign | (exponent + 7) << 3 | eighths);
}

float from_half(std::uint16_t h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  const float sign = (h & 0x8000) != 0 ? -1.F : 1.F;
  if (exponent == 31) return mantissa != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
  return sign * std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
}

float stream_number(const void* stream, StreamFormat format, int units, std::size_t pixels,
                    std::size_t pixel, int channel) {
  const std::size_t stride = 8 * static_cast<std::size_t>(units);
  const std::size_t i = pixel * stride + static_cast<std::size_t>(channel);
  if (format == StreamFormat::fp32) return static_cast<const float*>(stream)[i];
  const float first = from_half(static_cast<const std::uint16_t*>(stream)[i]);
  if (format == StreamFormat::fp16) return first;
  const auto* rest = static_cast<const std::uint8_t*>(stream) + pixels * stride * 2;
  const std::size_t at = pixel * static_cast<std::size_t>(rest_bytes(units)) +
                         static_cast<std::size_t>(rest_byte(units, channel));
  return first + from_half(static_cast<std::uint16_t>(rest[at] << 8));
}

std::uint16_t to_bf16(float v) {
  const auto bits = std::bit_cast<std::uint32_t>(v);
  return static_cast<std::uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

std::uint32_t to_tf32_bits(float v) {
  return (std::bit_cast<std::uint32_t>(v) + 0x1000U) & 0xffffe000U;
}

}  // namespace elan::cuda
