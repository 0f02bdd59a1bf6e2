// One sample of a picture, to and from a float on 0..255. Whole samples are rounded half to even
// and clamped.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace elan::cuda {

__device__ __forceinline__ float load_u8(const void* data, std::size_t i) {
  return static_cast<float>(static_cast<const unsigned char*>(data)[i]);
}
__device__ __forceinline__ float load_u16(const void* data, std::size_t i) {
  return static_cast<float>(static_cast<const unsigned short*>(data)[i]) * (1.F / 257.F);
}
__device__ __forceinline__ void store_u8(void* data, std::size_t i, float v) {
  static_cast<unsigned char*>(data)[i] =
      static_cast<unsigned char>(min(max(__float2int_rn(v), 0), 255));
}
__device__ __forceinline__ void store_u16(void* data, std::size_t i, float v) {
  static_cast<unsigned short*>(data)[i] =
      static_cast<unsigned short>(min(max(__float2int_rn(v * 257.F), 0), 65535));
}

// `type` is a SampleType of elan/image.h.
__device__ __forceinline__ float load_sample(const void* data, int type, std::size_t i) {
  if (type == 0) return load_u8(data, i);
  if (type == 1) return load_u16(data, i);
  return static_cast<const float*>(data)[i];
}
// Three samples from `i` on.
__device__ __forceinline__ float3 load_colours(const void* data, int type, std::size_t i) {
  if (type == 0) return {load_u8(data, i), load_u8(data, i + 1), load_u8(data, i + 2)};
  if (type == 1) return {load_u16(data, i), load_u16(data, i + 1), load_u16(data, i + 2)};
  const float* v = static_cast<const float*>(data) + i;
  return {v[0], v[1], v[2]};
}
__device__ __forceinline__ void store_sample(void* data, int type, std::size_t i, float v) {
  if (type == 0) {
    store_u8(data, i, v);
  } else if (type == 1) {
    store_u16(data, i, v);
  } else {
    static_cast<float*>(data)[i] = v;
  }
}

}  // namespace elan::cuda
