#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <span>

#include "cuda/check/check.h"
#include "quality/metrics.h"
#include "support/ppm.h"

namespace elan::check {
namespace {

namespace fs = std::filesystem;

// Mean PSNR of a folder's pairs, and how far results before rounding are from others'.
struct Quality {
  double psnr = NAN;
  Difference from_exact;
};

// `exact` holds FP32's results by file name; empty ones are filled.
Quality quality_of(Backend& backend, int scale, const fs::path& folder,
                   std::map<std::string, std::vector<float>>& exact) {
  Quality q;
  double sum = 0, distance = 0, samples = 0;
  int count = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const auto at = name.find("_LR.ppm");
    if (at == std::string::npos) continue;
    const test::Ppm low = test::read_ppm(entry.path());
    const test::Ppm high = test::read_ppm(folder / (name.substr(0, at) + "_HR.ppm"));
    const std::vector<float> values = run(backend, low.view(), scale);
    std::vector<std::uint8_t> rgb(values.size());
    std::transform(values.begin(), values.end(), rgb.begin(), [](float v) {
      return static_cast<std::uint8_t>(std::nearbyint(std::clamp(v, 0.F, 255.F)));
    });
    const ImageView out = view_of(rgb.data(), low.width * scale, low.height * scale);
    sum += compare_luma(out, ConstImageView(high.view().crop(0, 0, out.width, out.height)), scale)
               .psnr;
    ++count;
    std::vector<float>& wanted = exact[name];
    if (wanted.empty()) wanted = values;
    const Difference d = compare(values, wanted);
    q.from_exact.largest = std::max(q.from_exact.largest, d.largest);
    distance += d.mean * static_cast<double>(values.size());
    samples += static_cast<double>(values.size());
  }
  if (count > 0) q.psnr = sum / count;
  q.from_exact.mean = distance / samples;
  return q;
}

// A precision, fp16 on every residual stream.
struct Row {
  Precision precision;
  const char* stream;
  const char* text;
};
constexpr std::array<Row, 7> kRows{{{Precision::fp32, "", ""},
                                    {Precision::tf32, "", ""},
                                    {Precision::fp16, "fp16", ""},
                                    {Precision::fp16, "split", ", split stream"},
                                    {Precision::fp16, "fp32", ", FP32 stream"},
                                    {Precision::bf16, "", ""},
                                    {Precision::fp8, "", ""}}};

constexpr double kMostIn8Bits = 0.05;  // dB

// Models in 8 bits; fp32 computes with the values that their integers stand for.
constexpr std::array<Row, 2> kInt8Rows{{{Precision::fp32, "", ""}, {Precision::int8, "", ""}}};

// A row may be `most` dB off the first one, which is fp32.
void check_rows(const std::string& name, std::span<const Row> rows, double most,
                const Options& options, Results& results) {
  const Model model = Model::load(options.models + "/" + name + ".safetensors");
  const std::string scale = "x" + std::to_string(model.scale());
  for (const auto& set : fs::directory_iterator(options.sets)) {
    const fs::path folder = set.path() / scale;
    if (!fs::is_directory(folder)) continue;
    std::map<std::string, std::vector<float>> exact;
    double exact_psnr = NAN;
    for (const Row& row : rows) {
      if (*row.stream != 0) setenv("ELANSR_CUDA_STREAM", row.stream, 1);
      const auto backend = make_cuda_backend(model.shared_network(), row.precision, 0);
      unsetenv("ELANSR_CUDA_STREAM");
      const Quality q = quality_of(*backend, model.scale(), folder, exact);
      if (row.precision == Precision::fp32) exact_psnr = q.psnr;
      const double drop = std::abs(q.psnr - exact_psnr);
      const bool held = row.precision == Precision::bf16 ||
                        drop <= (row.precision == Precision::fp8 ? kMostIn8Bits : most);
      const std::string what = set.path().filename().string() + "/" + scale + row.text;
      results.note(name, row.precision, "PSNR of " + what, {q.psnr, q.psnr - exact_psnr},
                   std::isfinite(q.psnr) && held);
      if (row.precision != Precision::fp32) {
        results.note(name, row.precision, "from fp32, " + what, q.from_exact,
                     std::isfinite(q.from_exact.mean));
      }
    }
  }
}

}  // namespace

// fp16 and tf32 within 0.005 dB of fp32, fp8 within 0.05; bf16 is reported.
void check_quality(const Options& options, Results& results) {
  for (const char* name : {"elan_light_x2", "elan_light_x3", "elan_light_x4", "elan_x4"}) {
    check_rows(name, kRows, 0.005, options, results);
  }
}

// Within 0.05 dB.
void check_int8_quality(const Options& options, Results& results) {
  for (const char* name :
       {"elan_light_int8_x2", "elan_light_int8_x3", "elan_light_int8_x4", "elan_int8_x4"}) {
    check_rows(name, kInt8Rows, kMostIn8Bits, options, results);
  }
}

}  // namespace elan::check
