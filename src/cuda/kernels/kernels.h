// The kernels' launch functions: one struct of arguments and one function for each fused operation.
// Nothing here waits for the device or checks for errors; cudaGetLastError() tells.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/layout.h"

namespace elan::cuda {

// What the operands of a product are; accumulation is always FP32.
enum class Operand : std::uint8_t { fp16, bf16, tf32, fp32 };
constexpr int operand_bytes(Operand o) { return o == Operand::fp16 || o == Operand::bf16 ? 2 : 4; }
constexpr int operand_words(Operand o) { return operand_bytes(o) / 2; }  // of a unit of weights, a lane

// The padded picture (multiples of 16) and the batch.
struct Grid {
  int width = 0, height = 0, batch = 0;
};

// Samples as in elan/image.h: 0 u8, 1 u16, 2 f32.
struct HeadArgs {
  const void* input = nullptr;  // [batch][input_height][input_width][3], dense
  int sample = 0;
  int input_width = 0, input_height = 0;
  float mean[3] = {};
  const float* weights = nullptr;  // [27 = 9 taps x 3 colours][stride]
  const float* bias = nullptr;     // [stride]
  float* x = nullptr;              // [pixel][stride]
  bool accumulate = false;         // x += head instead of x = head
  Grid grid;
  int channels = 0;
};
void launch_head(const HeadArgs& args, cudaStream_t stream);

// y = x + LFE(x); q, v = project_inp(y).
struct LfeArgs {
  const float* x = nullptr;
  float* y = nullptr;
  char* q = nullptr;
  char* v = nullptr;
  const char* weights = nullptr;       // conv slabs, then project slabs
  const float* bias0 = nullptr;        // [groups][8 * hidden_tiles]
  const float* bias1 = nullptr;        // [stride]
  const float* bias_project = nullptr; // q (if any), then v: [3][8 * group_units]
  float unscale0 = 1, unscale1 = 1, unscale_project = 1;  // of packed weights
  int groups = 0;
  signed char hidden_y[kMaxHiddenGroups] = {}, hidden_x[kMaxHiddenGroups] = {};
  signed char chunk_y[kMaxChunks] = {}, chunk_x[kMaxChunks] = {};
  bool has_q = true;
  Grid grid;
  // How: set by the plan.
  int stages = 2;         // slabs in shared memory; 0: all of them, loaded once
  int blocks = 0;         // thread blocks
  int tile_y = 2;         // tile of 4 x tile_y blocks of 4 x 4 pixels
};

// x = y + project_out(attention(q, v)).
struct GmsaArgs {
  const float* y = nullptr;
  float* x = nullptr;
  const char* q = nullptr;
  const char* v = nullptr;
  const char* weights = nullptr;
  const float* bias = nullptr;  // [stride]
  float unscale = 1;
  bool shifted = false;
  Grid grid;
  bool staged = true;  // keep the largest window's q and v in shared memory
  int tile_y = 2;
};

// The last convolution with everything after it.
struct TailArgs {
  const float* x = nullptr;
  const char* weights = nullptr;  // 9 slabs
  const float* bias = nullptr;    // [8 * tiles]
  float unscale = 1;
  float mean[3] = {};
  void* output = nullptr;  // [batch][output_height][output_width][3]
  int sample = 0;
  int scale = 0;
  int output_width = 0, output_height = 0;  // after the crop
  unsigned* not_finite = nullptr;           // set to 1 if any result is
  Grid grid;
  int tile_y = 2;
};

// Shared memory of one thread block in bytes.
std::size_t lfe_shared_bytes(int channels, Operand operand, const LfeArgs& args);
std::size_t gmsa_shared_bytes(int channels, Operand operand, bool staged);
std::size_t tail_shared_bytes(int channels, Operand operand, int scale, int tile_y);

// One per operand, each compiled on its own.
#define ELAN_DECLARE(NAME)                                                        \
  void launch_lfe_##NAME(int channels, const LfeArgs& args, cudaStream_t stream); \
  void launch_gmsa_##NAME(int channels, const GmsaArgs& args, cudaStream_t stream);
ELAN_DECLARE(fp16)
ELAN_DECLARE(bf16)
ELAN_DECLARE(tf32)
ELAN_DECLARE(fp32)
#undef ELAN_DECLARE

void launch_lfe(int channels, Operand operand, const LfeArgs& args, cudaStream_t stream);
void launch_gmsa(int channels, Operand operand, const GmsaArgs& args, cudaStream_t stream);
void launch_tail(int channels, Operand operand, const TailArgs& args, cudaStream_t stream);

// Raises the limits on shared memory; once per device.
void prepare_kernels();

}  // namespace elan::cuda
