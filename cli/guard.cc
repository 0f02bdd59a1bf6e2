#include "guard.h"

#include <array>
#include <charconv>
#include <cstdio>
#include <map>
#include <utility>
#include <vector>

#include "elan/error.h"
#include "model/plan.h"
#include "quality/compare.h"
#include "test_pictures.h"

namespace elan::cli {
namespace {

constexpr double kShare = 0.05;
// What the exact tile costs, for each pixel of the tile, in pixels of the run; its own included.
constexpr double kPixelsForOne = 4;
// And to make an engine for it.
constexpr double kPixelsOfAnEngine = 2000, kPixelsOfAGpuEngine = 1e6;

std::optional<double> expected_in(const std::map<std::string, std::string>& metadata) {
  const auto found = metadata.find(kExpectedError);
  if (found == metadata.end()) return std::nullopt;
  const std::string& text = found->second;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0)) {
    return std::nullopt;
  }
  return value;
}

}  // namespace

Guard::Guard(Mode mode, const EngineOptions& options) : mode_(mode), exact_(options) {
  exact_.precision = Precision::fp32;
  exact_.tile = 0;
  const std::string plan = std::exchange(exact_.precision_plan, {});
  if (!plan.empty()) {
    expected_of_plan_ = expected_in(PrecisionPlan::read(plan, Precision::fp32).metadata());
  }
}

int Guard::claim(const Engine& engine, int width, int height) {
  const std::lock_guard lock(mutex_);
  pixels_ += static_cast<double>(width) * height;
  if (done_) return 0;
  for (const int side : {64, 32}) {
    const double cost = kPixelsForOne * side * side +
                        (engine.device() == "cuda" ? kPixelsOfAGpuEngine : kPixelsOfAnEngine);
    if (mode_ == Mode::always || cost <= kShare * pixels_) {
      done_ = true;
      return side;
    }
  }
  return 0;
}

std::optional<std::string> Guard::check(Engine& engine, const picture::Picture& picture) {
  if (mode_ == Mode::never) return std::nullopt;
  const bool mixed = !engine.precision_plan().empty();
  const bool quantised =
      engine.precision() == Precision::int8 || engine.precision() == Precision::fp8;
  std::optional<double> expected;
  double tolerance = kToleranceOfPlan;
  if (mixed) expected = expected_of_plan_;
  if (!expected && (mixed || quantised)) {
    expected = expected_in(engine.model().metadata());
    tolerance = kToleranceOfWeights;
  }
  if (!expected && !mixed && engine.precision() == Precision::fp8) expected = kExpectedOfFp8;
  if (!expected) return std::nullopt;
  const double most = tolerance * *expected;
  const int side = claim(engine, picture.width(), picture.height());
  if (side == 0) return std::nullopt;

  const ConstImageView tile = middle_of(picture.rgb(), side);
  Engine reference(engine.model(), exact_);
  const std::vector<float> is = enlarge(engine, tile), should = enlarge(reference, tile);
  const int width = tile.width * engine.model().scale();
  const int height = tile.height * engine.model().scale();
  const double error =
      compare_pictures(view_of(is.data(), width, height), view_of(should.data(), width, height))
          .values.summary()
          .mean_abs;
  if (error <= most) return std::nullopt;
  std::array<char, 200> text{};
  std::snprintf(text.data(), text.size(),
                "precision: expected a mean error of at most %.2g levels on a sample of the "
                "picture, found %.2g; --precision fp32 is exact",
                most, error);
  return text.data();
}

}  // namespace elan::cli
