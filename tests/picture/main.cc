// GoogleTest's main, with libvips set up first.
#include <gtest/gtest.h>

#include "picture/picture.h"

namespace {
class Setup : public testing::Environment {
  void SetUp() override { elan::picture::initialise(2); }
};
const testing::Environment* const kSetup = testing::AddGlobalTestEnvironment(new Setup);
}  // namespace
