#include "cuda/kernels/instantiate.cuh"

namespace elan::cuda {
ELAN_INSTANTIATE(fp8, CodecFp8, __half, float)
}  // namespace elan::cuda
