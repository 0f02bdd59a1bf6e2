#include "model/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "core/printable.h"
#include "elan/error.h"
#include "model/fingerprint.h"

namespace elan {
namespace {

constexpr std::size_t kMaxSide = 1 << 16;  // channels; keeps all products of sides within 64 bits
constexpr int kMaxScale = 8;

// Scales of 8-bit values: within these, products and quotients of three of them are finite floats.
constexpr float kLeastStep = 1e-9F, kMostStep = 1e9F;

std::string lfe_key(int elab, int pair, int conv) {
  return "body." + std::to_string(elab) + ".modules_lfe.lfe_" + std::to_string(pair) + ".conv" +
         std::to_string(conv) + ".shift_conv";
}

std::string gmsa_key(int elab, int pair) {
  return "body." + std::to_string(elab) + ".modules_gmsa.gmsa_" + std::to_string(pair);
}

// The number in `key` between `before` and the next dot.
std::optional<int> index_after(std::string_view key, std::string_view before) {
  const std::size_t at = key.find(before);
  if (at == std::string_view::npos) return std::nullopt;
  const char* const begin = key.data() + at + before.size();
  const char* const end = key.data() + key.size();
  int index = 0;
  const auto [stopped, error] = std::from_chars(begin, end, index);
  if (error != std::errc() || index < 0 || stopped == end || *stopped != '.') return std::nullopt;
  return index;
}

// Taps of a mask [in][9] that is one-hot per channel, else empty.
std::vector<std::uint8_t> taps_of(const std::vector<float>& mask) {
  std::vector<std::uint8_t> taps;
  for (auto channel = mask.begin(); channel != mask.end(); channel += 9) {
    const auto one = std::find(channel, channel + 9, 1.0F);
    if (one == channel + 9 || std::count(channel, channel + 9, 0.0F) != 8) return {};
    taps.push_back(static_cast<std::uint8_t>(one - channel));
  }
  return taps;
}

bool all_finite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

class Reader {
 public:
  explicit Reader(const Safetensors& file) : file_(file), names_(canonical_keys(file)) {}

  Checkpoint read() {
    Checkpoint checkpoint;
    checkpoint.layout = names_.layout;
    checkpoint.prefix = names_.prefix;
    Network& net = checkpoint.network;
    net.metadata = file_.metadata();
    net.arch = infer_architecture();
    check_keys(net.arch);
    read_mean(net);
    net.head = read_conv3x3("head.0", 3, net.arch.channels);
    net.tail = read_conv3x3("tail.0", net.arch.channels, 3 * net.arch.scale * net.arch.scale);
    fold_range(net);
    for (int i = 0; i < net.arch.elabs; ++i) net.body.push_back(read_elab(net.arch, i));
    net.fingerprint = fingerprint_of(net);
    return checkpoint;
  }

 private:
  [[noreturn]] void fail(const std::string& message) const {
    throw Error(ErrorKind::model, file_.name() + ": " + message);
  }

  [[noreturn]] void fail(const std::string& canonical, const std::string& expected,
                         const std::string& found) const {
    fail(shown(canonical) + ": expected " + expected + ", found " + found);
  }

  // A canonical key as the file spells it.
  [[nodiscard]] std::string shown(const std::string& canonical) const {
    const auto at = names_.file_key.find(canonical);
    return printable(at == names_.file_key.end() ? names_.prefix + canonical : at->second);
  }

  [[nodiscard]] bool has(const std::string& canonical) const {
    return names_.file_key.contains(canonical);
  }

  [[nodiscard]] std::optional<std::string> stated(const std::string& name) const {
    const auto at = file_.metadata().find(name);
    return at == file_.metadata().end() ? std::nullopt : std::optional(at->second);
  }

