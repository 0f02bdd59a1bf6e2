// Small networks in 8 bits, with scales good enough for tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "model/checkpoint.h"
#include "model/network.h"
#include "model/write_network.h"
#include "support/weights_files.h"

namespace elan::test {

// Rounds weights with the scales that their largest values ask for.
inline QuantizedMatrix rounded_matrix(const Linear& linear, float input_scale) {
  QuantizedMatrix int8;
  int8.input_scale = input_scale;
  const auto in = static_cast<std::size_t>(linear.in);
  for (std::size_t o = 0; o < linear.bias.size(); ++o) {
    float largest = 1e-6F;
    for (std::size_t i = 0; i < in; ++i) {
      largest = std::max(largest, std::abs(linear.weight[o * in + i]));
    }
    int8.weight_scale.push_back(largest / 127);
    for (std::size_t i = 0; i < in; ++i) {
      int8.weight.push_back(static_cast<std::int8_t>(
          std::nearbyint(linear.weight[o * in + i] / int8.weight_scale.back())));
    }
  }
  return int8;
}

// As it would be written to a file.
inline WeightsFile file_of(const Network& net) {
  WeightsFile file;
  file.metadata = metadata_of(net);
  for (auto& [key, tensor] : tensors_of(net)) {
    file.tensors[key] = {tensor.dtype, tensor.shape, tensor.bytes};
  }
  return file;
}

// The same network with its body in 8 bits, batch norms folded. `selected` gets names such as
// "conv0", "q" or "project_out" and says which matrices to quantise.
template <typename Selected>
Network quantized(Network net, Selected&& selected) {
  const float x_step = 2;
  for (Elab& elab : net.body) {
    for (Lfe& lfe : elab.lfe) {
      for (auto* conv : {&lfe.conv0, &lfe.conv1}) {
        const bool first = conv == &lfe.conv0;
        if (!selected(first ? "conv0" : "conv1")) continue;
        conv->int8 =
            rounded_matrix({conv->in, conv->out, conv->weight, conv->bias}, first ? x_step : 1.5F);
        conv->weight = conv->int8->values();
      }
    }
    for (Gmsa& gmsa : elab.gmsa) {
      gmsa.project_inp = gmsa.folded_project_inp();
      gmsa.norm = {};
      if (gmsa.computes_attention && selected("q")) {
        gmsa.int8_q = rounded_matrix(gmsa.projection_q(), x_step);
      }
      if (selected("v")) gmsa.int8_v = rounded_matrix(gmsa.projection_v(), x_step);
      if (selected("project_out")) {
        gmsa.int8_out = rounded_matrix(gmsa.project_out, 0.25F);
        gmsa.project_out.weight = gmsa.int8_out->values();
      }
    }
  }
  // What is written and read again has its float matrices replaced by what the integers stand for.
  return read_checkpoint(Safetensors::parse("q", serialise(file_of(net)))).network;
}

inline Network quantized(Network net) {
  return quantized(std::move(net), [](std::string_view) { return true; });
}

// With attention in 8 bits too, other scales in every group.
inline Network with_int8_attention(Network net) {
  for (Elab& elab : net.body) {
    for (Gmsa& gmsa : elab.gmsa) {
      QuantizedAttention& scales = gmsa.int8_attention.emplace();
      if (gmsa.computes_attention) scales.q_scale = {0.02F, 0.016F, 0.012F};
      scales.v_scale = {0.03F, 0.02F, 0.01F};
    }
  }
  return read_checkpoint(Safetensors::parse("q", serialise(file_of(net)))).network;
}

inline WeightsFile make_quantized_elan(const Architecture& arch) {
  return file_of(
      quantized(read_checkpoint(Safetensors::parse("m", serialise(make_elan(arch)))).network));
}

}  // namespace elan::test
