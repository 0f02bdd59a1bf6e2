#include "cuda/kernels/instantiate.cuh"

namespace elan::cuda {
ELAN_INSTANTIATE(8bit, Codec8, __half, float)
}  // namespace elan::cuda
