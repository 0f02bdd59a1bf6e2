#include "tune_meter.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <utility>

#include "backend.h"
#include "elan/error.h"
#include "model/work.h"
#include "quality/compare.h"
#include "timing.h"

namespace elan::cli {
namespace {

// Times of the same work in each precision, where the device only simulates them: those of tensor
// cores, FP32 as three FP16 products.
double nominal_time(Precision precision) {
  switch (precision) {
    case Precision::int8:
    case Precision::fp8:
      return 0.5;
    case Precision::fp16:
    case Precision::bf16:
      return 1;
    case Precision::tf32:
      return 2;
    case Precision::fp32:
      return 3;
    case Precision::fp64:
      return 24;
  }
  return 1;
}

double nominal_time(const Network& network, const PrecisionPlan& plan) {
  double time = 0, all = 0;
  for (const auto& [operation, work] : operation_work(network)) {
    time += work * nominal_time(plan.at(operation));
    all += work;
  }
  return time / all;
}

// The least of three: one that a hiccup made a fifth longer would rule a precision out.
double operation_ms(Engine& engine, const TestPicture& picture) {
  const int scale = engine.model().scale();
  const int width = picture.width * scale, height = picture.height * scale;
  std::vector<std::uint8_t> large(static_cast<std::size_t>(width) * height * 3);
  const ConstImageView in = picture.view();
  const ImageView out = view_of(large.data(), width, height);
  std::vector<OperationTime> operations;
  RunContext context;
  context.profile = &operations;
  double least = std::numeric_limits<double>::infinity();
  for (int run = 0; run < 3; ++run) {
    engine.backend().run({&in, 1}, {&out, 1}, context);
    double seconds = 0;
    for (const OperationTime& o : operations) seconds += o.seconds;
    least = std::min(least, seconds);
  }
  return least * 1e3;
}

}  // namespace

PlanMeter::PlanMeter(Model model, std::string device, EngineOptions options, Precision exact,
                     std::vector<TestPicture> pictures, PictureSize timing_size,
                     const std::string& state_file)
    : model_(std::move(model)),
      device_(std::move(device)),
      options_(std::move(options)),
      exact_(exact),
      pictures_(std::move(pictures)),
      timing_size_(timing_size),
      state_(state_file, about()) {
  Engine engine = engine_of(PrecisionPlan(exact_));
  for (const TestPicture& picture : pictures_) expected_.push_back(enlarge(engine, picture.view()));
}

// What the state file belongs to.
std::string PlanMeter::about() const {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const TestPicture& picture : pictures_) {
    for (const float value : picture.rgb) {
      hash = (hash ^ std::bit_cast<std::uint32_t>(value)) * 0x100000001b3;
    }
  }
  return model_.fingerprint() + " " + device_ + " " + std::string(to_string(exact_)) + " " +
         std::to_string(hash);
}

std::string PlanMeter::unit() const {
  return simulated() ? "of the time of fp16, by its work" : "ms";
}

Engine PlanMeter::engine_of(const PrecisionPlan& plan) const {
  EngineOptions options = options_;
  options.precision.reset();
  options.precision_plan = plan.to_json();
  return Engine(model_, options);
}

std::string PlanMeter::refusal(const PrecisionPlan& plan) const {
  try {
    static_cast<void>(engine_of(plan));
    return "";
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::usage && error.kind() != ErrorKind::model) throw;
    return error.what();
  }
}

PlanError PlanMeter::error(const PrecisionPlan& plan) {
  const std::string key = plan.to_json();
  if (const auto known = state_.error(key)) return *known;
  Engine engine = engine_of(plan);
  PictureErrors all;
  PlanError error;
  for (std::size_t i = 0; i < pictures_.size(); ++i) {
    const std::vector<float> values = enlarge(engine, pictures_[i].view());
    const int width = pictures_[i].width * model_.scale();
    const int height = pictures_[i].height * model_.scale();
    const PictureErrors one =
        compare_pictures(view_of(std::as_const(values).data(), width, height),
                         view_of(std::as_const(expected_[i]).data(), width, height));
    error.worst_mean = std::max(error.worst_mean, one.values.summary().mean_abs);
    all.add(one);
  }
  error.mean = all.values.summary().mean_abs;
  error.largest = all.values.summary().max_abs;
  state_.set_error(key, error);
  return error;
}

double PlanMeter::milliseconds(const PrecisionPlan& plan) {
  if (simulated()) return nominal_time(model_.network(), plan);
  const std::string key = plan.to_json();
  if (const auto known = state_.milliseconds(key)) return *known;
  Engine engine = engine_of(plan);
  TestPicture picture = normal_picture(timing_size_.width, timing_size_.height, 1);
  for (float& value : picture.rgb) value = std::clamp(128 + 40 * value, 0.0F, 255.0F);
  const double ms =
      engine.backend().own_memory() > 0
          ? operation_ms(engine, picture)
          : percentile(time_runs({.warm_up_ms = 50, .iterations = 5, .duration_ms = 200},
                                 [&] { enlarge(engine, picture.view()); }),
                       50);
  state_.set_milliseconds(key, ms);
  return ms;
}

}  // namespace elan::cli