  // Shape of a tensor that must exist and have this many sides, each from 1 to kMaxSide.
  [[nodiscard]] TensorShape shape_of(const std::string& canonical, std::size_t sides) const {
    if (!has(canonical)) {
      fail(canonical, "an ELAN with this tensor",
           "none among " + std::to_string(file_.entries().size()) + " tensors" +
               (file_.entries().empty() ? ""
                                        : " such as " + printable(file_.entries().begin()->first)));
    }
    TensorShape shape = file_.entry(names_.file_key.at(canonical)).shape;
    if (shape.size() != sides ||
        std::any_of(shape.begin(), shape.end(), [](auto s) { return s < 1 || s > kMaxSide; })) {
      fail(canonical,
           "a shape of " + std::to_string(sides) + " sides from 1 to " + std::to_string(kMaxSide),
           to_string(shape));
    }
    return shape;
  }

  [[nodiscard]] Architecture infer_architecture() const {
    Architecture arch;
    if (const auto name = stated("architecture")) {
      std::string lower = *name;
      std::transform(lower.begin(), lower.end(), lower.begin(),
                     [](unsigned char c) { return std::tolower(c); });
      if (!lower.starts_with("elan")) {
        fail("metadata architecture: expected elan, found " + printable(*name));
      }
    }
    arch.channels = static_cast<int>(shape_of("head.0.weight", 4)[0]);
    if (arch.channels % 3 != 0) {
      fail("head.0.weight", "a multiple of 3 as first side (three groups of channels)",
           std::to_string(arch.channels));
    }
    const auto rows = static_cast<int>(shape_of("tail.0.weight", 4)[0]);
    while (arch.scale < kMaxScale && 3 * arch.scale * arch.scale < rows) ++arch.scale;
    if (3 * arch.scale * arch.scale != rows) {
      fail("tail.0.weight",
           "3 * scale * scale as first side, scale 1 to " + std::to_string(kMaxScale),
           std::to_string(rows));
    }
    if (const auto scale = stated("scale"); scale && *scale != std::to_string(arch.scale)) {
      fail("metadata scale: expected " + std::to_string(arch.scale) + " as in the shape of " +
           shown("tail.0.weight") + ", found " + printable(*scale));
    }
    std::set<int> elabs, pairs;  // counted rather than the largest, which a bad file may make huge
    for (const auto& [canonical, unused] : names_.file_key) {
      if (!canonical.starts_with("body.")) continue;
      if (const auto i = index_after(canonical, "body.")) elabs.insert(*i);
      if (const auto j = index_after(canonical, ".gmsa_")) pairs.insert(*j);
    }
    arch.elabs = static_cast<int>(elabs.size());
    arch.pairs = static_cast<int>(pairs.size());
    const std::string conv0 = lfe_key(0, 0, 0);
    const std::string key = conv0 + (has(conv0 + ".w") ? ".w" : ".conv1x1.weight");
    const auto hidden = static_cast<int>(shape_of(key, 4)[0]);
    if (hidden % arch.channels != 0) {
      fail(key, "a multiple of the " + std::to_string(arch.channels) + " channels as first side",
           std::to_string(hidden));
    }
    arch.expand = hidden / arch.channels;
    arch.windows = read_windows();
    return arch;
  }

  [[nodiscard]] std::array<int, 3> read_windows() const {
    const auto text = stated("windows");
    if (!text) return {4, 8, 16};
    std::array<int, 3> windows{};
    const char* at = text->data();
    const char* const end = at + text->size();
    bool good = true;
    for (std::size_t k = 0; k < windows.size() && good; ++k) {
      if (k > 0) {
        good = at != end && *at == ',';
        if (good) ++at;
      }
      const auto [stopped, error] = std::from_chars(at, end, windows[k]);
      at = stopped;
      const int w = windows[k];
      good = good && error == std::errc() && (w == 2 || w == 4 || w == 8 || w == 16);
    }
    if (!good || at != end) {
      fail("metadata windows: expected three of 2, 4, 8 and 16 such as 4,8,16, found " +
           printable(*text));
    }
    return windows;
  }

