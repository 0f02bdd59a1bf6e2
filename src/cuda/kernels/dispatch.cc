// From an operand to the kernels compiled for it.
#include "cuda/kernels/kernels.h"

namespace elan::cuda {

void launch_lfe(int channels, Operand operand, const LfeArgs& args, cudaStream_t stream) {
  switch (operand) {
    case Operand::fp16:
      return launch_lfe_fp16(channels, args, stream);
    case Operand::bf16:
      return launch_lfe_bf16(channels, args, stream);
    case Operand::tf32:
      return launch_lfe_tf32(channels, args, stream);
    case Operand::fp32:
      return launch_lfe_fp32(channels, args, stream);
    case Operand::int8:
    case Operand::fp8:
      return launch_lfe_8bit(channels, args, stream);
  }
}

void launch_gmsa(int channels, Operand operand, const GmsaArgs& args, cudaStream_t stream) {
  switch (operand) {
    case Operand::fp16:
      return launch_gmsa_fp16(channels, args, stream);
    case Operand::bf16:
      return launch_gmsa_bf16(channels, args, stream);
    case Operand::tf32:
      return launch_gmsa_tf32(channels, args, stream);
    case Operand::fp32:
      return launch_gmsa_fp32(channels, args, stream);
    case Operand::int8:
    case Operand::fp8:
      return launch_gmsa_8bit(channels, args, stream);
  }
}

void prepare_kernels() {
  prepare_fp16();
  prepare_bf16();
  prepare_tf32();
  prepare_fp32();
  prepare_8bit();
  prepare_tail();
}

}  // namespace elan::cuda
