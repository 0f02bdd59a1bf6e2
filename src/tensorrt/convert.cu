#include "cuda/kernels/samples.cuh"
#include "tensorrt/convert.h"

namespace elan::tensorrt {
namespace {

constexpr int kThreads = 256;

struct Place {
  std::size_t picture, planar;
};

// Of sample `i` of the interleaved pictures.
__device__ Place place_of(std::size_t i, std::size_t pixels) {
  const std::size_t colour = i % 3, pixel = i / 3 % pixels, image = i / 3 / pixels;
  return {i, (image * 3 + colour) * pixels + pixel};
}

__global__ void to_planar(const void* pictures, SampleType type, float* planar, std::size_t pixels,
                          std::size_t samples) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= samples) return;
  const Place at = place_of(i, pixels);
  planar[at.planar] = cuda::load_sample(pictures, static_cast<int>(type), at.picture);
}

__global__ void from_planar(const float* planar, void* pictures, SampleType type,
                            std::size_t pixels, std::size_t samples) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= samples) return;
  const Place at = place_of(i, pixels);
  cuda::store_sample(pictures, static_cast<int>(type), at.picture, planar[at.planar]);
}

unsigned blocks_for(std::size_t samples) {
  return static_cast<unsigned>((samples + kThreads - 1) / kThreads);
}

}  // namespace

void launch_to_planar(const void* pictures, SampleType type, float* planar,
                      const PictureBatch& size, cudaStream_t stream) {
  const std::size_t pixels = static_cast<std::size_t>(size.height) * size.width;
  const std::size_t samples = 3 * pixels * size.batch;
  to_planar<<<blocks_for(samples), kThreads, 0, stream>>>(pictures, type, planar, pixels, samples);
}

void launch_from_planar(const float* planar, void* pictures, SampleType type,
                        const PictureBatch& size, cudaStream_t stream) {
  const std::size_t pixels = static_cast<std::size_t>(size.height) * size.width;
  const std::size_t samples = 3 * pixels * size.batch;
  from_planar<<<blocks_for(samples), kThreads, 0, stream>>>(planar, pictures, type, pixels,
                                                            samples);
}

}  // namespace elan::tensorrt
