// The reference as a device: pictures in and out around the readable forward pass.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "backend.h"
#include "elan/error.h"
#include "model/reference.h"
#include "model/rounding.h"
#include "model/stages.h"

namespace elan {
namespace {

template <typename Sample, typename T>
void read_row(const std::byte* from, const std::vector<int>& columns, T factor, Planar<T>& to,
              int y) {
  for (int x = 0; x < to.width; ++x) {
    for (int c = 0; c < 3; ++c) {
      Sample sample;
      std::memcpy(&sample, from + (3 * std::size_t(columns[x]) + c) * sizeof sample, sizeof sample);
      to.row(c, y)[x] = T(sample) * factor;
    }
  }
}

template <typename T>
Planar<T> read_padded(const ConstImageView& in, int height, int width) {
  Planar<T> padded(3, height, width);
  std::vector<int> columns(width);
  for (int x = 0; x < width; ++x) columns[x] = reflect(x, in.width);
  for (int y = 0; y < height; ++y) {
    const std::byte* row = in.data + std::size_t(reflect(y, in.height)) * in.row_bytes;
    switch (in.type) {
      case SampleType::u8:
        read_row<std::uint8_t>(row, columns, T(1), padded, y);
        break;
      case SampleType::u16:
        read_row<std::uint16_t>(row, columns, T(1) / T(257), padded, y);
        break;
      case SampleType::f32:
        read_row<float>(row, columns, T(1), padded, y);
        break;
    }
  }
  return padded;
}

// Half to even, as the default rounding mode does; what is no number becomes 0.
template <typename Sample, typename T>
Sample to_integer(T value, T factor, T largest) {
  const T rounded = std::nearbyint(value * factor);
  return rounded > 0 ? static_cast<Sample>(std::min(rounded, largest)) : Sample(0);
}

template <typename Sample, typename T, typename Convert>
void write(const Planar<T>& from, const ImageView& out, Convert&& convert) {
  for (int y = 0; y < out.height; ++y) {
    std::byte* row = out.data + std::size_t(y) * out.row_bytes;
    for (int x = 0; x < out.width; ++x) {
      for (int c = 0; c < 3; ++c, row += sizeof(Sample)) {
        const Sample sample = convert(from.row(c, y)[x]);
        std::memcpy(row, &sample, sizeof sample);
      }
    }
  }
}

template <typename T>
void write_cropped(const Planar<T>& from, const ImageView& out) {
  switch (out.type) {
    case SampleType::u8:
      write<std::uint8_t>(from, out, [](T v) { return to_integer<std::uint8_t>(v, T(1), T(255)); });
      break;
    case SampleType::u16:
      write<std::uint16_t>(from, out,
                           [](T v) { return to_integer<std::uint16_t>(v, T(257), T(65535)); });
      break;
    case SampleType::f32:
      write<float>(from, out, [](T v) { return static_cast<float>(v); });
      break;
  }
}

StageView stage_view(const std::string& name, const Planar<float>& value) {
  return {name, value.channels, value.height, value.width, value.values.data(), nullptr};
}

StageView stage_view(const std::string& name, const Planar<double>& value) {
  return {name, value.channels, value.height, value.width, nullptr, value.values.data()};
}

template <typename T>
Planar<T> cropped(const Planar<T>& from, int height, int width) {
  Planar<T> to(from.channels, height, width);
  for (int c = 0; c < to.channels; ++c) {
    for (int y = 0; y < height; ++y) std::copy_n(from.row(c, y), width, to.row(c, y));
  }
  return to;
}

template <typename T>
class ReferenceBackend : public Backend {
 public:
  ReferenceBackend(std::shared_ptr<const Network> network, PrecisionPlan plan)
      : network_(std::move(network)), plan_(std::move(plan)) {}

