#include "quality/quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>
#include <tuple>
#include <utility>

#include "core/thread_pool.h"
#include "elan/error.h"
#include "model/describe.h"
#include "model/fingerprint.h"
#include "model/stages.h"
#include "quality/judge.h"

namespace elan {
namespace {

constexpr int kSampledPixels = 1024;
// Multiply-adds of one pass over the pictures that operands are ordered on, and searched on.
constexpr double kSensitivityWork = 2e10, kSearchWork = 6e10;

// One operand and the matrices that multiply it. The biases are theirs to correct.
struct Site {
  std::string operation;
  std::vector<Linear> matrices;                                // in floating point
  std::vector<std::optional<QuantizedMatrix>*> int8;           // where their 8-bit forms go
  std::function<void(const std::vector<Linear>&)> write_back;  // their values and biases
};

Linear linear_of(const ShiftConv& conv) {
  return {conv.in, conv.out, conv.weight, conv.bias};
}

// Rows of q and v back into the groups of project_inp.
Linear joined(const std::vector<Linear>& parts) {
  Linear all;
  all.in = parts.front().in;
  all.out = parts.front().out * static_cast<int>(parts.size());
  const auto rows = static_cast<std::ptrdiff_t>(parts.front().out / 3);
  for (std::ptrdiff_t group = 0; group < 3; ++group) {
    for (const Linear& part : parts) {
      const auto weight = part.weight.begin() + group * rows * part.in;
      const auto bias = part.bias.begin() + group * rows;
      all.weight.insert(all.weight.end(), weight, weight + rows * part.in);
      all.bias.insert(all.bias.end(), bias, bias + rows);
    }
  }
  return all;
}

std::vector<Site> sites_of(Network& net) {
  std::vector<Site> sites;
  for (int i = 0; i < net.arch.elabs; ++i) {
    for (int j = 0; j < net.arch.pairs; ++j) {
      Lfe& lfe = net.body[i].lfe[j];
      for (auto& [name, conv] :
           {std::pair<const char*, ShiftConv*>(".conv0", &lfe.conv0), {".conv1", &lfe.conv1}}) {
        ShiftConv* const to = conv;
        sites.push_back({lfe_stage(i, j) + name,
                         {linear_of(*to)},
                         {&to->int8},
                         [to](const std::vector<Linear>& values) {
                           to->weight = values[0].weight;
                           to->bias = values[0].bias;
                         }});
      }
      Gmsa& gmsa = net.body[i].gmsa[j];
      Site inp{gmsa_stage(i, j) + ".project_inp.v", {}, {}, {}};
      if (gmsa.computes_attention) {
        inp.matrices.push_back(gmsa.projection_q());
        inp.int8.push_back(&gmsa.int8_q);
      }
      inp.matrices.push_back(gmsa.projection_v());
      inp.int8.push_back(&gmsa.int8_v);
      inp.write_back = [&gmsa](const std::vector<Linear>& values) {
        gmsa.project_inp = joined(values);
      };
      sites.push_back(std::move(inp));
      sites.push_back(
          {gmsa_stage(i, j) + ".project_out",
           {gmsa.project_out},
           {&gmsa.int8_out},
           [&gmsa](const std::vector<Linear>& values) { gmsa.project_out = values[0]; }});
    }
  }
  return sites;
}

// How much an error in each channel of the operand changes the matrices' results.
std::vector<float> column_weights(const Site& site) {
  const auto in = static_cast<std::size_t>(site.matrices.front().in);
  std::vector<float> weights(in);
  for (const Linear& matrix : site.matrices) {
    for (std::size_t k = 0; k < matrix.weight.size(); ++k) {
      weights[k % in] += matrix.weight[k] * matrix.weight[k];
    }
  }
  return weights;
}

std::vector<float> mean_squares(const OperandSamples& samples) {
  std::vector<double> sums(samples.channels);
  for (std::size_t k = 0; k < samples.values.size(); ++k) {
    sums[k % samples.channels] += double(samples.values[k]) * samples.values[k];
  }
  std::vector<float> means;
  for (const double sum : sums)
    means.push_back(static_cast<float>(sum / static_cast<double>(samples.pixels())));
  return means;
}

// What rounding does to a matrix's results on the samples: relative error, and for each output the
// mean of what is missing.
struct LocalError {
  double relative = 0;
  std::vector<float> missing;
};

LocalError local_error(const Linear& matrix, const QuantizedMatrix& int8,
                       const OperandSamples& samples) {
  const auto in = static_cast<std::size_t>(matrix.in);
  const std::vector<float> rounded = int8.values();
  std::vector<double> missing(matrix.bias.size());
  std::vector<float> xq(in);
  double errors = 0, signal = 0;
  for (std::size_t p = 0; p < samples.pixels(); ++p) {
    const float* const x = samples.values.data() + p * in;
    for (std::size_t i = 0; i < in; ++i) {
      xq[i] =
          std::clamp(std::nearbyint(x[i] / int8.input_scale), -127.0F, 127.0F) * int8.input_scale;
    }
    for (std::size_t o = 0; o < missing.size(); ++o) {
      const float *const w = matrix.weight.data() + o * in, *const wq = rounded.data() + o * in;
      float y = 0, yq = 0;
      for (std::size_t i = 0; i < in; ++i) {
        y += w[i] * x[i];
        yq += wq[i] * xq[i];
      }
      missing[o] += y - yq;
      errors += double(y - yq) * (y - yq);
      signal += double(y) * y;
    }
  }
  LocalError local;
  local.relative = signal > 0 ? std::sqrt(errors / signal) : 0;
  for (const double m : missing) {
    local.missing.push_back(static_cast<float>(m / static_cast<double>(samples.pixels())));
  }
  return local;
}

// The channels of one of the three groups of q or v. The largest value is that of the samples: the
// one of the whole pictures is known of all groups together only.
OperandSamples group_of(const OperandSamples& all, int group) {
  OperandSamples samples;
  samples.channels = all.channels / 3;
  for (std::size_t p = 0; p < all.pixels(); ++p) {
    const auto first = all.values.begin() + static_cast<std::ptrdiff_t>(p) * all.channels +
                       group * samples.channels;
    samples.values.insert(samples.values.end(), first, first + samples.channels);
  }
  for (const float v : samples.values) samples.largest = std::max(samples.largest, std::abs(v));
  return samples;
}

// What rounding with this step does to the samples, relative.
double rounding_error(const OperandSamples& samples, float step) {
  double errors = 0, signal = 0;
  for (const float v : samples.values) {
    const double error = v - std::clamp(std::nearbyint(v / step), -127.0F, 127.0F) * step;
    errors += error * error;
    signal += double(v) * v;
  }
  return signal > 0 ? std::sqrt(errors / signal) : 0;
}

class Quantizer {
 public:
  Quantizer(const Network& net, std::span<const Planar<float>> pictures,
            const QuantizeOptions& options)
      : options_(options), pictures_(pictures), pool_(options.threads), net_(net) {
    for (Elab& elab : net_.body) {
      for (Gmsa& gmsa : elab.gmsa) {
        gmsa.project_inp = gmsa.folded_project_inp();
        gmsa.norm = {};
      }
    }
    sites_ = sites_of(net_);
  }

