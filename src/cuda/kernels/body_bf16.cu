#include "cuda/kernels/instantiate.cuh"

namespace elan::cuda {
ELAN_INSTANTIATE(bf16, CodecBf16, float)
}  // namespace elan::cuda
