#include "tensorrt/engine_key.h"

#include <span>

#include "elan/error.h"
#include "model/fingerprint.h"

namespace elan::tensorrt {
namespace {

constexpr int kMostSide = 16384, kMostBatch = 256;

std::string text_of(const PictureSize& size) {
  return std::to_string(size.width) + "x" + std::to_string(size.height);
}

bool within(const PictureSize& least, const PictureSize& size, const PictureSize& most) {
  return least.width <= size.width && size.width <= most.width && least.height <= size.height &&
         size.height <= most.height;
}

}  // namespace

bool Profile::fixed() const {
  return least == best && best == most;
}

bool Profile::holds(int width, int height, int pictures) const {
  return within(least, {width, height}, most) && pictures >= 1 && pictures <= batch;
}

std::string to_string(const Profile& profile) {
  if (profile.fixed()) return text_of(profile.best);
  return text_of(profile.least) + "/" + text_of(profile.best) + "/" + text_of(profile.most);
}

void check(const BuildOptions& options) {
  const Profile& p = options.profile;
  const std::string sizes = to_string(p);
  if (p.least.width < 1 || p.least.height < 1 || !within(p.least, p.best, p.most) ||
      p.most.width > kMostSide || p.most.height > kMostSide) {
    throw Error(ErrorKind::usage,
                "sizes: expected 1x1 <= least <= best <= most <= " + std::to_string(kMostSide) +
                    "x" + std::to_string(kMostSide) + ", found " + sizes);
  }
  if (p.batch < 1 || p.batch > kMostBatch) {
    throw Error(ErrorKind::usage, "batch: expected 1.." + std::to_string(kMostBatch) + ", found " +
                                      std::to_string(p.batch));
  }
  if (options.precision != Precision::fp32 && options.precision != Precision::tf32 &&
      options.precision != Precision::fp16) {
    throw Error(ErrorKind::usage, "tensorrt: expected precision fp32, tf32 or fp16, found " +
                                      std::string(to_string(options.precision)));
  }
  if (options.loose && (options.precision != Precision::fp16 || options.plugins)) {
    throw Error(ErrorKind::usage, "--loose: expected precision fp16 without plugins, found " +
                                      std::string(to_string(options.precision)) +
                                      (options.plugins ? " with plugins" : ""));
  }
}

std::string describe(const std::string& fingerprint, const BuildOptions& options,
                     const Runtime& runtime) {
  std::string text;
  const auto line = [&text](const char* name, const std::string& value) {
    text += std::string(name) + ": " + value + "\n";
  };
  line("recipe", std::to_string(kRecipeVersion));
  line("weights", fingerprint);
  line("precision", std::string(to_string(options.precision)) + (options.loose ? ", loose" : ""));
  line("sizes", to_string(options.profile));
  line("batch", std::to_string(options.profile.batch));
  line("plugins", options.plugins ? kPluginVersion : "none");
  line("tensorrt", runtime.flavour + " " + runtime.version);
  line("gpu", runtime.gpu);
  return text;
}

std::string key_of(const std::string& description) {
  const std::uint64_t hash = xxh64(std::as_bytes(std::span(description)), 0);
  std::string digits(16, '0');
  for (int i = 0; i < 16; ++i) {
    digits[static_cast<std::size_t>(i)] = "0123456789abcdef"[hash >> (60 - 4 * i) & 15];
  }
  return digits;
}

}  // namespace elan::tensorrt
