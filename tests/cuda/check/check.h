// What the parts of gpu-check share: options, bars, pictures and the list of results.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cuda/cuda_backend.h"
#include "elan/model.h"
#include "model/network.h"
#include "support/golden.h"

namespace elan::check {

struct Options {
  std::string json, models = ELANSR_MODELS, data = ELANSR_TEST_DATA, extra, sets, only;
  int sizes = 50;      // random ones for each model, against the CPU
  bool quick = false;  // small sizes, one model of each width
  bool tiny = false;   // one small picture
};

// The worst errors on 0..255 that are accepted: the means asked for, and for single values ten
// times the largest of an emulation of the same arithmetic.
struct Bar {
  Precision precision;
  double mean, largest_light, largest_full;
  [[nodiscard]] double largest(const Model& model) const {
    return model.architecture().channels == 180 ? largest_full : largest_light;
  }
};

struct Difference {
  double largest = 0, mean = 0;
};
Difference compare(const std::vector<float>& a, const std::vector<float>& b);

struct Picture {
  int width = 0, height = 0;
  std::vector<std::uint8_t> rgb;
  [[nodiscard]] ConstImageView view() const { return view_of(rgb.data(), width, height); }
};

// Noise: for comparing bits. Networks answer chaotically to it: a change of 0.001 may come out as
// one of several levels, so that no two computations agree on it.
Picture noise(int width, int height, std::uint32_t seed);
// Smooth colours with an edge and some grain, as photographs have.
Picture drawn(int width, int height, std::uint32_t seed);

// Float output, not rounded.
std::vector<float> run(Backend& backend, const ConstImageView& in, int scale,
                       const RunContext& context = {});

// Everything that is noted, printed as it comes and kept for the JSON.
class Results {
 public:
  void note(const std::string& model, Precision precision, const std::string& what,
            const Difference& difference, bool ok);
  // Without a model.
  void note(const std::string& what, bool ok, const std::string& detail = {});
  [[nodiscard]] int failed() const { return failed_; }
  [[nodiscard]] int checks() const { return checks_; }
  void write(const std::string& path) const;

 private:
  int checks_ = 0, failed_ = 0;
  std::string json_;
};

// A model with its backends: the one under test, and the CPU's FP32 to compare with.
struct Subject {
  std::string name;
  Model model;
  Bar bar;
  CudaBackend& gpu;
  Backend& cpu;
  std::map<std::string, std::vector<float>>& cpu_results;  // the CPU's, by what was computed
  const Options& options;
  Results& results;

  const std::vector<float>& on_cpu(const std::string& key, const ConstImageView& in) const {
    std::vector<float>& result = cpu_results[key];
    if (result.empty()) result = run(cpu, in, model.scale());
    return result;
  }
  void note(const std::string& what, const Difference& d, bool ok) const {
    results.note(name, bar.precision, what, d, ok);
  }
};

// Stored float64 values, stages among them; random sizes, 206x292 and a batch against the CPU.
void check_accuracy(const Subject& subject);
// The same bits again, from graphs, in batches, from several threads, for all sample types.
void check_behaviour(const Subject& subject);
// The public interface for pictures on the device.
void check_device_pictures(const Subject& subject);
// Plans that mix precisions.
void check_mixed(const Options& options, Results& results);
// Overflow, little memory, errors.
void check_robustness(const Options& options, Results& results);
// 8 bits: the same integers on the same input, and no further from FP32 than the CPU.
void check_integers(const Options& options, Results& results);
// PSNR of the test sets in `options.sets` (SET/xN/NAME_LR.ppm and NAME_HR.ppm).
void check_quality(const Options& options, Results& results);
void check_int8_quality(const Options& options, Results& results);  // the same in 8 bits

}  // namespace elan::check
