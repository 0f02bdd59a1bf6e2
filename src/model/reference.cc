#include "model/reference.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>

#include "model/rounding.h"
#include "model/stages.h"

namespace elan {
namespace {

// y += factor * x. The inner loop of everything below; the compiler vectorises it.
template <typename T>
inline void add_scaled(T* y, const T* x, T factor, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) y[i] += factor * x[i];
}

template <typename T>
void add(Planar<T>& y, const Planar<T>& x) {
  add_scaled(y.values.data(), x.values.data(), T(1), y.values.size());
}

template <typename T>
void add_mean(Planar<T>& y, const std::array<float, 3>& mean, T sign) {
  for (int c = 0; c < 3; ++c) {
    for (std::size_t i = 0; i < y.pixels(); ++i) y.plane(c)[i] += sign * T(mean[c]);
  }
}

// y[p] += factor * x[p + offset of the tap], outside the picture zero. Tap k = 3 * ky + kx.
template <typename T>
void add_tap(Planar<T>& y, int to, const Planar<T>& x, int from, int tap, T factor) {
  const int dy = tap / 3 - 1, dx = tap % 3 - 1;
  const int left = std::max(0, -dx), right = x.width - std::max(0, dx);
  for (int row = std::max(0, -dy); row < x.height - std::max(0, dy); ++row) {
    add_scaled(y.row(to, row) + left, x.row(from, row + dy) + left + dx, factor,
               static_cast<std::size_t>(right - left));
  }
}

template <typename T>
std::vector<T> rounded(std::span<const float> values, Precision precision) {
  std::vector<T> result(values.begin(), values.end());
  round_to<T>(precision, result);
  return result;
}

template <typename T>
Planar<T> convolve3x3(const Conv3x3& conv, const Planar<T>& exact, Precision precision) {
  Planar<T> narrow;
  if (!holds<T>(precision)) {
    narrow = exact;
    round_to<T>(precision, narrow.values);
  }
  const Planar<T>& x = holds<T>(precision) ? exact : narrow;
  Planar<T> y(conv.out, x.height, x.width);
  const std::vector<T> weights = rounded<T>(conv.weight, precision);
  const T* weight = weights.data();
  for (int o = 0; o < conv.out; ++o) {
    std::fill_n(y.plane(o), y.pixels(), T(conv.bias[o]));
    for (int i = 0; i < conv.in; ++i) {
      for (int tap = 0; tap < 9; ++tap) add_tap(y, o, x, i, tap, *weight++);
    }
  }
  return y;
}

// A 1x1 convolution: weight is [out][in].
template <typename T>
Planar<T> multiply(std::span<const float> weight, std::span<const float> bias, const Planar<T>& x,
                   Precision precision) {
  constexpr std::size_t kBlock = 256;  // pixels at a time, so that a row of y stays in cache
  const int out = static_cast<int>(bias.size());
  const std::vector<T> weights = rounded<T>(weight, precision);
  std::vector<T> block(kBlock * x.channels);  // [in][pixels]
  Planar<T> y(out, x.height, x.width);
  for (std::size_t begin = 0; begin < x.pixels(); begin += kBlock) {
    const std::size_t count = std::min(kBlock, x.pixels() - begin);
    for (int i = 0; i < x.channels; ++i) {
      std::copy_n(x.plane(i) + begin, count, block.data() + i * kBlock);
    }
    round_to<T>(precision, block);
    const T* w = weights.data();
    for (int o = 0; o < out; ++o) {
      T* const to = y.plane(o) + begin;
      std::fill_n(to, count, T(bias[o]));
      for (int i = 0; i < x.channels; ++i) add_scaled(to, block.data() + i * kBlock, *w++, count);
    }
  }
  return y;
}

// Any depthwise 3x3 filter, of which the usual one-hot shift is the cheapest.
template <typename T>
Planar<T> filter(const std::vector<float>& mask, const Planar<T>& x) {
  Planar<T> y(x.channels, x.height, x.width);
  for (int c = 0; c < x.channels; ++c) {
    for (int tap = 0; tap < 9; ++tap) {
      const float factor = mask[static_cast<std::size_t>(c) * 9 + tap];
      if (factor != 0) add_tap(y, c, x, c, tap, T(factor));
    }
  }
  return y;
}

template <typename T>
Planar<T> shift_convolve(const ShiftConv& conv, const Planar<T>& x, Precision precision) {
  return multiply<T>(conv.weight, conv.bias, filter(conv.mask, x), precision);
}

template <typename T>
Planar<T> local_features(const Lfe& lfe, const Planar<T>& x, const PrecisionPlan& plan,
                         const std::string& stage) {
  Planar<T> hidden = shift_convolve(lfe.conv0, x, plan.at(stage + ".conv0"));
  for (T& v : hidden.values) v = std::max(v, T(0));
  return shift_convolve(lfe.conv1, hidden, plan.at(stage + ".conv1"));
}

template <typename T>
void normalise(const BatchNorm& norm, Planar<T>& x) {
  if (norm.var.empty()) return;
  for (int c = 0; c < x.channels; ++c) {
    const T gain = T(norm.weight[c]) / std::sqrt(T(norm.var[c]) + T(BatchNorm::kEps));
    for (std::size_t i = 0; i < x.pixels(); ++i) {
      T& v = x.plane(c)[i];
      v = (v - T(norm.mean[c])) * gain + T(norm.bias[c]);
    }
  }
}

// The precisions of a GMSA's operations.
struct GmsaPrecisions {
  Precision q, v, qk, av, project_out;

