// The stream as the integers, or numbers of E4M3, that the 8-bit LFE reads, in planes, with a ring
// of two pixels around. Later ones are written by the GMSA before: what lies outside the picture
// stays zero.

#include "cuda/kernels/int8.cuh"
#include "cuda/kernels/tile.cuh"

namespace elan::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kChunks = 2 * layout_of(180).units;  // of 4 channels
constexpr int kPart = kInt8PlaneBytes / 4;         // chunks of a pixel in a plane

template <typename E>
__global__ __launch_bounds__(kThreads) void integers_kernel(
    const __grid_constant__ IntegersArgs p) {
  wait_for_previous();
  // A half of a pixel's bytes in a plane.
  const int index = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const int width = p.grid.width + 2 * kInt8Ring, height = p.grid.height + 2 * kInt8Ring;
  const int half = index % 2, column = index / 2 % width, row = index / 2 / width;
  const int plane = row % kInt8Planes, line = row / kInt8Planes, image = line / height;
  if (image >= p.grid.batch) return;
  const int y = line % height - kInt8Ring, x = column - kInt8Ring;
  std::uint32_t words[4] = {};
  if (y >= 0 && y < p.grid.height && x >= 0 && x < p.grid.width) {
    const uint2* pixel =
        static_cast<const uint2*>(p.x) +
        ((static_cast<std::size_t>(image) * p.grid.height + y) * p.grid.width + x) * kChunks;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = half * (kPart / 2) + i;
      if (plane == kInt8Taps && at >= kInt8Taps) continue;
      const int chunk = plane < kInt8Taps ? plane * kInt8TapChunks + at
                                          : at * kInt8TapChunks + kInt8TapChunks - 1;
      const float4 v = widen(pixel[chunk]);
      words[i] = E::encode(v.x, v.y, v.z, v.w, p.factor);
    }
  }
  reinterpret_cast<uint4*>(p.integers)[index] = make_uint4(words[0], words[1], words[2], words[3]);
}

}  // namespace

void launch_integers(Operand operand, const IntegersArgs& a, cudaStream_t stream) {
  const std::size_t quads = int8_image_bytes(a.grid.width, a.grid.height, a.grid.batch) / 16;
  launch_kernel(operand == Operand::fp8 ? &integers_kernel<Fp8> : &integers_kernel<Int8>,
                dim3(static_cast<unsigned>((quads + kThreads - 1) / kThreads)), kThreads, 0, stream,
                a);
}

}  // namespace elan::cuda
