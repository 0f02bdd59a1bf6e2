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

bool Network::one_hot_shifts() const {
  return std::all_of(body.begin(), body.end(), [](const Elab& elab) {
    return std::all_of(elab.lfe.begin(), elab.lfe.end(), [](const Lfe& lfe) {
      return !lfe.conv0.taps.empty() && !lfe.conv1.taps.empty();
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