  [[nodiscard]] std::string description() const override {
    const bool exact = plan_.uniform() && holds<T>(precision());
    return "reference (" + std::string(to_string(precision())) +
           (exact ? ", 1 thread)" : ", operands rounded, 1 thread)");
  }

  [[nodiscard]] Precision precision() const override { return plan_.default_precision(); }

  [[nodiscard]] std::vector<std::string> stages() const override {
    return stage_names(network_->arch);
  }

  // Pictures run one after another, so the batch does not count.
  [[nodiscard]] std::size_t memory_needed(int width, int height, int /*batch*/) const override {
    const Architecture& arch = network_->arch;
    const auto c = static_cast<std::size_t>(arch.channels);
    const auto e = static_cast<std::size_t>(arch.expand);
    const auto out = 3 * static_cast<std::size_t>(arch.scale) * arch.scale;
    std::size_t attention = 0;
    for (const int window : arch.windows) attention += static_cast<std::size_t>(window) * window;
    const std::size_t lfe = 2 * e * c + c;   // hidden, shifted hidden, result
    const std::size_t gmsa = 4 * c + c + c;  // projected with each rounding, groups, result
    const std::size_t largest_window = *std::max_element(arch.windows.begin(), arch.windows.end());
    const std::size_t scratch = 2 * c * largest_window * largest_window;
    const std::size_t tail = c + 3 * out;  // rounded, result, shuffled
    const std::size_t per_pixel = 6 + 2 * c + attention + std::max({lfe, gmsa, tail});
    return (per_pixel * padded_side(arch, width) * padded_side(arch, height) + scratch) * sizeof(T);
  }

  void run(std::span<const ConstImageView> in, std::span<const ImageView> out,
           const RunContext& context) override {
    for (std::size_t i = 0; i < in.size(); ++i) run_one(in, out[i], i, context);
  }

 private:
  void run_one(std::span<const ConstImageView> batch, const ImageView& out, std::size_t index,
               const RunContext& context) const {
    const Network& net = *network_;
    const ConstImageView& in = batch[index];
    const bool observed = context.observer && index == 0;
    const double stages_total = 2.0 * net.arch.elabs * net.arch.pairs + 3;
    int stages_done = 0;
    const auto stop_if_asked = [&] {
      if (context.stop.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled");
    };
    const StageWatcher<T> watch = [&](const std::string& name, const Planar<T>& value) {
      if (observed) context.observer(stage_view(name, value));
      stop_if_asked();
      ++stages_done;
      if (context.progress) {
        context.progress((static_cast<double>(index) + stages_done / (stages_total + 1)) /
                         static_cast<double>(batch.size()));
      }
    };
    stop_if_asked();
    const Planar<T> enlarged = forward<T>(
        net, read_padded<T>(in, padded_side(net.arch, in.height), padded_side(net.arch, in.width)),
        watch, plan_);
    if (observed) context.observer(stage_view("output", cropped(enlarged, out.height, out.width)));
    write_cropped(enlarged, out);
    if (context.progress) {
      context.progress(static_cast<double>(index + 1) / static_cast<double>(batch.size()));
    }
  }

  std::shared_ptr<const Network> network_;
  const PrecisionPlan plan_;
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend(std::shared_ptr<const Network> network,
                                                const PrecisionPlan& plan) {
  const bool in_double = plan.default_precision() == Precision::fp64;
  check_able(plan, network->arch, "reference", [&](std::string_view operation) {
    std::vector<Precision> able{Precision::fp32, Precision::tf32, Precision::bf16, Precision::fp16};
    if (operation != "residual") able.push_back(Precision::fp8);
    if (network->quantized() && operation != "residual") able.push_back(Precision::int8);
    if (in_double) able.insert(able.begin(), Precision::fp64);
    return able;
  });
  if (in_double) return std::make_unique<ReferenceBackend<double>>(std::move(network), plan);
  return std::make_unique<ReferenceBackend<float>>(std::move(network), plan);
}

}  // namespace elan
