#include "cuda/kernels/instantiate.cuh"

namespace elan::cuda {
ELAN_INSTANTIATE(fp32, CodecFp32)
}  // namespace elan::cuda