  QuantizeReport run() {
    OperandSet seen =
        sample_operands(net_, pictures_, kSampledPixels, options_.seed, pool_, options_.stop,
                        [this](double share) { tell("observing", share); });
    samples_ = std::move(seen.samples);
    judge_.emplace(pictures_, seen.enlarged, pool_, options_.stop);
    QuantizeReport report;
    choose_by_mse();
    if (options_.attention) quantize_attention();
    search();
    report.biases_corrected = correct_biases();
    for (std::size_t s = 0; s < sites_.size(); ++s) {
      if (kept(s)) {
        report.kept.push_back(sites_[s].operation);
      } else {
        report.operands.push_back(chosen_[s]);
      }
    }
    report.operands.insert(report.operands.end(), attention_.begin(), attention_.end());
    finish(report);
    return report;
  }

  Network take() {
    net_.fingerprint = fingerprint_of(net_);
    return std::move(net_);
  }

 private:
  void tell(const std::string& phase, double share) const {
    if (options_.progress) options_.progress(phase, share);
  }

  // Puts site `s` into 8 bits with the scale that an observer gives.
  void apply(std::size_t s, Observer observer) {
    Site& site = sites_[s];
    const OperandSamples& samples = samples_.at(site.operation);
    const float step = step_by(observer, samples, column_weights(site));
    const std::vector<float> squares = mean_squares(samples);
    double error = 0;
    missing_[s].clear();
    for (std::size_t m = 0; m < site.matrices.size(); ++m) {
      *site.int8[m] = round_matrix(site.matrices[m], step, squares);
      LocalError local = local_error(site.matrices[m], **site.int8[m], samples);
      error = std::max(error, local.relative);
      missing_[s].push_back(std::move(local.missing));
    }
    chosen_[s] = {site.operation, observer, step, samples.largest, error};
  }

