// The public interface for pictures on the device, in builds without CUDA: there is no such engine.
#include "elan/cuda.h"

namespace elan {

struct CudaEngine::State {
  Model model;
};

CudaEngine::CudaEngine(Model /*model*/, CudaOptions options) {
  throw Error(ErrorKind::device, "cuda:" + std::to_string(options.device) +
                                     ": expected a build with CUDA, found one without");
}
CudaEngine::~CudaEngine() = default;
CudaEngine::CudaEngine(CudaEngine&&) noexcept = default;
CudaEngine& CudaEngine::operator=(CudaEngine&&) noexcept = default;

void CudaEngine::upscale(const ConstCudaPictures& /*in*/, const CudaPictures& /*out*/,
                         void* /*stream*/) {}
bool CudaEngine::finite() {
  return false;
}
void CudaEngine::reserve(int /*width*/, int /*height*/, int /*batch*/) {}
const Model& CudaEngine::model() const {
  return state_->model;
}
int CudaEngine::device() const {
  return -1;
}
Precision CudaEngine::precision() const {
  return Precision::fp32;
}
std::string CudaEngine::description() const {
  return {};
}

}  // namespace elan
