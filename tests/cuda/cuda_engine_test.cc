// The public interface for pictures on the device, as far as it goes without one.
#include <gtest/gtest.h>

#include <string>

#include "cuda/check_pictures.h"
#include "elan/cuda.h"
#include "support/golden.h"
#if ELANSR_HAVE_CUDA
#include "cuda/cuda_backend.h"
#include "cuda/device.h"
#endif

namespace elan {
namespace {

// What the check says; empty: nothing.
std::string complaint(const ConstCudaPictures& in, const CudaPictures& out, int scale) {
  try {
    cuda::check_pictures(in, out, scale);
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    return error.what();
  }
}

TEST(CudaPictures, AreCheckedBeforeTheyReachTheDevice) {
  int memory = 0;
  const ConstCudaPictures in{&memory, 30, 20, 2};
  const CudaPictures out{&memory, 60, 40, 2};
  EXPECT_EQ(complaint(in, out, 2), "");
  EXPECT_NE(complaint(in, out, 3).find("expected 90x60, batch 2"), std::string::npos);
  EXPECT_NE(complaint(in, {&memory, 60, 41, 2}, 2).find("found 60x41"), std::string::npos);
  EXPECT_NE(complaint(in, {&memory, 60, 40, 1}, 2).find("found 60x40, batch 1"), std::string::npos);
  EXPECT_NE(complaint({nullptr, 30, 20, 2}, out, 2).find("input: expected device memory"),
            std::string::npos);
  EXPECT_NE(complaint(in, {nullptr, 60, 40, 2}, 2).find("output: expected device memory"),
            std::string::npos);
  EXPECT_NE(complaint({&memory, 0, 20, 2}, out, 2), "");
  EXPECT_NE(complaint({&memory, 30, 20, 70000}, out, 2), "");
  ConstCudaPictures dark = in;
  dark.white = 0;
  EXPECT_NE(complaint(dark, out, 2).find("white"), std::string::npos);
}

TEST(CudaEngine, WithoutADeviceThereIsOneLineThatSaysWhy) {
#if ELANSR_HAVE_CUDA
  if (cuda_device_count() > 0) GTEST_SKIP() << "there is one: " << cuda_status();
  const std::string expected = "cuda:1: expected an NVIDIA GPU, found " + cuda_status();
#else
  const std::string expected = "cuda:1: expected a build with CUDA, found one without";
#endif
  try {
    const CudaEngine engine(Model::load(test::model_path("elan_light_x4")), {.device = 1});
    FAIL() << "made";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::device);
    EXPECT_EQ(error.what(), expected);
  }
}

#if ELANSR_HAVE_CUDA
TEST(CudaDevice, SaysWhyThereIsNone) {
  EXPECT_EQ(cuda::no_device_text(cudaErrorInsufficientDriver, 0, 13000), "no NVIDIA driver");
  EXPECT_EQ(cuda::no_device_text(cudaErrorInsufficientDriver, 12040, 13000),
            "a driver for CUDA 12.4, older than the CUDA 13.0 that this program was built with");
  EXPECT_EQ(cuda::no_device_text(cudaErrorNoDevice, 13000, 13000),
            "no CUDA-capable device is detected");
}

TEST(CudaDevice, ErrorsNameCallAndPlace) {
  try {
    cuda::check(cudaErrorInvalidValue, "cudaMemcpy(a, b)", "/somewhere/src/cuda/slot.cc", 12);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::device);
    EXPECT_STREQ(error.what(), "cuda: invalid argument in cudaMemcpy(a, b) (src/cuda/slot.cc:12)");
  }
  try {
    cuda::check(cudaErrorMemoryAllocation, "cudaMalloc(p)", "src/cuda/device.h", 1);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::memory) << "so that smaller tiles are tried";
  }
}
#endif

}  // namespace
}  // namespace elan
