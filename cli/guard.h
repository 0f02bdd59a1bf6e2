// Notices a picture that a reduced precision does not suit: compares a sample tile with FP32.
#pragma once

#include <cstddef>
#include <mutex>
#include <optional>
#include <string>

#include "elan/engine.h"
#include "picture/picture.h"

namespace elan::cli {

// The text in the metadata of a plan, or of an 8-bit weights file, that says how far its makers'
// worst picture was from FP32: mean absolute error in levels of 0..255.
inline constexpr const char* kExpectedError = "worst_mean_abs_error";

class Guard {
 public:
  enum class Mode {
    affordable,  // once a run, when it takes no more than 5 % of the work so far
    always,      // once a run, with the first picture
    never,
  };

  // `options`: of the engines that are checked. Throws as PrecisionPlan::read.
  Guard(Mode mode, const EngineOptions& options);

  // Called after each picture. A warning, if the sample strayed more than the tolerance times as
  // far as was expected. Nothing is checked where nothing was expected. Safe to call from several
  // threads.
  std::optional<std::string> check(Engine& engine, const picture::Picture& picture);

  // Of a plan, which is made from a few pictures, and of 8-bit weights, made from dozens. Twice
  // what the worst of many pictures needed.
  static constexpr double kToleranceOfPlan = 3, kToleranceOfWeights = 1.5;
  // Of fp8 with a model that says nothing.
  static constexpr double kExpectedOfFp8 = 1;

 private:
  // Side of the tile to check, 0: not now.
  int claim(const Engine& engine, int width, int height);

  const Mode mode_;
  EngineOptions exact_;
  std::optional<double> expected_of_plan_;
  std::mutex mutex_;
  bool done_ = false;  // guarded by mutex_
  double pixels_ = 0;  // of the pictures so far; guarded by mutex_
};

}  // namespace elan::cli
