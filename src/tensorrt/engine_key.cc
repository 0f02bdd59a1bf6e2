#include "tensorrt/engine_key.h"

#include <span>

#include "elan/error.h"
#include "model/fingerprint.h"
#include "model/network.h"
#include "model/stages.h"

namespace elan::tensorrt {
namespace {

constexpr int kWindow = 16;  // the largest, to whose multiples a picture is padded
constexpr int kMostSide = 16384, kMostBatch = 256, kMostEffort = 5;

std::string text_of(const PictureSize& size) {
  return std::to_string(size.width) + "x" + std::to_string(size.height);
}

std::string digits_of(std::uint64_t hash) {
  std::string digits(16, '0');
  for (int i = 0; i < 16; ++i) {
    digits[static_cast<std::size_t>(i)] = "0123456789abcdef"[hash >> (60 - 4 * i) & 15];
  }
  return digits;
}

bool within(const PictureSize& least, const PictureSize& size, const PictureSize& most) {
  return least.width <= size.width && size.width <= most.width && least.height <= size.height &&
         size.height <= most.height;
}

std::string text_of(const PrecisionPlan& plan) {
  return plan.uniform() ? std::string(to_string(plan.default_precision())) : plan.to_json();
}

// Hash of the pictures' values.
std::string text_of(const Calibration& calibration) {
  std::uint64_t hash = calibration.copied ? 1 : 0;
  for (const auto& picture : calibration.pictures) {
    hash = xxh64(std::as_bytes(std::span(picture)), hash);
  }
  return std::to_string(calibration.pictures.size()) + " pictures " + digits_of(hash) +
         (calibration.copied ? "" : ", not copied");
}

void check_precision(const BuildOptions& options) {
  const PrecisionPlan& plan = options.precision;
  const Precision first = plan.default_precision();
  const std::string found =
      "found " + (plan.uniform() ? std::string(to_string(first)) : "a plan of several");
  if (first == Precision::bf16 || first == Precision::fp64) {
    throw Error(ErrorKind::usage,
                "tensorrt: expected precision fp32, tf32, fp16, fp8 or int8, " + found);
  }
  const bool mostly_half = first == Precision::fp16 || first == Precision::int8;
  if (options.loose && (!plan.uniform() || !mostly_half || options.plugins)) {
    throw Error(ErrorKind::usage, "--loose: expected precision fp16 or int8 without plugins, " +
                                      found + (options.plugins ? " with plugins" : ""));
  }
  if (options.plugins && (!plan.uniform() || first == Precision::fp8)) {
    throw Error(ErrorKind::usage,
                "--plugins: expected precision fp32, tf32, fp16 or int8, " + found);
  }
  if (!options.calibration) return;
  if (options.plugins) {
    throw Error(ErrorKind::usage,
                "--calibrate: expected no plugins, which have the model's scales");
  }
  if (!plan.uniform() || first != Precision::int8) {
    throw Error(ErrorKind::usage, "--calibrate: expected precision int8, " + found);
  }
  const PictureSize size = calibration_size(options.profile);
  const std::size_t wanted = std::size_t{3} * size.width * size.height;
  if (options.calibration->pictures.empty()) {
    throw Error(ErrorKind::usage, "--calibrate: expected pictures, found none");
  }
  for (const auto& picture : options.calibration->pictures) {
    if (picture.size() == wanted) continue;
    throw Error(ErrorKind::usage, "--calibrate: expected pictures of " + text_of(size) +
                                      " pixels, found " + std::to_string(picture.size()) +
                                      " values");
  }
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

PictureSize calibration_size(const Profile& profile) {
  constexpr int kMost = 64;
  const auto side = [](int best) {
    const int beyond = best % kWindow;
    return best <= kMost ? best : kMost - (beyond == 0 ? 0 : kWindow - beyond);
  };
  return {side(profile.best.width), side(profile.best.height)};
}

BuildOptions calibrating(const BuildOptions& options) {
  BuildOptions result = options;
  const PictureSize size = calibration_size(options.profile);
  result.profile = {size, size, size, 1};
  if (!options.profile.in_graph()) result.profile = {{1, 1}, size, {64, 64}, 1};
  result.effort = 0;
  result.loose = false;
  return result;
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
  if (options.effort < 0 || options.effort > kMostEffort) {
    throw Error(ErrorKind::usage, "effort: expected 0.." + std::to_string(kMostEffort) +
                                      ", found " + std::to_string(options.effort));
  }
  check_precision(options);
}

void check(const BuildOptions& options, const Model& model) {
  check(options);
  const Architecture& arch = model.architecture();
  options.precision.check(arch);
  check_able(options.precision, arch, "tensorrt", [](std::string_view) {
    return std::vector{Precision::fp32, Precision::tf32, Precision::fp16, Precision::fp8,
                       Precision::int8};
  });
  if (options.calibration || model.network().quantized()) return;
  for (const std::string& operation : operation_names(arch)) {
    const Precision asked = options.precision.at(operation);
    if (asked != Precision::int8 && asked != Precision::fp8) continue;
    throw Error(ErrorKind::usage,
                "tensorrt: expected a model in 8 bits (elan-sr quantize) or --calibrate for " +
                    std::string(to_string(asked)) + ", found neither");
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
  line("precision", text_of(options.precision));
  line("scales", options.calibration ? text_of(*options.calibration) : "the model's");
  line("effort", std::to_string(options.effort));
  line("loose", options.loose ? "yes" : "no");
  line("sizes", to_string(options.profile));
  line("batch", std::to_string(options.profile.batch));
  line("plugins", options.plugins ? kPluginVersion : "none");
  line("tensorrt", runtime.flavour + " " + runtime.version);
  line("gpu", runtime.gpu);
  return text;
}

std::string key_of(const std::string& description) {
  return digits_of(xxh64(std::as_bytes(std::span(description)), 0));
}

}  // namespace elan::tensorrt