  // The canonical keys an ELAN of this shape has.
  [[nodiscard]] std::set<std::string> expected_keys(const Architecture& arch) const {
    std::set<std::string> keys;
    const auto add = [&](const std::string& base, std::initializer_list<const char*> names) {
      for (const char* name : names) keys.insert(base + name);
    };
    const auto add_steps = [&](const std::string& base) {
      if (is_int8(base + ".weight")) add(base, {".weight_scale", ".input_scale"});
    };
    add("head.0", {".weight", ".bias"});
    add("tail.0", {".weight", ".bias"});
    if (has_mean()) {
      add("sub_mean", {".weight", ".bias"});
      add("add_mean", {".weight", ".bias"});
    }
    for (int i = 0; i < arch.elabs; ++i) {
      for (int j = 0; j < arch.pairs; ++j) {
        for (const int conv : {0, 1}) {
          const std::string base = lfe_key(i, j, conv);
          if (has(base + ".m")) {
            add(base, {".w", ".b", ".m"});
          } else {
            add(base, {".weight", ".conv1x1.weight", ".conv1x1.bias"});
            add_steps(base + ".conv1x1");
          }
        }
        const std::string base = gmsa_key(i, j);
        add(base, {".project_out.weight", ".project_out.bias"});
        add_steps(base + ".project_out");
        if (!is_split(base)) {
          add(base, {".project_inp.0.weight", ".project_inp.0.bias"});
        } else {
          for (const std::string part : {".project_inp.q", ".project_inp.v"}) {
            if (part.ends_with('q') && j > 0) continue;
            add(base + part, {".weight", ".bias"});
            if (!is_int8(base + part + ".weight")) continue;
            add(base + part, {".weight_scale"});
            add(base, {".project_inp.input_scale"});
          }
        }
        if (has_norms()) {
          add(base + ".project_inp.1", {".weight", ".bias", ".running_mean", ".running_var"});
        }
      }
    }
    return keys;
  }

  [[nodiscard]] bool is_int8(const std::string& canonical) const {
    return has(canonical) && file_.entry(names_.file_key.at(canonical)).dtype == "I8";
  }

  // Whether project_inp is stored as q and v, which it is where either is quantised.
  [[nodiscard]] bool is_split(const std::string& gmsa) const {
    return has(gmsa + ".project_inp.q.weight") || has(gmsa + ".project_inp.v.weight");
  }

  // Scales beside weights that are not in 8 bits are left over from another file.
  void check_stale_steps() const {
    for (const auto& [key, unused] : names_.file_key) {
      if (!key.ends_with(".weight_scale") && !key.ends_with(".input_scale")) continue;
      const std::string base = key.substr(0, key.rfind('.'));
      const bool fresh = key.ends_with(".weight_scale") || !base.ends_with(".project_inp")
                             ? is_int8(base + ".weight")
                             : is_int8(base + ".q.weight") || is_int8(base + ".v.weight");
      if (!fresh) {
        fail(key, "no scale without a weight of type I8 beside it",
             "one" + std::string(has(base + ".weight") ? " beside another type (stale?)" : ""));
      }
    }
  }

  void check_norms_folded() const {
    if (!has_norms()) return;
    for (const auto& [key, unused] : names_.file_key) {
      if (is_int8(key)) {
        fail(key, "type F32 in a file with batch norms (quantised files have them folded)", "I8");
      }
    }
  }

  void check_keys(const Architecture& arch) const {
    check_stale_steps();
    check_norms_folded();
    const std::set<std::string> expected = expected_keys(arch);
    std::vector<std::string> missing, extra;
    for (const auto& key : expected) {
      if (!has(key)) missing.push_back(shown(key));
    }
    for (const auto& [key, file_key] : names_.file_key) {
      if (!expected.contains(key)) extra.push_back(printable(file_key));
    }
    if (missing.empty() && extra.empty()) return;
    fail("keys: expected the " + std::to_string(expected.size()) + " tensors of " +
         std::to_string(arch.elabs) + " ELABs with " + std::to_string(arch.pairs) +
         " pairs each, found " + listed(missing, "missing") +
         (missing.empty() || extra.empty() ? "" : " and ") + listed(extra, "unknown"));
  }

  // "5 missing (a, b, c, ...)", empty if none.
  static std::string listed(const std::vector<std::string>& keys, const std::string& what) {
    constexpr std::size_t kShown = 3;
    if (keys.empty()) return "";
    std::string text = std::to_string(keys.size()) + " " + what + " (";
    for (std::size_t i = 0; i < std::min(kShown, keys.size()); ++i) {
      text += (i == 0 ? "" : ", ") + keys[i];
    }
    return text + (keys.size() > kShown ? ", ...)" : ")");
  }

