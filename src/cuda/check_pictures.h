// What is wrong with pictures given to the public interface, found without a device.
#pragma once

#include "elan/cuda.h"

namespace elan::cuda {

// Throw Error (input).
void check_size(const char* name, int width, int height, int batch);
void check_pictures(const ConstCudaPictures& in, const CudaPictures& out, int scale);

}  // namespace elan::cuda
