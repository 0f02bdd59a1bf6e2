#include "cuda/kernels/instantiate.cuh"

namespace elan::cuda {
ELAN_INSTANTIATE(int8, CodecInt8, __half, float)
}  // namespace elan::cuda
