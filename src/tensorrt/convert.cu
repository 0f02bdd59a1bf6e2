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
  float v = 0;
  if (type == SampleType::u8) {
    v = static_cast<const unsigned char*>(pictures)[at.picture];
  } else if (type == SampleType::u16) {
    v = static_cast<float>(static_cast<const unsigned short*>(pictures)[at.picture]) *
        (1.F / 257.F);
  } else {
    v = static_cast<const float*>(pictures)[at.picture];
  }
  planar[at.planar] = v;
}

__global__ void from_planar(const float* planar, void* pictures, SampleType type,
                            std::size_t pixels, std::size_t samples) {
  const std::size_t i = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= samples) return;
  const Place at = place_of(i, pixels);
  const float v = planar[at.planar];
  if (type == SampleType::u8) {
    static_cast<unsigned char*>(pictures)[at.picture] =
        static_cast<unsigned char>(min(max(__float2int_rn(v), 0), 255));
  } else if (type == SampleType::u16) {
    static_cast<unsigned short*>(pictures)[at.picture] =
        static_cast<unsigned short>(min(max(__float2int_rn(v * 257.F), 0), 65535));
  } else {
    static_cast<float*>(pictures)[at.picture] = v;
  }
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
