// upscale_cuda MODEL < in.ppm > out.ppm: enlarges an 8-bit binary PPM that is on the GPU, on a
// stream of our own. Between the copies, the picture would be a video decoder's or a network's.
#include <cuda_runtime_api.h>
#include <elan/cuda.h>

#include <cstdint>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

void check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) throw std::runtime_error("usage: upscale_cuda MODEL < in.ppm > out.ppm");
  std::string magic;
  int width = 0, height = 0, maximum = 0;
  std::cin >> magic >> width >> height >> maximum;
  std::cin.get();
  std::vector<std::uint8_t> in(std::size_t{3} * static_cast<std::size_t>(width) *
                               static_cast<std::size_t>(height));
  std::cin.read(reinterpret_cast<char*>(in.data()), std::ssize(in));
  if (magic != "P6" || maximum != 255 || !std::cin) throw std::runtime_error("not an 8-bit PPM");

  elan::CudaEngine engine(elan::Model::load(argv[1]));
  const int scale = engine.model().scale();
  std::vector<std::uint8_t> out(in.size() * static_cast<std::size_t>(scale * scale));

  cudaStream_t stream = nullptr;
  void *small = nullptr, *large = nullptr;
  check(cudaStreamCreate(&stream));
  check(cudaMalloc(&small, in.size()));
  check(cudaMalloc(&large, out.size()));

  // Everything below is in the order of the stream; nothing waits until the end.
  check(cudaMemcpyAsync(small, in.data(), in.size(), cudaMemcpyHostToDevice, stream));
  engine.upscale({small, width, height}, {large, width * scale, height * scale}, stream);
  check(cudaMemcpyAsync(out.data(), large, out.size(), cudaMemcpyDeviceToHost, stream));
  check(cudaStreamSynchronize(stream));
  if (!engine.finite()) throw std::runtime_error("the picture needs a safer precision");

  std::cout << "P6\n" << width * scale << ' ' << height * scale << "\n255\n";
  std::cout.write(reinterpret_cast<const char*>(out.data()), std::ssize(out));
  check(cudaFree(small));
  check(cudaFree(large));
  check(cudaStreamDestroy(stream));
} catch (const std::exception& error) {
  std::cerr << "upscale_cuda: " << error.what() << '\n';
  return 1;
}
