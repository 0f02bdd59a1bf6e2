// What plans of precisions do to the pictures of a search and to its time, each measured once.
#pragma once

#include <string>
#include <vector>

#include "core/picture_size.h"
#include "elan/engine.h"
#include "model/plan.h"
#include "test_pictures.h"
#include "tune_state.h"

namespace elan::cli {

class PlanMeter {
 public:
  // Errors are against the results of `model` in the precision `exact` on the `device` of
  // `options`. `state_file`: where measurements are kept; empty: nowhere.
  PlanMeter(Model model, std::string device, EngineOptions options, Precision exact,
            std::vector<TestPicture> pictures, PictureSize timing_size,
            const std::string& state_file);

  [[nodiscard]] const Model& model() const { return model_; }
  [[nodiscard]] const std::string& device() const { return device_; }
  [[nodiscard]] Precision exact() const { return exact_; }
  [[nodiscard]] const std::vector<TestPicture>& pictures() const { return pictures_; }
  // Whether the device only rounds as others do: its times say nothing, and it has one thread a
  // picture.
  [[nodiscard]] bool simulated() const { return device_ == "reference"; }
  [[nodiscard]] int threads() const { return options_.threads; }
  // "ms", or what milliseconds() of a simulation are.
  [[nodiscard]] std::string unit() const;

  [[nodiscard]] Engine engine_of(const PrecisionPlan& plan) const;
  // Empty when the device can run the plan, else why it cannot.
  [[nodiscard]] std::string refusal(const PrecisionPlan& plan) const;

  // Several threads may ask at once.
  PlanError error(const PrecisionPlan& plan);

  // Of the timing picture: of its operations where the device works beside the host's memory; the
  // rates at hand where it only simulates.
  double milliseconds(const PrecisionPlan& plan);

 private:
  [[nodiscard]] std::string about() const;

  Model model_;
  std::string device_;
  EngineOptions options_;
  Precision exact_;
  std::vector<TestPicture> pictures_;
  PictureSize timing_size_;
  TuneState state_;
  std::vector<std::vector<float>> expected_;  // results in the exact precision
};

}  // namespace elan::cli
