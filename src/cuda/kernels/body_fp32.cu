#include "cuda/kernels/instantiate.cuh"

namespace elan::cuda {
ELAN_INSTANTIATE(fp32, CodecFp32, float)
}  // namespace elan::cuda
