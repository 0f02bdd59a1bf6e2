// TensorRT 8.6's side of a calibration, played by hand.
#include "tensorrt/calibrator.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace elan::tensorrt {
namespace {

constexpr const char* kInput = "input";

// Asks for a batch as TensorRT does; null: there was none.
void* next_of(Calibrator& calibrator, const char* name = kInput, int32_t count = 1) {
  void* binding = nullptr;
  return calibrator.getBatch(&binding, &name, count) ? binding : nullptr;
}

std::vector<std::byte> bytes(std::size_t count) {
  return std::vector(count, std::byte{7});
}

TEST(EngineCalibrator, GivesEachPictureOnceAndKeepsTheScales) {
  float device[3] = {};
  std::vector<std::byte> scales;
  Calibrator calibrator(3, [&](std::size_t k) { return device + k; }, scales);
  std::size_t length = 99;
  EXPECT_EQ(calibrator.readCalibrationCache(length), nullptr);
  EXPECT_EQ(length, 0U);
  EXPECT_EQ(calibrator.getBatchSize(), 1);
  for (float& picture : device) EXPECT_EQ(next_of(calibrator), &picture);
  EXPECT_EQ(next_of(calibrator), nullptr);
  const std::vector<std::byte> found = bytes(100);
  calibrator.writeCalibrationCache(found.data(), found.size());
  EXPECT_EQ(scales, found);
}

TEST(EngineCalibrator, GivesBackScalesThatItHas) {
  std::vector<std::byte> scales = bytes(50);
  Calibrator calibrator(0, {}, scales);
  std::size_t length = 0;
  const void* given = calibrator.readCalibrationCache(length);
  EXPECT_EQ(given, scales.data());
  EXPECT_EQ(length, 50U);
  calibrator.writeCalibrationCache(given, length);
  EXPECT_EQ(scales, bytes(50));
}

TEST(EngineCalibrator, EndsWithoutAPictureWhereThatFails) {
  float device = 0;
  std::vector<std::byte> scales;
  Calibrator other(9, [&](std::size_t) { return &device; }, scales);
  EXPECT_EQ(next_of(other, "output"), nullptr);
  EXPECT_EQ(next_of(other, kInput, 2), nullptr);
  Calibrator none(9, [](std::size_t) { return nullptr; }, scales);
  EXPECT_EQ(next_of(none), nullptr);
  none.rethrow_failure();  // nothing to say
  Calibrator failing(
      9, [](std::size_t) -> void* { throw std::runtime_error("no memory"); }, scales);
  EXPECT_EQ(next_of(failing), nullptr);
  EXPECT_THROW(failing.rethrow_failure(), std::runtime_error);
}

}  // namespace
}  // namespace elan::tensorrt
