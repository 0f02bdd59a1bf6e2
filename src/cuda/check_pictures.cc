#include "cuda/check_pictures.h"

#include <cmath>
#include <string>

#include "elan/error.h"

namespace elan::cuda {
namespace {

// Sides and batches beyond these could overflow sizes, or the grids of kernels: that of the head
// has up to three parts of each picture in z.
constexpr int kMaxSide = 1 << 20, kMaxBatch = 65535 / 3;

std::string size_text(int width, int height, int batch) {
  return std::to_string(width) + "x" + std::to_string(height) + ", batch " + std::to_string(batch);
}

template <typename Pointer>
void check_one(const char* name, const BasicCudaPictures<Pointer>& p) {
  if (p.data == nullptr) {
    throw Error(ErrorKind::input, std::string(name) + ": expected device memory, found null");
  }
  if (!std::isfinite(p.white) || p.white <= 0) {
    throw Error(ErrorKind::input, std::string(name) +
                                      ": expected a value for white above 0, found " +
                                      std::to_string(p.white));
  }
}

}  // namespace

void check_size(const char* name, int width, int height, int batch) {
  if (width < 1 || height < 1 || batch < 1 || width > kMaxSide || height > kMaxSide ||
      batch > kMaxBatch) {
    throw Error(ErrorKind::input, std::string(name) + ": expected 1x1 to " +
                                      size_text(kMaxSide, kMaxSide, kMaxBatch) + ", found " +
                                      size_text(width, height, batch));
  }
}

void check_pictures(const ConstCudaPictures& in, const CudaPictures& out, int scale) {
  check_size("input", in.width, in.height, in.batch);
  if (out.width != in.width * scale || out.height != in.height * scale || out.batch != in.batch) {
    throw Error(ErrorKind::input, "output: expected " +
                                      size_text(in.width * scale, in.height * scale, in.batch) +
                                      " for " + size_text(in.width, in.height, in.batch) +
                                      ", found " + size_text(out.width, out.height, out.batch));
  }
  check_one("input", in);
  check_one("output", out);
}

}  // namespace elan::cuda
