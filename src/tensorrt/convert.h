// Between dense interleaved pictures of any sample type and the planar floats of an engine.
#pragma once

#include <cuda_runtime_api.h>

#include "elan/image.h"

namespace elan::tensorrt {

struct PictureBatch {
  int batch = 0, height = 0, width = 0;
};

// [batch][height][width][3] -> [batch][3][height][width], 0..255.
void launch_to_planar(const void* pictures, SampleType type, float* planar,
                      const PictureBatch& size, cudaStream_t stream);

// The inverse; whole samples are rounded half to even and clamped.
void launch_from_planar(const float* planar, void* pictures, SampleType type,
                        const PictureBatch& size, cudaStream_t stream);

}  // namespace elan::tensorrt
