#include "model/write_network.h"

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "elan/error.h"

namespace elan {
namespace {

using Tensors = std::map<std::string, TensorValues>;

TensorShape shape(auto... sides) {
  return {static_cast<std::size_t>(sides)...};
}

void put_floats(Tensors& to, const std::string& key, TensorShape shape,
                std::span<const float> values) {
  to.emplace(key, float_tensor(std::move(shape), values));
}

// A 1x1 convolution; the scale of its input goes to `input_key`.
void put_matrix(Tensors& to, const std::string& base, const Linear& linear,
                const std::optional<QuantizedMatrix>& int8, const std::string& input_key) {
  const TensorShape sides = shape(linear.out, linear.in, 1, 1);
  if (int8) {
    to.emplace(base + ".weight", int8_tensor(sides, int8->weight));
    put_floats(to, base + ".weight_scale", shape(linear.out), int8->weight_scale);
    put_floats(to, input_key, shape(1), {&int8->input_scale, 1});
  } else {
    put_floats(to, base + ".weight", sides, linear.weight);
  }
  put_floats(to, base + ".bias", shape(linear.out), linear.bias);
}

void put_matrix(Tensors& to, const std::string& base, const Linear& linear,
                const std::optional<QuantizedMatrix>& int8) {
  put_matrix(to, base, linear, int8, base + ".input_scale");
}

void put_conv3x3(Tensors& to, const std::string& base, const Conv3x3& conv) {
  put_floats(to, base + ".weight", shape(conv.out, conv.in, 3, 3), conv.weight);
  put_floats(to, base + ".bias", shape(conv.out), conv.bias);
}

void put_shift_conv(Tensors& to, const std::string& base, const ShiftConv& conv) {
  put_floats(to, base + ".weight", shape(conv.in, 1, 3, 3), conv.mask);
  put_matrix(to, base + ".conv1x1", {conv.in, conv.out, conv.weight, conv.bias}, conv.int8);
}

void put_norm(Tensors& to, const std::string& base, const BatchNorm& norm) {
  for (const auto& [name, values] :
       {std::pair(".weight", &norm.weight), std::pair(".bias", &norm.bias),
        std::pair(".running_mean", &norm.mean), std::pair(".running_var", &norm.var)}) {
    put_floats(to, base + name, shape(values->size()), *values);
  }
}

void put_gmsa(Tensors& to, const std::string& base, const Gmsa& gmsa) {
  const std::string inp = base + ".project_inp";
  if ((gmsa.int8_q || gmsa.int8_v || gmsa.int8_attention) && !gmsa.norm.var.empty()) {
    throw Error(ErrorKind::internal, base + ": quantised, but its batch norm is not folded");
  }
  if (gmsa.int8_q || gmsa.int8_v) {
    if (gmsa.computes_attention) {
      put_matrix(to, inp + ".q", gmsa.projection_q(), gmsa.int8_q, inp + ".input_scale");
    }
    put_matrix(to, inp + ".v", gmsa.projection_v(), gmsa.int8_v, inp + ".input_scale");
  } else {
    put_matrix(to, inp + ".0", gmsa.project_inp, {});
    if (!gmsa.norm.var.empty()) put_norm(to, inp + ".1", gmsa.norm);
  }
  put_matrix(to, base + ".project_out", gmsa.project_out, gmsa.int8_out);
  if (gmsa.int8_attention) {
    if (gmsa.computes_attention) {
      put_floats(to, base + ".q_scale", shape(3), gmsa.int8_attention->q_scale);
    }
    put_floats(to, base + ".v_scale", shape(3), gmsa.int8_attention->v_scale);
  }
}

}  // namespace

std::map<std::string, TensorValues> tensors_of(const Network& network) {
  Tensors tensors;
  if (network.arch.subtracts_mean) {
    std::vector<float> negative;
    for (const float m : network.mean) negative.push_back(-m);
    const std::vector<float> identity{1, 0, 0, 0, 1, 0, 0, 0, 1};
    put_floats(tensors, "sub_mean.weight", shape(3, 3, 1, 1), identity);
    put_floats(tensors, "sub_mean.bias", shape(3), negative);
    put_floats(tensors, "add_mean.weight", shape(3, 3, 1, 1), identity);
    put_floats(tensors, "add_mean.bias", shape(3), network.mean);
  }
  put_conv3x3(tensors, "head.0", network.head);
  put_conv3x3(tensors, "tail.0", network.tail);
  for (std::size_t i = 0; i < network.body.size(); ++i) {
    const Elab& elab = network.body[i];
    const std::string body = "body." + std::to_string(i);
    for (std::size_t j = 0; j < elab.lfe.size(); ++j) {
      const std::string lfe = body + ".modules_lfe.lfe_" + std::to_string(j);
      put_shift_conv(tensors, lfe + ".conv0.shift_conv", elab.lfe[j].conv0);
      put_shift_conv(tensors, lfe + ".conv1.shift_conv", elab.lfe[j].conv1);
      put_gmsa(tensors, body + ".modules_gmsa.gmsa_" + std::to_string(j), elab.gmsa[j]);
    }
  }
  return tensors;
}

std::map<std::string, std::string> metadata_of(const Network& network) {
  std::map<std::string, std::string> metadata = network.metadata;
  const Architecture& arch = network.arch;
  metadata["format"] = "pt";
  metadata.emplace("architecture", "elan");
  metadata["scale"] = std::to_string(arch.scale);
  metadata["windows"] = std::to_string(arch.windows[0]) + "," + std::to_string(arch.windows[1]) +
                        "," + std::to_string(arch.windows[2]);
  metadata["value_range"] = "0..255";  // to which every network is brought when it is read
  return metadata;
}

}  // namespace elan