  void choose_by_mse() {
    chosen_.resize(sites_.size());
    missing_.resize(sites_.size());
    std::mutex mutex;
    std::size_t done = 0;
    pool_.parallel_for(sites_.size(), [&](std::size_t s, int) {
      if (options_.stop.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled");
      apply(s, Observer::mse);
      const std::lock_guard lock(mutex);
      tell("rounding", static_cast<double>(++done) / static_cast<double>(sites_.size()));
    });
  }

  // Scales of least mean squared error for q and v, one for each group.
  void quantize_attention() {
    for (int i = 0; i < net_.arch.elabs; ++i) {
      for (int j = 0; j < net_.arch.pairs; ++j) {
        Gmsa& gmsa = net_.body[i].gmsa[j];
        QuantizedAttention& scales = gmsa.int8_attention.emplace();
        if (gmsa.computes_attention) {
          scales.q_scale = attention_scales(gmsa_stage(i, j) + ".qk");
        }
        scales.v_scale = attention_scales(gmsa_stage(i, j) + ".av");
      }
    }
  }

  std::array<float, 3> attention_scales(const std::string& operation) {
    const OperandSamples& all = samples_.at(operation);
    std::array<float, 3> scales{};
    for (int group = 0; group < 3; ++group) {
      const OperandSamples samples = group_of(all, group);
      const std::vector<float> alike(samples.channels, 1.0F);
      scales[group] = step_by(Observer::mse, samples, alike);
      attention_.push_back({operation + "." + std::to_string(group), Observer::mse, scales[group],
                            samples.largest, rounding_error(samples, scales[group])});
    }
    return scales;
  }

  // The pictures that `work` multiply-adds of one pass allow; a matter of the network, never of the
  // clock.
  [[nodiscard]] std::size_t affordable(double work, std::size_t least) const {
    constexpr std::size_t kMost = 24;
    const double each =
        multiply_adds_per_pixel(net_.arch) * static_cast<double>(pictures_.front().pixels());
    return std::min(pictures_.size(),
                    std::clamp(static_cast<std::size_t>(work / each), least, kMost));
  }

  // The mean squared error of the 8-bit network on the pictures of a search.
  double final_error() {
    return judge_->distance(net_, Precision::int8, affordable(kSearchWork, 4)).squared;
  }

  // Sites by how far the picture is off when they alone are in 8 bits, the worst first.
  std::vector<std::size_t> by_sensitivity() {
    const std::size_t count = affordable(kSensitivityWork, 1);
    std::vector<double> error(sites_.size());
    std::vector<std::size_t> order(sites_.size());
    for (std::size_t s = 0; s < sites_.size(); ++s) {
      order[s] = s;
      tell("measuring", static_cast<double>(s) / static_cast<double>(sites_.size()));
      const std::string& operation = sites_[s].operation;
      PrecisionPlan alone(Precision::fp32);
      alone.set(operation, Precision::int8);
      if (sites_[s].int8.size() == 2) {  // project_inp.v stands for q too
        alone.set(operation.substr(0, operation.size() - 1) + "q", Precision::int8);
      }
      error[s] = judge_->distance(net_, alone, count).mean;
    }
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return std::tie(error[b], a) < std::tie(error[a], b);
    });
    return order;
  }

