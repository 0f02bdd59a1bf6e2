// Writes the seeds of fuzz_weights: make_weights_seeds FOLDER (tests/fuzz/weights in the tree).
// Each is a complete network, the smallest there is, in one of the layouts and types.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "support/quantized.h"
#include "support/weights_files.h"

namespace {

using elan::test::Bytes;
using elan::test::WeightsFile;

// The upper halves of the values: what BF16 keeps of them.
WeightsFile in_bfloat(WeightsFile file) {
  for (auto& [key, tensor] : file.tensors) {
    Bytes halves;
    for (std::size_t i = 0; i < tensor.bytes.size(); i += 4) {
      halves.insert(halves.end(), {tensor.bytes[i + 2], tensor.bytes[i + 3]});
    }
    tensor.dtype = "BF16";
    tensor.bytes = halves;
  }
  return file;
}

void write(const std::filesystem::path& folder, const std::string& name, const WeightsFile& file) {
  const Bytes bytes = elan::test::serialise(file);
  std::ofstream(folder / name, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  const WeightsFile published = elan::test::make_elan(elan::test::smallest_architecture());
  write(folder, "published", published);
  write(folder, "low_memory", elan::test::in_low_memory_layout(published));
  write(folder, "basicsr", elan::test::in_basicsr_layout(published));
  write(folder, "without_mean", elan::test::without_mean(published));
  write(folder, "bfloat", in_bfloat(published));
  write(folder, "quantized", elan::test::make_quantized_elan(elan::test::smallest_architecture()));
  write(folder, "wrapped",
        elan::test::renamed(published, [](const std::string& key) { return "params." + key; }));
}
