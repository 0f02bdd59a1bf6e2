// Enlarges pictures that are in a GPU's memory already, on a stream of the caller's: no copies, no
// waiting. Needs no CUDA headers.
//
//   elan::CudaEngine engine(elan::Model::load("elan_light_x4.safetensors"));
//   engine.upscale({small, 640, 480}, {large, 2560, 1920}, stream);  // returns at once
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "elan/error.h"
#include "elan/export.h"
#include "elan/model.h"
#include "elan/precision.h"

namespace elan {

// Samples on the device: u8 0..255; u16 0..65535; f16 and f32 0..white, not clamped on output.
enum class CudaType : std::uint8_t { u8, u16, f16, f32 };

// Interleaved colours, or a plane for each.
enum class CudaLayout : std::uint8_t { nhwc, nchw };

// RGB pictures of one size, dense, one after another: [batch][height][width][3], or for nchw
// [batch][3][height][width]. The memory belongs to the caller.
template <typename Pointer>
struct BasicCudaPictures {
  Pointer data = nullptr;  // device memory of the engine's GPU, or memory that it can address
  int width = 0;           // pixels
  int height = 0;          // pixels
  int batch = 1;           // pictures
  CudaType type = CudaType::u8;
  CudaLayout layout = CudaLayout::nhwc;
  float white = 255;  // for f16 and f32: the value of the brightest sample, often 1
};
using ConstCudaPictures = BasicCudaPictures<const void*>;
using CudaPictures = BasicCudaPictures<void*>;

struct CudaOptions {
  int device = 0;  // as CUDA numbers them
  std::optional<Precision> precision =
      {};  // fp16, bf16, tf32, fp32 or int8; none: fp16, or int8 where faster
};

// Safe to use from several threads. Calls share one working memory: on the device each waits for
// the one before, whatever their streams.
class ELAN_API CudaEngine {
 public:
  // Throws Error: device (no such GPU, an old driver, a build without CUDA), usage (a precision it
  // cannot do), model (a network it cannot run), memory.
  explicit CudaEngine(Model model, CudaOptions options = {});
  ~CudaEngine();
  CudaEngine(CudaEngine&&) noexcept;
  CudaEngine& operator=(CudaEngine&&) noexcept;

  // Enqueues everything on `stream` (a cudaStream_t; null: the default stream) and returns. `out`
  // must be scale times `in`, with the same batch; types and layouts are free on either side. u8,
  // u16 and f32 with white 255 in nhwc are read and written as they are, others through a copy. The
  // first pictures of a new largest size allocate, which waits for the device: see reserve().
  // Throws Error: input (sizes, no device memory), usage (the stream is being captured), memory,
  // device.
  void upscale(const ConstCudaPictures& in, const CudaPictures& out, void* stream);

  // Waits for all calls so far; false if a result since the last finite() was infinite or no
  // number: then a safer precision (tf32, fp32) is needed. Nothing is computed again by itself.
  [[nodiscard]] bool finite();

  // Allocates for pictures up to this size, so that upscale() need not.
  void reserve(int width, int height, int batch);

  [[nodiscard]] const Model& model() const;
  [[nodiscard]] int device() const;
  [[nodiscard]] Precision precision() const;
  [[nodiscard]] std::string description() const;  // "cuda:0 (NVIDIA H200, fp16, hopper)"

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace elan
