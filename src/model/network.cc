#include "model/network.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace elan {

std::string Architecture::variant() const {
  const int modules = elabs * pairs;
  if (modules == 36 && channels == 180 && pairs == 1 && expand == 2) return "elan";
  if (modules == 24 && channels == 60 && pairs == 2 && expand == 2) return "elan-light";
  return "elan-custom";
}

std::vector<float> QuantizedMatrix::values() const {
  std::vector<float> values(weight.size());
  const std::size_t in = weight.size() / weight_scale.size();
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(weight[i]) * weight_scale[i / in];
  }
  return values;
}

Linear Gmsa::folded_project_inp() const {
  Linear folded = project_inp;
  if (norm.var.empty()) return folded;
  for (int o = 0; o < folded.out; ++o) {
    const double gain = norm.weight[o] / std::sqrt(norm.var[o] + BatchNorm::kEps);
    for (int i = 0; i < folded.in; ++i) {
      float& w = folded.weight[static_cast<std::size_t>(o) * folded.in + i];
      w = static_cast<float>(w * gain);
    }
    folded.bias[o] = static_cast<float>((folded.bias[o] - norm.mean[o]) * gain + norm.bias[o]);
  }
  return folded;
}

namespace {

// Of each of three groups of rows, part `part` of `parts` equal ones.
Linear rows_of_groups(const Linear& from, int parts, int part) {
  Linear rows;
  rows.in = from.in;
  rows.out = from.out / parts;
  const auto count = static_cast<std::ptrdiff_t>(rows.out / 3);
  const auto in = static_cast<std::ptrdiff_t>(from.in);
  for (std::ptrdiff_t group = 0; group < 3; ++group) {
    const std::ptrdiff_t first = (group * parts + part) * count;
    rows.weight.insert(rows.weight.end(), from.weight.begin() + first * in,
                       from.weight.begin() + (first + count) * in);
    rows.bias.insert(rows.bias.end(), from.bias.begin() + first, from.bias.begin() + first + count);
  }
  return rows;
}

}  // namespace

Linear Gmsa::projection_q() const {
  return rows_of_groups(project_inp, 2, 0);
}

Linear Gmsa::projection_v() const {
  return rows_of_groups(project_inp, computes_attention ? 2 : 1, computes_attention ? 1 : 0);
}

std::optional<QuantizedMatrix> Gmsa::int8_project_inp() const {
  if (!int8_v || (computes_attention && !int8_q)) return std::nullopt;
  if (!computes_attention) return int8_v;
  QuantizedMatrix joined{int8_v->input_scale, {}, {}};
  const auto rows = static_cast<std::ptrdiff_t>(int8_v->weight_scale.size() / 3);
  for (std::ptrdiff_t group = 0; group < 3; ++group) {
    for (const QuantizedMatrix* part : {&*int8_q, &*int8_v}) {
      const auto scale = part->weight_scale.begin() + group * rows;
      const auto weight = part->weight.begin() + group * rows * project_inp.in;
      joined.weight_scale.insert(joined.weight_scale.end(), scale, scale + rows);
      joined.weight.insert(joined.weight.end(), weight, weight + rows * project_inp.in);
    }
  }
  return joined;
}

bool Network::one_hot_shifts() const {
  return std::all_of(body.begin(), body.end(), [](const Elab& elab) {
    return std::all_of(elab.lfe.begin(), elab.lfe.end(), [](const Lfe& lfe) {
      return !lfe.conv0.taps.empty() && !lfe.conv1.taps.empty();
    });
  });
}

bool Network::quantized() const {
  return std::any_of(body.begin(), body.end(), [](const Elab& elab) {
    return std::any_of(elab.lfe.begin(), elab.lfe.end(),
                       [](const Lfe& lfe) { return lfe.conv0.int8 || lfe.conv1.int8; }) ||
           std::any_of(elab.gmsa.begin(), elab.gmsa.end(), [](const Gmsa& gmsa) {
             return gmsa.int8_q || gmsa.int8_v || gmsa.int8_out || gmsa.int8_attention;
           });
  });
}

Model::Model(std::shared_ptr<const Network> network) : network_(std::move(network)) {}

const Architecture& Model::architecture() const {
  return network_->arch;
}
const std::map<std::string, std::string>& Model::metadata() const {
  return network_->metadata;
}
const std::string& Model::fingerprint() const {
  return network_->fingerprint;
}

std::size_t Model::parameters() const {
  const Network& n = *network_;
  std::size_t count =
      n.head.weight.size() + n.head.bias.size() + n.tail.weight.size() + n.tail.bias.size();
  for (const Elab& elab : n.body) {
    for (const Lfe& lfe : elab.lfe) {
      for (const ShiftConv* conv : {&lfe.conv0, &lfe.conv1}) {
        count += conv->weight.size() + conv->bias.size();
      }
    }
    for (const Gmsa& gmsa : elab.gmsa) {
      count += gmsa.project_inp.weight.size() + gmsa.project_inp.bias.size() +
               gmsa.norm.weight.size() + gmsa.norm.bias.size() + gmsa.project_out.weight.size() +
               gmsa.project_out.bias.size();
    }
  }
  return count;
}

}  // namespace elan