  [[nodiscard]] bool kept(std::size_t s) const { return !sites_[s].int8.front()->has_value(); }

  // Leaves the most sensitive operands in floating point and tries all observers on the whole
  // network for those that follow.
  void search() {
    if (options_.search == 0 && options_.keep == 0) return;
    std::vector<std::size_t> order = by_sensitivity();
    const auto first = order.begin() + std::min<std::ptrdiff_t>(options_.keep, std::ssize(order));
    for (auto at = order.begin(); at != first; ++at) {
      for (auto* const int8 : sites_[*at].int8) int8->reset();
    }
    order.erase(order.begin(), first);
    order.resize(std::min(order.size(), static_cast<std::size_t>(options_.search)));
    if (!order.empty()) search_observers(order);
  }

  void search_observers(std::span<const std::size_t> sites) {
    double least = final_error();
    for (std::size_t k = 0; k < sites.size(); ++k) {
      tell("searching", static_cast<double>(k) / static_cast<double>(sites.size()));
      Observer best = Observer::mse;
      for (const Observer tried : {Observer::max, Observer::percentile, Observer::entropy}) {
        apply(sites[k], tried);
        const double error = final_error();
        if (error < least) {
          least = error;
          best = tried;
        }
      }
      apply(sites[k], best);
    }
    tell("searching", 1);
  }

  // Adds to every bias what rounding takes away on average, if that makes the picture better.
  bool correct_biases() {
    const double before = final_error();
    write_back(true);
    if (final_error() < before) return true;
    write_back(false);
    return false;
  }

  // The network's own matrices become what the integers stand for.
  void write_back(bool with_missing) {
    for (std::size_t s = 0; s < sites_.size(); ++s) {
      if (kept(s)) continue;
      std::vector<Linear> values = sites_[s].matrices;
      for (std::size_t m = 0; m < values.size(); ++m) {
        values[m].weight = (*sites_[s].int8[m])->values();
        for (std::size_t o = 0; with_missing && o < values[m].bias.size(); ++o) {
          values[m].bias[o] += missing_[s][m][o];
        }
      }
      sites_[s].write_back(values);
    }
  }

  void finish(QuantizeReport& report) {
    tell("checking", 0);
    const Distance distance = judge_->distance(net_, Precision::int8, pictures_.size());
    report.mean_error = distance.mean;
    report.largest_error = distance.largest;
    report.psnr = 10 * std::log10(255 * 255 / distance.squared);
    report.worst_mean_error = judge_->distance_from_exact(net_).worst_mean;
  }

  const QuantizeOptions& options_;
  std::span<const Planar<float>> pictures_;
  ThreadPool pool_;
  Network net_;
  std::vector<Site> sites_;
  std::map<std::string, OperandSamples> samples_;
  std::vector<OperandReport> chosen_;  // by site
  std::vector<OperandReport> attention_;
  std::vector<std::vector<std::vector<float>>> missing_;  // by site, matrix and output
  std::optional<Judge> judge_;
};

}  // namespace

QuantizedNetwork quantize(const Network& net, std::span<const Planar<float>> pictures,
                          const QuantizeOptions& options) {
  if (net.quantized()) {
    throw Error(ErrorKind::model, "quantize: expected a model in floating point, found 8 bits");
  }
  if (!net.one_hot_shifts()) {
    throw Error(ErrorKind::model,
                "quantize: expected shift masks with a single 1 for each channel, found others");
  }
  if (pictures.empty()) {
    throw Error(ErrorKind::input, "quantize: expected calibration pictures, found none");
  }
  const int operands = net.arch.elabs * net.arch.pairs * 4;
  if (options.keep >= operands) {
    throw Error(ErrorKind::usage, "keep: expected fewer than the network's " +
                                      std::to_string(operands) + " operands, found " +
                                      std::to_string(options.keep));
  }
  Quantizer quantizer(net, pictures, options);
  QuantizedNetwork result;
  result.report = quantizer.run();
  result.network = quantizer.take();
  return result;
}

}  // namespace elan
