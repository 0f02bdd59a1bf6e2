#include "model/describe.h"

#include <memory>

#include "model/checkpoint.h"
#include "model/safetensors.h"

namespace elan {

ModelDescription describe_model(const std::filesystem::path& path) {
  const Safetensors file = Safetensors::read(path);
  Checkpoint checkpoint = read_checkpoint(file);
  const Model model(std::make_shared<const Network>(std::move(checkpoint.network)));
  const Network& net = model.network();

  ModelDescription about;
  about.path = path.string();
  about.file_size = file.file_size();
  about.tensors = file.entries().size();
  for (const auto& [key, tensor] : file.entries()) ++about.dtypes[tensor.dtype];
  about.layout = checkpoint.layout;
  about.prefix = checkpoint.prefix;
  about.metadata = net.metadata;
  about.architecture = net.arch;
  if (net.arch.subtracts_mean) about.mean.assign(net.mean.begin(), net.mean.end());
  about.parameters = model.parameters();
  about.one_hot_shifts = net.one_hot_shifts();
  about.multiply_adds = multiply_adds_per_pixel(net.arch);
  about.fingerprint = net.fingerprint;
  const auto count = [&about](bool int8) {
    ++about.matrices;
    about.int8_matrices += int8 ? 1 : 0;
  };
  for (const Elab& elab : net.body) {
    for (const Lfe& lfe : elab.lfe) {
      count(lfe.conv0.int8.has_value());
      count(lfe.conv1.int8.has_value());
    }
    for (const Gmsa& gmsa : elab.gmsa) {
      if (gmsa.computes_attention) count(gmsa.int8_q.has_value());
      count(gmsa.int8_v.has_value());
      count(gmsa.int8_out.has_value());
      about.int8_attentions += gmsa.int8_attention ? 1 : 0;
    }
  }
  return about;
}

double multiply_adds_per_pixel(const Architecture& arch) {
  const double c = arch.channels;
  double tokens = 0;  // a pixel attends to, all groups together
  for (const int window : arch.windows) tokens += static_cast<double>(window) * window;
  const double attention = tokens * c / 3;  // of q q^T, and again of A v
  const double lfe = 2 * arch.expand * c * c;
  const double first = lfe + 3 * c * c + 2 * attention;
  const double later = lfe + 2 * c * c + attention;
  return 27 * c + arch.elabs * (first + (arch.pairs - 1) * later) +
         27 * c * arch.scale * arch.scale;
}

}  // namespace elan
