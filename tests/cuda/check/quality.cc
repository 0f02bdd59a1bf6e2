#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "cuda/check/check.h"
#include "quality/metrics.h"

namespace elan::check {
namespace {

namespace fs = std::filesystem;

// An 8-bit binary PPM without comments, as tools/to_ppm.py writes it.
Picture read_ppm(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  Picture p;
  int most = 0;
  file >> magic >> p.width >> p.height >> most;
  file.get();
  if (magic != "P6" || most != 255 || !file) throw std::runtime_error(path.string() + ": no PPM");
  p.rgb.resize(static_cast<std::size_t>(p.width) * p.height * 3);
  file.read(reinterpret_cast<char*>(p.rgb.data()), static_cast<std::streamsize>(p.rgb.size()));
  if (!file) throw std::runtime_error(path.string() + ": cut short");
  return p;
}

// Mean PSNR of the pairs in a folder.
double psnr_of(Backend& backend, int scale, const fs::path& folder) {
  double sum = 0;
  int count = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const auto at = name.find("_LR.ppm");
    if (at == std::string::npos) continue;
    const Picture low = read_ppm(entry.path());
    const Picture high = read_ppm(folder / (name.substr(0, at) + "_HR.ppm"));
    std::vector<std::uint8_t> rgb(low.rgb.size() * scale * scale);
    const ConstImageView in = low.view();
    const ImageView out = view_of(rgb.data(), low.width * scale, low.height * scale);
    backend.run({&in, 1}, {&out, 1}, {});
    sum += compare_luma(out, ConstImageView(high.view().crop(0, 0, out.width, out.height)), scale)
               .psnr;
    ++count;
  }
  return count > 0 ? sum / count : NAN;
}

}  // namespace

// fp16 and tf32 within 0.005 dB of fp32; bf16 is reported.
void check_quality(const Options& options, Results& results) {
  for (const char* name : {"elan_light_x2", "elan_light_x3", "elan_light_x4", "elan_x4"}) {
    const Model model = Model::load(options.models + "/" + name + ".safetensors");
    const std::string scale = "x" + std::to_string(model.scale());
    for (const auto& set : fs::directory_iterator(options.sets)) {
      const fs::path folder = set.path() / scale;
      if (!fs::is_directory(folder)) continue;
      double exact = NAN;
      for (const Precision precision :
           {Precision::fp32, Precision::tf32, Precision::fp16, Precision::bf16}) {
        const auto backend = make_cuda_backend(model.shared_network(), precision, 0);
        const double psnr = psnr_of(*backend, model.scale(), folder);
        if (precision == Precision::fp32) exact = psnr;
        const bool held = precision == Precision::bf16 || std::abs(psnr - exact) <= 0.005;
        const std::string what = "PSNR of " + set.path().filename().string() + "/" + scale;
        results.note(name, precision, what, {psnr, psnr - exact}, std::isfinite(psnr) && held);
      }
    }
  }
}

}  // namespace elan::check
