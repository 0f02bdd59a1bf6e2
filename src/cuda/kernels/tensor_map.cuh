// Boxes of a stream of FP16, whole pixels, on their way to shared memory by Hopper's tensor copies:
// one thread asks for all of a tile, and what is outside of the picture is zero.
#pragma once

#include <cuda.h>

#include "cuda/kernels/kernels.h"
#include "cuda/kernels/wgmma.cuh"
#include "elan/error.h"

namespace elan::cuda {

using StreamMap = CUtensorMap;

// Of the stream at x, of units of 8 channels, for boxes of width x height pixels.
inline StreamMap stream_map(const void* x, const Grid& g, int units, int width, int height) {
  static const auto encode = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult status{};
    cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault,
                                     &status);
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found);
  }();
  const auto pixel = static_cast<cuuint64_t>(16 * units);
  const auto across = static_cast<cuuint64_t>(g.width), down = static_cast<cuuint64_t>(g.height);
  const cuuint64_t sizes[] = {pixel / 2, across, down, static_cast<cuuint64_t>(g.batch)};
  const cuuint64_t strides[] = {pixel, across * pixel, across * down * pixel};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(pixel / 2), static_cast<cuuint32_t>(width),
                            static_cast<cuuint32_t>(height), 1};
  const cuuint32_t steps[] = {1, 1, 1, 1};
  const auto swizzle = pixel == 128 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE;
  StreamMap map;
  if (encode == nullptr ||
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 4, const_cast<void*>(x), sizes, strides, box,
             steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS) {
    throw Error(ErrorKind::device, "cuda: the driver cannot describe the stream to tensor copies");
  }
  return map;
}

#if ELAN_HOPPER

// The box whose first pixel is (x, y), perhaps outside, completes on `barrier`, which expects all
// of its bytes.
__device__ __forceinline__ void copy_box(std::uint32_t shared, const StreamMap& map, int x, int y,
                                         int image, std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared),
      "l"(&map), "r"(0), "r"(x), "r"(y), "r"(image), "r"(barrier)
      : "memory");
}

#endif

}  // namespace elan::cuda