  GmsaPrecisions(const PrecisionPlan& plan, const std::string& stage)
      : q(plan.at(stage + ".project_inp.q")),
        v(plan.at(stage + ".project_inp.v")),
        qk(plan.at(stage + ".qk")),
        av(plan.at(stage + ".av")),
        project_out(plan.at(stage + ".project_out")) {}
};

// Three groups of (q, v), or of v alone.
template <typename T>
Planar<T> project(const Gmsa& gmsa, const Planar<T>& x, const GmsaPrecisions& in) {
  const bool has_q = gmsa.computes_attention;
  if (holds<T>(in.v) && (!has_q || holds<T>(in.q))) {
    Planar<T> y = multiply<T>(gmsa.project_inp.weight, gmsa.project_inp.bias, x, in.v);
    normalise(gmsa.norm, y);
    return y;
  }
  const Linear folded = gmsa.folded_project_inp();
  Planar<T> y = multiply<T>(folded.weight, folded.bias, x, in.v);
  if (!has_q || in.q == in.v) return y;
  const Planar<T> with_q = multiply<T>(folded.weight, folded.bias, x, in.q);
  const int half = folded.out / 6;  // channels of q in a group
  for (int group = 0; group < 3; ++group) {
    const int first = 2 * group * half;
    std::copy(with_q.plane(first), with_q.plane(first + half), y.plane(first));
  }
  return y;
}

// The tokens of one window: which pixel of the plane each of its w * w tokens is. Shifting rolls
// the picture by half a window, so a window at the border also sees the opposite edge.
std::vector<std::size_t> window_pixels(int window, int shift, int wy, int wx, int height,
                                       int width) {
  std::vector<std::size_t> pixels;
  pixels.reserve(static_cast<std::size_t>(window) * window);
  for (int dy = 0; dy < window; ++dy) {
    const int y = (wy * window + dy + shift) % height;
    for (int dx = 0; dx < window; ++dx) {
      const int x = (wx * window + dx + shift) % width;
      pixels.push_back(static_cast<std::size_t>(y) * width + x);
    }
  }
  return pixels;
}

// softmax(q q^T) over each row, [tokens][tokens]. q is [channels][tokens].
template <typename T>
void attend(const std::vector<T>& q, int channels, std::size_t tokens, T* a) {
  for (std::size_t i = 0; i < tokens; ++i) {
    T* const row = a + i * tokens;
    std::fill_n(row, tokens, T(0));
    for (int c = 0; c < channels; ++c) {
      const T* const qc = q.data() + c * tokens;
      add_scaled(row, qc, qc[i], tokens);
    }
    const T largest = *std::max_element(row, row + tokens);
    T sum = 0;
    for (std::size_t j = 0; j < tokens; ++j) sum += row[j] = std::exp(row[j] - largest);
    for (std::size_t j = 0; j < tokens; ++j) row[j] /= sum;
  }
}

// For each of the three groups of channels the matrices A of all its windows, one after another.
template <typename T>
using Attention = std::array<std::vector<T>, 3>;

// The attention of all windows of one group: computes A into `attention` if the module does, then
// writes A v to the group's channels of y.
template <typename T>
void attend_group(const Gmsa& gmsa, const Planar<T>& projected, int group, int window, int shift,
                  const GmsaPrecisions& in, std::vector<T>& attention, Planar<T>& y) {
  const int channels = y.channels / 3;
  const int first = group * projected.channels / 3;  // q, then v; or v alone
  const int first_v = gmsa.computes_attention ? first + channels : first;
  const std::size_t tokens = static_cast<std::size_t>(window) * window;
  if (gmsa.computes_attention) attention.resize(y.pixels() * tokens);

  std::vector<T> q(channels * tokens), v(tokens * channels), sum(channels), row(tokens);
  T* a = attention.data();
  for (int wy = 0; wy < y.height / window; ++wy) {
    for (int wx = 0; wx < y.width / window; ++wx, a += tokens * tokens) {
      const auto pixels = window_pixels(window, shift, wy, wx, y.height, y.width);
      if (gmsa.computes_attention) {
        for (int c = 0; c < channels; ++c) {
          for (std::size_t t = 0; t < tokens; ++t) {
            q[c * tokens + t] = projected.plane(first + c)[pixels[t]];
          }
        }
        round_to<T>(in.qk, q);
        attend(q, channels, tokens, a);
      }
      for (int c = 0; c < channels; ++c) {
        for (std::size_t t = 0; t < tokens; ++t) {
          v[t * channels + c] = projected.plane(first_v + c)[pixels[t]];
        }
      }
      round_to<T>(in.av, v);
      for (std::size_t i = 0; i < tokens; ++i) {
        std::copy_n(a + i * tokens, tokens, row.data());
        round_to<T>(in.av, row);
        std::fill(sum.begin(), sum.end(), T(0));
        for (std::size_t j = 0; j < tokens; ++j) {
          add_scaled(sum.data(), v.data() + j * channels, row[j], sum.size());
        }
        for (int c = 0; c < channels; ++c) y.plane(group * channels + c)[pixels[i]] = sum[c];
      }
    }
  }
}

template <typename T>
Planar<T> self_attention(const Gmsa& gmsa, const std::array<int, 3>& windows, bool shifted,
                         const Planar<T>& x, const GmsaPrecisions& in, Attention<T>& attention) {
  const Planar<T> projected = project(gmsa, x, in);
  Planar<T> y(x.channels, x.height, x.width);
  for (int group = 0; group < 3; ++group) {
    const int window = windows[group];
    attend_group(gmsa, projected, group, window, shifted ? window / 2 : 0, in, attention[group], y);
  }
  return multiply<T>(gmsa.project_out.weight, gmsa.project_out.bias, y, in.project_out);
}

// Channel k * s * s + dy * s + dx becomes phase (dy, dx) of channel k.
template <typename T>
Planar<T> pixel_shuffle(const Planar<T>& x, int scale) {
  Planar<T> y(x.channels / (scale * scale), x.height * scale, x.width * scale);
  for (int c = 0; c < y.channels; ++c) {
    for (int row = 0; row < y.height; ++row) {
      for (int column = 0; column < y.width; ++column) {
        const int from = (c * scale + row % scale) * scale + column % scale;
        y.row(c, row)[column] = x.row(from, row / scale)[column / scale];
      }
    }
  }
  return y;
}

}  // namespace

