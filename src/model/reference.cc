#include "model/reference.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>

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
Planar<T> convolve3x3(const Conv3x3& conv, const Planar<T>& x) {
  Planar<T> y(conv.out, x.height, x.width);
  const float* weight = conv.weight.data();
  for (int o = 0; o < conv.out; ++o) {
    std::fill_n(y.plane(o), y.pixels(), T(conv.bias[o]));
    for (int i = 0; i < conv.in; ++i) {
      for (int tap = 0; tap < 9; ++tap) add_tap(y, o, x, i, tap, T(*weight++));
    }
  }
  return y;
}

// A 1x1 convolution: weight is [out][in].
template <typename T>
Planar<T> multiply(std::span<const float> weight, std::span<const float> bias, const Planar<T>& x) {
  constexpr std::size_t kBlock = 256;  // pixels at a time, so that a row of y stays in cache
  const int out = static_cast<int>(bias.size());
  Planar<T> y(out, x.height, x.width);
  for (std::size_t begin = 0; begin < x.pixels(); begin += kBlock) {
    const std::size_t count = std::min(kBlock, x.pixels() - begin);
    const float* w = weight.data();
    for (int o = 0; o < out; ++o) {
      T* const to = y.plane(o) + begin;
      std::fill_n(to, count, T(bias[o]));
      for (int i = 0; i < x.channels; ++i) add_scaled(to, x.plane(i) + begin, T(*w++), count);
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
Planar<T> shift_convolve(const ShiftConv& conv, const Planar<T>& x) {
  return multiply<T>(conv.weight, conv.bias, filter(conv.mask, x));
}

template <typename T>
Planar<T> local_features(const Lfe& lfe, const Planar<T>& x) {
  Planar<T> hidden = shift_convolve(lfe.conv0, x);
  for (T& v : hidden.values) v = std::max(v, T(0));
  return shift_convolve(lfe.conv1, hidden);
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
                  std::vector<T>& attention, Planar<T>& y) {
  const int channels = y.channels / 3;
  const int first = group * projected.channels / 3;  // q, then v; or v alone
  const int first_v = gmsa.computes_attention ? first + channels : first;
  const std::size_t tokens = static_cast<std::size_t>(window) * window;
  if (gmsa.computes_attention) attention.resize(y.pixels() * tokens);

  std::vector<T> q(channels * tokens), v(tokens * channels), sum(channels);
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
        attend(q, channels, tokens, a);
      }
      for (int c = 0; c < channels; ++c) {
        for (std::size_t t = 0; t < tokens; ++t) {
          v[t * channels + c] = projected.plane(first_v + c)[pixels[t]];
        }
      }
      for (std::size_t i = 0; i < tokens; ++i) {
        std::fill(sum.begin(), sum.end(), T(0));
        for (std::size_t j = 0; j < tokens; ++j) {
          add_scaled(sum.data(), v.data() + j * channels, a[i * tokens + j], sum.size());
        }
        for (int c = 0; c < channels; ++c) y.plane(group * channels + c)[pixels[i]] = sum[c];
      }
    }
  }
}

template <typename T>
Planar<T> self_attention(const Gmsa& gmsa, const std::array<int, 3>& windows, bool shifted,
                         const Planar<T>& x, Attention<T>& attention) {
  Planar<T> projected = multiply<T>(gmsa.project_inp.weight, gmsa.project_inp.bias, x);
  normalise(gmsa.norm, projected);
  Planar<T> y(x.channels, x.height, x.width);
  for (int group = 0; group < 3; ++group) {
    const int window = windows[group];
    attend_group(gmsa, projected, group, window, shifted ? window / 2 : 0, attention[group], y);
  }
  return multiply<T>(gmsa.project_out.weight, gmsa.project_out.bias, y);
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
Planar<T> forward(const Network& net, const Planar<T>& padded, const StageWatcher<T>& watch) {
  Planar<T> picture = padded;
  add_mean(picture, net.mean, T(-1));
  const Planar<T> head = convolve3x3(net.head, picture);
  watch("head", head);

  Planar<T> x = head;
  for (int i = 0; i < net.arch.elabs; ++i) {
    const Elab& elab = net.body[i];
    Attention<T> attention;  // computed by the first pair, used again by the others
    for (int j = 0; j < net.arch.pairs; ++j) {
      add(x, local_features(elab.lfe[j], x));
      watch(lfe_stage(i, j), x);
      add(x, self_attention(elab.gmsa[j], net.arch.windows, elab.shifted, x, attention));
      watch(gmsa_stage(i, j), x);
    }
  }
  add(x, head);
  watch("body", x);

  Planar<T> enlarged = pixel_shuffle(convolve3x3(net.tail, x), net.arch.scale);
  watch("tail", enlarged);
  add_mean(enlarged, net.mean, T(1));
  return enlarged;
}

template Planar<float> forward(const Network&, const Planar<float>&, const StageWatcher<float>&);
template Planar<double> forward(const Network&, const Planar<double>&, const StageWatcher<double>&);

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
