// Matrices as the kernels multiply by them, before they are laid out.
#pragma once

#include <cstddef>
#include <vector>

#include "cuda/layout.h"
#include "model/network.h"

namespace elan::cuda {

// y[o] = scale[o] * sum(weight[o] * x) + bias[o], where x is what `input` makes of the activations.
struct PackMatrix {
  int in = 0;
  std::vector<float> weight;  // [out][in]: 8-bit integers, E4M3, or floats near 256
  std::vector<float> scale, bias;
  Rounding input;

  [[nodiscard]] float at(int out, int k) const {
    return weight[static_cast<std::size_t>(out) * in + k];
  }
};

struct LfeMatrices {
  PackMatrix conv0, conv1;
  PackMatrix q, v;  // rows of the three groups one after another; q empty where it is used again
};

// In E4M3 where the operand is fp8; as integers where it is int8 and the network has such a form;
// of q and v both or neither, for they take the same. q comes out times sqrt(log2(e)), or, for an
// attention in 8 bits (of a GMSA that has it), q and v divided by their scales.
LfeMatrices lfe_matrices(const Lfe& lfe, const Gmsa& gmsa, Operand operand,
                         bool int8_attention = false);
PackMatrix out_matrix(const Gmsa& gmsa, Operand operand);

}  // namespace elan::cuda