  [[nodiscard]] std::vector<float> values(const std::string& canonical,
                                          const TensorShape& shape) const {
    check_shape(canonical, shape);
    return file_.floats(names_.file_key.at(canonical));
  }

  void check_shape(const std::string& canonical, const TensorShape& shape) const {
    const TensorShape& found = file_.entry(names_.file_key.at(canonical)).shape;
    if (found != shape) fail(canonical, "shape " + to_string(shape), to_string(found));
  }

  [[nodiscard]] bool has_mean() const {
    const auto at = names_.file_key.lower_bound("sub_mean.");
    return (at != names_.file_key.end() && at->first.starts_with("sub_mean.")) ||
           has("add_mean.weight") || has("add_mean.bias");
  }

  // Without any batch norm in the file they are taken to be folded into the convolutions.
  [[nodiscard]] bool has_norms() const {
    return std::any_of(names_.file_key.begin(), names_.file_key.end(), [](const auto& key) {
      return key.first.find(".project_inp.1.") != std::string::npos;
    });
  }

  // Mean and value range. The range is what the metadata says; else 0..255 if the mean exceeds 1,
  // and 0..1 if it does not or if there is none (the default of the port that leaves it out).
  void read_mean(Network& net) const {
    std::array<double, 3> mean{};
    net.arch.subtracts_mean = has_mean();
    if (net.arch.subtracts_mean) {
      for (const std::string name : {"sub_mean", "add_mean"}) {
        const std::vector<float> weight = values(name + ".weight", {3, 3, 1, 1});
        for (std::size_t i = 0; i < weight.size(); ++i) {
          if (weight[i] != (i % 4 == 0 ? 1.0F : 0.0F)) {
            fail(name + ".weight", "the identity matrix",
                 std::to_string(weight[i]) + " at index " + std::to_string(i));
          }
        }
      }
      const std::vector<float> sub = values("sub_mean.bias", {3});
      const std::vector<float> add = values("add_mean.bias", {3});
      for (std::size_t c = 0; c < 3; ++c) {
        mean[c] = -double(sub[c]);
        if (mean[c] < 0 || mean[c] > 255) {
          fail("sub_mean.bias", "values from -255 to 0", std::to_string(sub[c]));
        }
        if (std::abs(add[c] - mean[c]) > 1e-3 * mean[c]) {
          fail("add_mean.bias", "the negative of sub_mean.bias, " + std::to_string(mean[c]),
               std::to_string(add[c]));
        }
      }
    }
    const double largest = *std::max_element(mean.begin(), mean.end());
    net.arch.value_range = largest > 1 ? 255 : 1;
    if (const auto range = stated("value_range")) {
      if (*range != "0..1" && *range != "0..255") {
        fail("metadata value_range: expected 0..1 or 0..255, found " + printable(*range));
      }
      const double value = *range == "0..1" ? 1 : 255;
      if (largest > 0 && value != net.arch.value_range) {
        fail("metadata value_range: expected 0.." + std::to_string(int(net.arch.value_range)) +
             " for a mean of " + std::to_string(largest) + ", found " + *range);
      }
      net.arch.value_range = value;
    }
    for (std::size_t c = 0; c < 3; ++c) {
      net.mean[c] = static_cast<float>(mean[c] * (255 / net.arch.value_range));
    }
  }

  // A file whose inputs are 0..1 becomes one for 0..255: the head divides, the tail multiplies.
  void fold_range(Network& net) const {
    const double factor = 255 / net.arch.value_range;
    if (factor == 1) return;
    for (float& w : net.head.weight) w = static_cast<float>(w / factor);
    for (float& w : net.tail.weight) w = static_cast<float>(w * factor);
    for (float& b : net.tail.bias) b = static_cast<float>(b * factor);
    if (!all_finite(net.tail.weight) || !all_finite(net.tail.bias)) {
      fail("tail.0", "values that stay finite when scaled to 0..255", "infinity");
    }
  }

