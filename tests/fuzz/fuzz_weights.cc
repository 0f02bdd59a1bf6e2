// libFuzzer target: any bytes as a weights file, and, if they are one, a picture through it.
// Run by scripts/fuzz.sh; tests/fuzz/weights holds the inputs to start from.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

#include "backend.h"
#include "elan/error.h"
#include "model/checkpoint.h"
#include "model/describe.h"
#include "model/safetensors.h"

namespace {

constexpr double kMaxWork = 1e5;  // multiply-adds per pixel; keeps a run within milliseconds

void upscale_one_pixel(elan::Network network) {
  if (elan::multiply_adds_per_pixel(network.arch) > kMaxWork) return;
  const auto net = std::make_shared<const elan::Network>(std::move(network));
  const auto scale = net->arch.scale;
  const std::array<std::uint8_t, 3> pixel{12, 200, 99};
  std::vector<std::uint8_t> enlarged(static_cast<std::size_t>(scale) * scale * 3);
  const elan::ConstImageView in = elan::view_of(pixel.data(), 1, 1);
  const elan::ImageView out = elan::view_of(enlarged.data(), scale, scale);
  elan::make_reference_backend(net, elan::Precision::fp32)->run({&in, 1}, {&out, 1}, {});
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): libFuzzer calls these by their names
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto file = elan::Safetensors::parse("fuzz", std::as_bytes(std::span(data, size)));
    upscale_one_pixel(elan::read_checkpoint(file).network);
  } catch (const elan::Error& error) {
    const std::string_view message = error.what();
    const bool one_line = std::none_of(message.begin(), message.end(),
                                       [](unsigned char c) { return c < 32 || c == 127; });
    if (error.kind() != elan::ErrorKind::model || !message.starts_with("fuzz: ") || !one_line) {
      std::abort();
    }
  }
  return 0;
}

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

// Most changes make the header longer or shorter than its length says, and nothing behind that
// would ever be reached: mend the length after every other mutation.
extern "C" __attribute__((weak)) std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data,
                                                                     std::size_t size,
                                                                     std::size_t max_size,
                                                                     unsigned seed) {
  const std::size_t mutated = LLVMFuzzerMutate(data, size, max_size);
  const std::string_view text(reinterpret_cast<const char*>(data), mutated);
  const std::size_t end = text.find("}}", 8);
  if (seed % 2 == 0 && end != std::string_view::npos) {
    const std::uint64_t length = end + 2 - 8;
    std::memcpy(data, &length, sizeof length);
  }
  return mutated;
}
// NOLINTEND(readability-identifier-naming)
