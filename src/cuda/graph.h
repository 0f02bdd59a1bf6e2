// Forward passes captured as CUDA graphs.
#pragma once

#include <cuda_runtime_api.h>

#include <tuple>

#include "cuda/cuda_backend.h"
#include "cuda/device.h"

namespace elan::cuda {

// A captured pass: the same pointers, sizes and types every time.
class Graph {
 public:
  // Takes what was captured over, and ends it.
  explicit Graph(cudaGraph_t captured) {
    const cudaError_t status = cudaGraphInstantiate(&exec_, captured, 0);
    cudaGraphDestroy(captured);
    ELAN_CUDA(status);
  }
  ~Graph() { cudaGraphExecDestroy(exec_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  void launch(cudaStream_t stream) const { ELAN_CUDA(cudaGraphLaunch(exec_, stream)); }

 private:
  cudaGraphExec_t exec_ = nullptr;
};

// Captures what `work(stream)` enqueues; nothing of it runs.
template <typename Work>
cudaGraph_t capture(cudaStream_t stream, Work work) {
  ELAN_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  cudaGraph_t captured = nullptr;
  try {
    work(stream);
  } catch (...) {
    cudaStreamEndCapture(stream, &captured);
    if (captured != nullptr) cudaGraphDestroy(captured);
    cudaGetLastError();
    throw;
  }
  ELAN_CUDA(cudaStreamEndCapture(stream, &captured));
  return captured;
}

using GraphKey = std::tuple<const void*, void*, unsigned*, SampleType, SampleType, int, int, int>;

inline GraphKey graph_key(const DevicePictures& p) {
  return {p.input, p.output, p.not_finite, p.input_type, p.output_type, p.width, p.height, p.batch};
}

}  // namespace elan::cuda