  [[nodiscard]] Conv3x3 read_conv3x3(const std::string& base, int in, int out) const {
    Conv3x3 conv;
    conv.in = in;
    conv.out = out;
    conv.weight = values(base + ".weight", shape(out, in, 3, 3));
    conv.bias = values(base + ".bias", shape(out));
    return conv;
  }

  struct Matrix {
    Linear linear;
    std::optional<QuantizedMatrix> int8;
  };

  // A 1x1 convolution in floating point or, if its weight is I8, in 8 bits. `input_key` names its
  // input's scale.
  [[nodiscard]] Matrix read_matrix(const std::string& base, int in, int out,
                                   const std::string& input_key) const {
    Matrix matrix;
    Linear& linear = matrix.linear;
    linear.in = in;
    linear.out = out;
    linear.bias = values(base + ".bias", shape(out));
    if (!is_int8(base + ".weight")) {
      linear.weight = values(base + ".weight", shape(out, in, 1, 1));
      return matrix;
    }
    check_shape(base + ".weight", shape(out, in, 1, 1));
    QuantizedMatrix& int8 = matrix.int8.emplace();
    int8.weight = file_.int8s(names_.file_key.at(base + ".weight"));
    int8.weight_scale = steps(base + ".weight_scale", shape(out));
    int8.input_scale = steps(input_key, shape(1))[0];
    linear.weight = int8.values();
    return matrix;
  }

  [[nodiscard]] Matrix read_matrix(const std::string& base, int in, int out) const {
    return read_matrix(base, in, out, base + ".input_scale");
  }

  [[nodiscard]] std::vector<float> steps(const std::string& key, const TensorShape& shape) const {
    std::vector<float> found = values(key, shape);
    const auto bad = std::find_if_not(found.begin(), found.end(),
                                      [](float v) { return v >= kLeastStep && v <= kMostStep; });
    if (bad != found.end()) {
      fail(key, "scales from 1e-9 to 1e9",
           to_text(*bad) + " at index " + std::to_string(bad - found.begin()));
    }
    return found;
  }

  static std::string to_text(float value) {
    std::array<char, 32> text{};
    const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
    return {text.data(), end};
  }

  [[nodiscard]] ShiftConv read_shift_conv(const std::string& base, int in, int out) const {
    ShiftConv conv;
    conv.in = in;
    conv.out = out;
    if (has(base + ".m")) {
      read_masked_conv(base, conv);
    } else {
      conv.mask = values(base + ".weight", shape(in, 1, 3, 3));
      Matrix matrix = read_matrix(base + ".conv1x1", in, out);
      conv.weight = std::move(matrix.linear.weight);
      conv.bias = std::move(matrix.linear.bias);
      conv.int8 = std::move(matrix.int8);
    }
    conv.taps = taps_of(conv.mask);
    if (conv.int8 && conv.taps.empty()) {
      fail(base + ".weight", "a single 1 for each channel before a weight in 8 bits",
           "another mask");
    }
    return conv;
  }

  // The low-memory layout is a full 3x3 convolution with weight w * m. It is a shift and a 1x1
  // convolution if m is one-hot per input channel and the same for all outputs.
  void read_masked_conv(const std::string& base, ShiftConv& conv) const {
    const auto w = values(base + ".w", shape(conv.out, conv.in, 3, 3));
    const auto m = values(base + ".m", shape(conv.out, conv.in, 3, 3));
    conv.bias = values(base + ".b", shape(conv.out));
    const std::size_t row = static_cast<std::size_t>(conv.in) * 9;
    conv.mask.assign(m.begin(), m.begin() + static_cast<std::ptrdiff_t>(row));
    const auto taps = taps_of(conv.mask);
    if (taps.empty()) fail(base + ".m", "a single 1 for each input channel", "another mask");
    for (std::size_t o = 0; o < static_cast<std::size_t>(conv.out); ++o) {
      const auto begin = m.begin() + static_cast<std::ptrdiff_t>(o * row);
      if (!std::equal(conv.mask.begin(), conv.mask.end(), begin)) {
        fail(base + ".m", "the same mask for every output channel",
             "another for output " + std::to_string(o));
      }
      for (std::size_t i = 0; i < taps.size(); ++i) {
        conv.weight.push_back(w[o * row + i * 9 + taps[i]]);
      }
    }
  }