template <typename T>
Planar<T> forward(const Network& net, const Planar<T>& padded, const StageWatcher<T>& watch,
                  const PrecisionPlan& plan) {
  const Precision stream = plan.at("residual");
  Planar<T> picture = padded;
  add_mean(picture, net.mean, T(-1));
  Planar<T> head = convolve3x3(net.head, picture, plan.at("head"));
  round_to<T>(stream, head.values);
  watch("head", head);

  Planar<T> x = head;
  for (int i = 0; i < net.arch.elabs; ++i) {
    const Elab& elab = net.body[i];
    Attention<T> attention;  // computed by the first pair, used again by the others
    for (int j = 0; j < net.arch.pairs; ++j) {
      const std::string lfe = lfe_stage(i, j), gmsa = gmsa_stage(i, j);
      add(x, local_features(elab.lfe[j], x, plan, lfe));
      round_to<T>(stream, x.values);
      watch(lfe, x);
      add(x,
          self_attention(elab.gmsa[j], net.arch.windows, elab.shifted, x, {plan, gmsa}, attention));
      round_to<T>(stream, x.values);
      watch(gmsa, x);
    }
  }
  add(x, head);
  round_to<T>(stream, x.values);
  watch("body", x);

  Planar<T> enlarged = pixel_shuffle(convolve3x3(net.tail, x, plan.at("tail")), net.arch.scale);
  watch("tail", enlarged);
  add_mean(enlarged, net.mean, T(1));
  return enlarged;
}

template Planar<float> forward(const Network&, const Planar<float>&, const StageWatcher<float>&,
                               const PrecisionPlan&);
template Planar<double> forward(const Network&, const Planar<double>&, const StageWatcher<double>&,
                                const PrecisionPlan&);

int padded_side(const Architecture& arch, int side) {
  int multiple = 1;
  for (const int window : arch.windows) multiple = std::lcm(multiple, window);
  return (side + multiple - 1) / multiple * multiple;
}

int reflect(int i, int size) {
  if (size == 1) return 0;
  const int period = 2 * (size - 1);
  const int at = i % period;
  return at < size ? at : period - at;
}

}  // namespace elan
