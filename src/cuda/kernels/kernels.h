// The kernels' launch functions: one struct of arguments and one function for each fused operation.
// Nothing here waits for the device or checks for errors; cudaGetLastError() tells.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/layout.h"
#include "cuda/plan.h"

namespace elan::cuda {

// Samples as in elan/image.h: 0 u8, 1 u16, 2 f32.
struct HeadArgs {
  const void* input = nullptr;  // [batch][input_height][input_width][3], dense
  int sample = 0;
  int input_width = 0, input_height = 0;
  float mean[3] = {};
  const float* weights = nullptr;  // [27 = 9 taps x 3 colours][stride]
  const float* bias = nullptr;     // [stride]
  // The same for tensor cores: slabs of 64 columns, their bias, and what products are times.
  const char* slabs = nullptr;
  const float* column_bias = nullptr;
  float unscale = 1;
  void* x = nullptr;  // [pixel][stride]
  StreamFormat format = StreamFormat::fp32;
  bool accumulate = false;  // x += head instead of x = head
  Grid grid;
  int channels = 0;
};
void launch_head(const HeadArgs& args, cudaStream_t stream);

// The stream, kept in another format.
struct StreamArgs {
  const void* from = nullptr;
  void* to = nullptr;
  StreamFormat from_format = StreamFormat::fp32, to_format = StreamFormat::fp32;
  std::size_t pixels = 0;
  int units = 0;  // of 8 channels
  Grid grid;
};
void launch_stream(const StreamArgs& args, cudaStream_t stream);

// y = x + LFE(x); q, v = project_inp(y).
struct LfeArgs {
  const void* x = nullptr;
  void* y = nullptr;
  StreamFormat format = StreamFormat::fp32;  // of both
  char* q = nullptr;
  char* v = nullptr;
  const char* weights = nullptr;        // conv slabs, then project slabs
  const float* bias0 = nullptr;         // [groups][8 * hidden_tiles]
  const float* bias1 = nullptr;         // [stride]
  const float* bias_project = nullptr;  // q (if any), then v: [3][8 * group_units]
  float unscale0 = 1, unscale1 = 1, unscale_project = 1;  // of packed weights
  float scale1 = 1;                                       // 1 / unscale1
  // 8 bits: in the place of these numbers one for each column, laid out as the biases are.
  const float* scale0 = nullptr;
  const float* scale_out = nullptr;  // of conv1
  const float* scale_project = nullptr;
  Rounding input, hidden, projected;  // of what conv0, conv1 and project_inp take
  // 8 bits on Hopper: x as operands (launch_integers()), and all scales and biases.
  const char* integers = nullptr;
  const char* columns = nullptr;
  bool int8_attention = false;  // q and v are bytes
  int groups = 0;
  signed char hidden_y[kMaxHiddenGroups] = {}, hidden_x[kMaxHiddenGroups] = {};
  signed char chunk_y[kMaxChunks] = {}, chunk_x[kMaxChunks] = {};
  bool has_q = true;
  Grid grid;
  LfeShape shape;
};

// x = y + project_out(attention(q, v)).
struct GmsaArgs {
  const void* y = nullptr;
  void* x = nullptr;
  StreamFormat format = StreamFormat::fp32;
  const char* q = nullptr;
  const char* v = nullptr;
  const char* weights = nullptr;
  const float* bias = nullptr;  // [stride]
  float unscale = 1;
  const float* scale = nullptr;  // 8 bits: [stride], in the place of unscale
  Rounding input;                // of what project_out takes
  // 8 bits on Hopper: all scales and biases; where x goes as integers, too (perhaps nowhere), for
  // an LFE that takes them times next_factor.
  const char* columns = nullptr;
  char* integers = nullptr;
  float next_factor = 1;
  bool int8_attention =
      false;  // of bytes: powers of q's products, and scales of v, by window group
  float power[kWindowGroups] = {}, value[kWindowGroups] = {};
  bool shifted = false;
  // Narrow network, 16 bits: q, where pairs that share it pass on the references of their softmaxes
  // (kernels/gmsa.cuh), those that this GMSA finds or leaves there.
  char* references = nullptr;
  bool find_references = false, leave_references = false;
  Grid grid;
  GmsaShape shape;
};

// The last convolution with everything after it; on a stream of FP16 also the skip before it.
struct TailArgs {
  const void* x = nullptr;
  StreamFormat format = StreamFormat::fp32;
  const char* weights = nullptr;  // 9 slabs
  const float* bias = nullptr;    // [8 * tiles]
  float unscale = 1;
  float mean[3] = {};
  void* output = nullptr;  // [batch][output_height][output_width][3]
  int sample = 0;
  int scale = 0;
  int output_width = 0, output_height = 0;  // after the crop
  unsigned* not_finite = nullptr;           // set to 1 if any result is
  // The skip, if it is added here (kernels/skip.cuh): slabs, and what their products are times. Of
  // `head` it takes what says where the picture is.
  bool skip = false;
  HeadArgs head;
  const char* skip_weights = nullptr;
  float skip_scale = 1;
  Grid grid;
  TailShape shape;
};

// One per operand, each compiled on its own.
#define ELAN_DECLARE(NAME)                                                          \
  void launch_lfe_##NAME(int channels, const LfeArgs& args, cudaStream_t stream);   \
  void launch_gmsa_##NAME(int channels, const GmsaArgs& args, cudaStream_t stream); \
  void prepare_##NAME();
ELAN_DECLARE(fp16)
ELAN_DECLARE(bf16)
ELAN_DECLARE(tf32)
ELAN_DECLARE(fp32)
ELAN_DECLARE(int8)
ELAN_DECLARE(fp8)
#undef ELAN_DECLARE

void launch_lfe(int channels, Operand operand, const LfeArgs& args, cudaStream_t stream);
void launch_gmsa(int channels, Operand operand, const GmsaArgs& args, cudaStream_t stream);
void launch_tail(int channels, Operand operand, const TailArgs& args, cudaStream_t stream);

// The Hopper path: 180 channels, fp16 or bf16, weights as core matrices. Its LFE leaves q and v of
// windows of 16 in the form that its GMSA wants.
bool hopper_compiled();  // and fit for the current device
bool waits_compiled();   // wait_for_previous() does something in what the current device runs
void prepare_lfe_hopper();
void prepare_gmsa_hopper();
void launch_lfe_hopper(Operand operand, const LfeArgs& args, cudaStream_t stream);
void launch_gmsa_hopper(Operand operand, const GmsaArgs& args, cudaStream_t stream);

// The narrow network's of that path; its GMSA has kernels of its own where thread blocks walk over
// windows.
void prepare_lfe_hopper_narrow();
void prepare_gmsa_hopper_narrow();
void launch_lfe_hopper_narrow(Operand operand, const LfeArgs& args, cudaStream_t stream);
void launch_gmsa_hopper_narrow(Operand operand, const GmsaArgs& args, cudaStream_t stream);

// LFE and GMSA of a pair of an unshifted ELAB at once: fp16 on a stream of FP16 or a split one. x
// of the LFE and x of the GMSA are different places; y and v are not used.
void prepare_pair_hopper_narrow();
void launch_pair_hopper_narrow(const LfeArgs& lfe, const GmsaArgs& gmsa, int blocks,
                               cudaStream_t stream);

// The same for operands of 32 bits ...
void prepare_lfe_hopper_wide();
void prepare_gmsa_hopper_wide();
void launch_lfe_hopper_wide(Operand operand, const LfeArgs& args, cudaStream_t stream);
void launch_gmsa_hopper_wide(Operand operand, const GmsaArgs& args, cudaStream_t stream);

// ... and in 8 bits, for which x becomes operands first.
struct IntegersArgs {
  const void* x = nullptr;   // FP16
  char* integers = nullptr;  // int8_image_bytes()
  float factor = 1;          // of x
  Grid grid;
};
void launch_integers(Operand operand, const IntegersArgs& args, cudaStream_t stream);
void prepare_lfe_int8();
void prepare_gmsa_int8();
void launch_lfe_int8_hopper(Operand operand, const LfeArgs& args, cudaStream_t stream);
void launch_gmsa_int8_hopper(Operand operand, const GmsaArgs& args, cudaStream_t stream);

// Raises the limits on shared memory of the current device; before the first launch on it.
void prepare_tail();
void prepare_kernels();

}  // namespace elan::cuda
