#include "cuda/kernels/instantiate.cuh"

namespace elan::cuda {
ELAN_INSTANTIATE(tf32, CodecTf32, float)
}  // namespace elan::cuda
