// The public interface for pictures on the device.
#include <mutex>
#include <optional>
#include <utility>

#include "cuda/check_pictures.h"
#include "cuda/convert.h"
#include "cuda/cuda_backend.h"
#include "cuda/device.h"
#include "elan/cuda.h"

namespace elan {

using namespace cuda;

struct CudaEngine::State {
  State(Model m, const CudaOptions& options)
      : model(std::move(m)),
        device(options.device),
        backend(make_cuda_backend(model.shared_network(),
                                  options.precision
                                      ? *options.precision
                                      : default_cuda_precision(model.network(), device),
                                  device)) {
    const UseDevice use(device);
    last_call.emplace();
  }
  ~State() {
    int before = 0;
    cudaGetDevice(&before);
    cudaSetDevice(device);
    cudaDeviceSynchronize();
    input.release();
    output.release();
    last_call.reset();
    cudaSetDevice(before);
  }

  // Room for f32 pictures on either side; what uses it now is done first.
  void grow(DeviceBuffer& buffer, std::size_t bytes) {
    if (bytes <= buffer.size()) return;
    ELAN_CUDA(cudaDeviceSynchronize());
    buffer.reserve(bytes);
  }

  Model model;
  int device;
  std::unique_ptr<CudaBackend> backend;
  std::mutex mutex;
  DeviceBuffer input, output;      // converted pictures; guarded by mutex
  std::optional<Event> last_call;  // they are free when it has passed
  bool called = false;
};

namespace {

template <typename Pointer>
std::size_t float_bytes(const BasicCudaPictures<Pointer>& p) {
  return static_cast<std::size_t>(p.width) * static_cast<std::size_t>(p.height) *
         static_cast<std::size_t>(p.batch) * 3 * sizeof(float);
}

SampleType native_type(CudaType type) {
  return type == CudaType::u8    ? SampleType::u8
         : type == CudaType::u16 ? SampleType::u16
                                 : SampleType::f32;
}

// Pageable memory of the host would be read through a fault that ends the whole context.
void check_memory(const char* name, const void* data, int device) {
  cudaPointerAttributes attributes{};
  ELAN_CUDA(cudaPointerGetAttributes(&attributes, data));
  const bool elsewhere = attributes.type == cudaMemoryTypeDevice && attributes.device != device;
  if (attributes.type == cudaMemoryTypeUnregistered || elsewhere) {
    throw Error(ErrorKind::input,
                std::string(name) + ": expected memory of cuda:" + std::to_string(device) +
                    ", found " +
                    (elsewhere ? "memory of cuda:" + std::to_string(attributes.device)
                               : std::string("memory of the host")));
  }
}

}  // namespace

CudaEngine::CudaEngine(Model model, CudaOptions options)
    : state_(std::make_unique<State>(std::move(model), options)) {}
CudaEngine::~CudaEngine() = default;
CudaEngine::CudaEngine(CudaEngine&&) noexcept = default;
CudaEngine& CudaEngine::operator=(CudaEngine&&) noexcept = default;

void CudaEngine::upscale(const ConstCudaPictures& in, const CudaPictures& out, void* stream) {
  check_pictures(in, out, state_->model.scale());
  const std::lock_guard lock(state_->mutex);
  const UseDevice use(state_->device);
  check_memory("input", in.data, state_->device);
  check_memory("output", out.data, state_->device);
  // Null means the default stream to callers, and the backend's own to the backend.
  const cudaStream_t on = stream == nullptr ? cudaStreamLegacy : static_cast<cudaStream_t>(stream);

  DevicePictures p;
  p.input = in.data;
  p.input_type = native_type(in.type);
  p.output = out.data;
  p.output_type = native_type(out.type);
  p.width = in.width;
  p.height = in.height;
  p.batch = in.batch;
  const bool convert_in = !is_native(in), convert_out = !is_native(out);
  if (convert_in) {
    state_->grow(state_->input, float_bytes(in));
    p.input = state_->input.data();
    p.input_type = SampleType::f32;
  }
  if (convert_out) {
    state_->grow(state_->output, float_bytes(out));
    p.output = state_->output.data();
    p.output_type = SampleType::f32;
  }
  state_->backend->reserve(in.width, in.height, in.batch);
  if (state_->called) wait_on_device(on, *state_->last_call);
  if (convert_in) launch_to_rgb(in, reinterpret_cast<float*>(state_->input.data()), on);
  state_->backend->enqueue(p, on, Launch::automatic);
  if (convert_out) launch_from_rgb(reinterpret_cast<const float*>(state_->output.data()), out, on);
  ELAN_CUDA(cudaGetLastError());
  state_->last_call->record(on);
  state_->called = true;
}

bool CudaEngine::finite() {
  const std::lock_guard lock(state_->mutex);
  const UseDevice use(state_->device);
  if (state_->called) ELAN_CUDA(cudaEventSynchronize(state_->last_call->get()));
  return state_->backend->finish();
}

void CudaEngine::reserve(int width, int height, int batch) {
  check_size("picture", width, height, batch);
  const std::lock_guard lock(state_->mutex);
  const UseDevice use(state_->device);
  const int s = state_->model.scale();
  state_->backend->reserve(width, height, batch);
  state_->grow(state_->input, float_bytes(ConstCudaPictures{nullptr, width, height, batch}));
  state_->grow(state_->output,
               float_bytes(ConstCudaPictures{nullptr, width * s, height * s, batch}));
}

const Model& CudaEngine::model() const {
  return state_->model;
}
int CudaEngine::device() const {
  return state_->device;
}
Precision CudaEngine::precision() const {
  return state_->backend->precision();
}
std::string CudaEngine::description() const {
  return state_->backend->description();
}

}  // namespace elan
