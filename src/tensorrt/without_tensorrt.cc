// Stands in for tensorrt_backend.cc where TensorRT's headers, CUDA or ONNX are missing.
#include "elan/error.h"
#include "tensorrt/tensorrt_backend.h"

namespace elan::tensorrt {
namespace {

[[noreturn]] void missing() {
  throw Error(ErrorKind::device,
              "tensorrt: this program was built without it; it needs CUDA, ONNX and TensorRT's "
              "headers (cmake -DELANSR_TENSORRT_ROOTS=FOLDER), see docs/tensorrt.md");
}

}  // namespace

Built build_engine(const Model& model, const BuildOptions& options, const std::filesystem::path&,
                   int, const BuildContext&) {
  check(options, model);
  missing();
}

std::unique_ptr<Backend> make_tensorrt_backend(const Model& model, const BackendOptions& options,
                                               const BuildContext&) {
  check(options.options, model);
  missing();
}

}  // namespace elan::tensorrt
