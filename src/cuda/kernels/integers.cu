// The stream as the integers that the 8-bit LFE reads, each channel at the pixel where its tap
// finds it, with a ring of one pixel around. Later ones are written by the GMSA before: what lies
// outside the picture stays zero.

#include "cuda/kernels/int8.cuh"
#include "cuda/kernels/tile.cuh"

namespace elan::cuda {
namespace {

constexpr int kThreads = 256, kQuads = kInt8Pitch / 16;  // of 4 chunks of 4 channels
constexpr int kChunks = 2 * layout_of(180).units;

__global__ __launch_bounds__(kThreads) void integers_kernel(
    const __grid_constant__ IntegersArgs p) {
  allow_next();
  wait_for_previous();
  const int index = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const int width = p.grid.width + 2, height = p.grid.height + 2;
  const int pixel = index / kQuads, quad = index % kQuads;
  const int image = pixel / (width * height), r = pixel - image * width * height;
  if (image >= p.grid.batch) return;
  const int y = r / width - 1, x = r % width - 1;
  std::uint32_t words[4] = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int chunk = 4 * quad + i;
    if (chunk >= kChunks) continue;
    const int from_y = y + p.chunk_y[chunk], from_x = x + p.chunk_x[chunk];
    if (from_y < 0 || from_y >= p.grid.height || from_x < 0 || from_x >= p.grid.width) continue;
    const auto from =
        (static_cast<std::size_t>(image) * p.grid.height + from_y) * p.grid.width + from_x;
    const float4 v = widen(static_cast<const uint2*>(p.x)[from * kChunks + chunk]);
    words[i] = quantize_int8(v.x, v.y, v.z, v.w, p.factor);
  }
  reinterpret_cast<uint4*>(p.integers)[index] = make_uint4(words[0], words[1], words[2], words[3]);
}

}  // namespace

void launch_integers(const IntegersArgs& a, cudaStream_t stream) {
  const std::size_t quads = int8_image_bytes(a.grid.width, a.grid.height, a.grid.batch) / 16;
  launch_kernel(&integers_kernel, dim3(static_cast<unsigned>((quads + kThreads - 1) / kThreads)),
                kThreads, 0, stream, a);
}

}  // namespace elan::cuda
