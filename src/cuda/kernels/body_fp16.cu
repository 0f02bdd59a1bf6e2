#include "cuda/kernels/instantiate.cuh"

namespace elan::cuda {
ELAN_INSTANTIATE(fp16, CodecFp16, __half, Split, float)
}  // namespace elan::cuda