  void read_norm(const std::string& key, Gmsa& gmsa) const {
    BatchNorm& norm = gmsa.norm;
    const TensorShape channels = shape(gmsa.project_inp.out);
    norm.weight = values(key + ".weight", channels);
    norm.bias = values(key + ".bias", channels);
    norm.mean = values(key + ".running_mean", channels);
    norm.var = values(key + ".running_var", channels);
    const auto negative =
        std::find_if(norm.var.begin(), norm.var.end(), [](float v) { return v < 0; });
    if (negative != norm.var.end()) {
      fail(key + ".running_var", "variances of 0 or more",
           std::to_string(*negative) + " at index " + std::to_string(negative - norm.var.begin()));
    }
    const Linear folded = gmsa.folded_project_inp();
    if (!all_finite(folded.weight) || !all_finite(folded.bias)) {
      fail(key + ".weight", "values that stay finite when folded into the convolution", "infinity");
    }
  }

  [[nodiscard]] Gmsa read_gmsa(const std::string& base, int channels, bool computes) const {
    Gmsa gmsa;
    gmsa.computes_attention = computes;
    const int projected = computes ? 2 * channels : channels;
    if (is_split(base)) {
      read_split_projection(base + ".project_inp", channels, gmsa);
    } else {
      gmsa.project_inp = read_matrix(base + ".project_inp.0", channels, projected).linear;
    }
    if (has_norms()) read_norm(base + ".project_inp.1", gmsa);
    Matrix out = read_matrix(base + ".project_out", channels, channels);
    gmsa.project_out = std::move(out.linear);
    gmsa.int8_out = std::move(out.int8);
    return gmsa;
  }

  // q and v, of which either may be in 8 bits, to the rows of the three groups of (q, v).
  void read_split_projection(const std::string& base, int channels, Gmsa& gmsa) const {
    const std::string input_key = base + ".input_scale";
    std::vector<Matrix> parts;
    if (gmsa.computes_attention) {
      parts.push_back(read_matrix(base + ".q", channels, channels, input_key));
    }
    parts.push_back(read_matrix(base + ".v", channels, channels, input_key));
    Linear& joined = gmsa.project_inp;
    joined.in = channels;
    joined.out = static_cast<int>(parts.size()) * channels;
    const auto rows = static_cast<std::ptrdiff_t>(channels / 3);
    const auto row = static_cast<std::ptrdiff_t>(channels);
    for (std::ptrdiff_t group = 0; group < 3; ++group) {
      for (const Matrix& part : parts) {
        const auto weight = part.linear.weight.begin() + group * rows * row;
        const auto bias = part.linear.bias.begin() + group * rows;
        joined.weight.insert(joined.weight.end(), weight, weight + rows * row);
        joined.bias.insert(joined.bias.end(), bias, bias + rows);
      }
    }
    gmsa.int8_v = std::move(parts.back().int8);
    if (parts.size() == 2) gmsa.int8_q = std::move(parts.front().int8);
  }

  [[nodiscard]] Elab read_elab(const Architecture& arch, int i) const {
    Elab elab;
    elab.shifted = i % 2 == 1;
    const int c = arch.channels;
    for (int j = 0; j < arch.pairs; ++j) {
      elab.lfe.push_back({read_shift_conv(lfe_key(i, j, 0), c, c * arch.expand),
                          read_shift_conv(lfe_key(i, j, 1), c * arch.expand, c)});
      elab.gmsa.push_back(read_gmsa(gmsa_key(i, j), c, j == 0));
    }
    return elab;
  }

  template <typename... Sides>
  static TensorShape shape(Sides... sides) {
    return {static_cast<std::size_t>(sides)...};
  }

  const Safetensors& file_;
  KeyNames names_;
};

}  // namespace

Checkpoint read_checkpoint(const Safetensors& file) {
  return Reader(file).read();
}

Model Model::load(const std::filesystem::path& path) {
  return Model(std::make_shared<const Network>(read_checkpoint(Safetensors::read(path)).network));
}

}  // namespace elan
