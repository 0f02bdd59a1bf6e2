#include "model/work.h"

#include "model/stages.h"

namespace elan {

std::map<std::string, double> operation_work(const Network& network) {
  const Architecture& arch = network.arch;
  const auto size = [](const auto& matrix) { return static_cast<double>(matrix.weight.size()); };
  double attention = 0;  // each token with all of its window, a third of the channels
  for (const int window : arch.windows) attention += window * window * arch.channels / 3.0;
  std::map<std::string, double> work{
      {"head", size(network.head)}, {"tail", size(network.tail)}, {"residual", 0}};
  for (int i = 0; i < arch.elabs; ++i) {
    for (int j = 0; j < arch.pairs; ++j) {
      const Lfe& lfe = network.body[i].lfe[j];
      const Gmsa& gmsa = network.body[i].gmsa[j];
      const std::string l = lfe_stage(i, j), g = gmsa_stage(i, j);
      work[l + ".conv0"] = size(lfe.conv0);
      work[l + ".conv1"] = size(lfe.conv1);
      const double projections = gmsa.computes_attention ? 2 : 1;
      work[g + ".project_inp.v"] = size(gmsa.project_inp) / projections;
      if (gmsa.computes_attention) {
        work[g + ".project_inp.q"] = size(gmsa.project_inp) / projections;
        work[g + ".qk"] = attention;
      }
      work[g + ".av"] = attention;
      work[g + ".project_out"] = size(gmsa.project_out);
    }
  }
  return work;
}

}  // namespace elan
