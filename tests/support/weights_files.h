// Weights files made in memory: small networks with pseudo-random values, rewritten and damaged at
// will by the tests.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "elan/model.h"
#include "model/safetensors.h"

namespace elan::test {

using Bytes = std::vector<std::byte>;

struct RawTensor {
  std::string dtype;
  TensorShape shape;
  Bytes bytes;
};

struct WeightsFile {
  std::map<std::string, std::string> metadata;
  std::map<std::string, RawTensor> tensors;
};

inline RawTensor f32_tensor(TensorShape shape, const std::vector<float>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {"F32", std::move(shape), Bytes(bytes.begin(), bytes.end())};
}

inline std::vector<float> floats_of(const RawTensor& tensor) {
  std::vector<float> values(tensor.bytes.size() / sizeof(float));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

inline Bytes bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// A file from a JSON header and the values after it.
inline Bytes with_header(std::string_view json, const Bytes& values = {}) {
  const std::uint64_t length = json.size();
  const auto prefix = std::as_bytes(std::span(&length, 1));
  Bytes file(prefix.begin(), prefix.end());
  const Bytes header = bytes_of(json);
  file.insert(file.end(), header.begin(), header.end());
  file.insert(file.end(), values.begin(), values.end());
  return file;
}

inline Bytes serialise(const WeightsFile& file) {
  nlohmann::ordered_json header;
  if (!file.metadata.empty()) header["__metadata__"] = file.metadata;
  Bytes values;
  for (const auto& [key, tensor] : file.tensors) {
    const std::size_t begin = values.size();
    values.insert(values.end(), tensor.bytes.begin(), tensor.bytes.end());
    header[key] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, values.size()}}};
  }
  return with_header(header.is_null() ? "{}" : header.dump(), values);
}

// The content of a file, ready to be changed and written again.
inline WeightsFile content_of(const Safetensors& file) {
  WeightsFile content;
  content.metadata = file.metadata();
  for (const auto& [key, tensor] : file.entries()) {
    const auto bytes = file.bytes(key);
    content.tensors[key] = {tensor.dtype, tensor.shape, Bytes(bytes.begin(), bytes.end())};
  }
  return content;
}

// Small deterministic numbers around 0, of about the size that keeps activations tame.
class Values {
 public:
  explicit Values(std::uint32_t seed) : state_(seed) {}

  std::vector<float> operator()(std::size_t count, float centre = 0, float spread = 1) {
    std::vector<float> values(count);
    for (float& v : values) {
      state_ = state_ * 1664525 + 1013904223;
      v = centre + spread * (static_cast<float>(state_ >> 8) / static_cast<float>(1 << 23) - 1);
    }
    return values;
  }

 private:
  std::uint32_t state_;
};

// The usual mask: right, left, below, above, for a fifth of the channels each; the rest stays.
inline std::vector<float> usual_mask(std::size_t channels) {
  constexpr std::size_t kTaps[] = {5, 3, 7, 1, 4};
  std::vector<float> mask(channels * 9);
  for (std::size_t c = 0; c < channels; ++c) {
    const std::size_t group = channels < 5 ? 4 : std::min<std::size_t>(c / (channels / 5), 4);
    mask[c * 9 + kTaps[group]] = 1;
  }
  return mask;
}

// A complete network in the published layout, range 0..255, with metadata.
inline WeightsFile make_elan(const Architecture& arch) {
  WeightsFile file;
  Values values(42);
  const auto put = [&](const std::string& key, const TensorShape& shape, float centre,
                       float spread) {
    file.tensors[key] = f32_tensor(shape, values(element_count(shape), centre, spread));
  };
  const auto put_conv = [&](const std::string& key, std::size_t out, std::size_t in,
                            std::size_t side) {
    put(key + ".weight", {out, in, side, side}, 0,
        1 / std::sqrt(static_cast<float>(in * side * side)));
    put(key + ".bias", {out}, 0, 0.1F);
  };
  const auto c = static_cast<std::size_t>(arch.channels);
  const auto hidden = c * static_cast<std::size_t>(arch.expand);
  const std::vector<float> mean{114.444F, 111.4605F, 103.02F};
  for (const auto& [name, sign] : {std::pair("sub_mean", -1.0F), std::pair("add_mean", 1.0F)}) {
    const std::string base = name;
    file.tensors[base + ".weight"] = f32_tensor({3, 3, 1, 1}, {1, 0, 0, 0, 1, 0, 0, 0, 1});
    file.tensors[base + ".bias"] =
        f32_tensor({3}, {sign * mean[0], sign * mean[1], sign * mean[2]});
  }
  put_conv("head.0", c, 3, 3);
  put_conv("tail.0", 3 * static_cast<std::size_t>(arch.scale * arch.scale), c, 3);
  for (int i = 0; i < arch.elabs; ++i) {
    const std::string body = "body." + std::to_string(i) + ".";
    for (int j = 0; j < arch.pairs; ++j) {
      for (const int conv : {0, 1}) {
        const std::string base = body + "modules_lfe.lfe_" + std::to_string(j) + ".conv" +
                                 std::to_string(conv) + ".shift_conv";
        const std::size_t in = conv == 0 ? c : hidden, out = conv == 0 ? hidden : c;
        file.tensors[base + ".weight"] = f32_tensor({in, 1, 3, 3}, usual_mask(in));
        put_conv(base + ".conv1x1", out, in, 1);
      }
      const std::string gmsa = body + "modules_gmsa.gmsa_" + std::to_string(j);
      const std::size_t projected = j == 0 ? 2 * c : c;
      put_conv(gmsa + ".project_inp.0", projected, c, 1);
      put(gmsa + ".project_inp.1.weight", {projected}, 1, 0.2F);
      put(gmsa + ".project_inp.1.bias", {projected}, 0, 0.1F);
      put(gmsa + ".project_inp.1.running_mean", {projected}, 0, 0.5F);
      put(gmsa + ".project_inp.1.running_var", {projected}, 100, 20);
      put_conv(gmsa + ".project_out", c, c, 1);
    }
  }
  file.metadata = {
      {"format", "pt"},
      {"architecture", "elan"},
      {"scale", std::to_string(arch.scale)},
      {"windows", std::to_string(arch.windows[0]) + "," + std::to_string(arch.windows[1]) + "," +
                      std::to_string(arch.windows[2])},
      {"value_range", "0..255"}};
  return file;
}

// Small, yet with everything: two pairs that share attention, a shifted ELAB, shifted channels.
inline Architecture small_architecture() {
  Architecture arch;
  arch.scale = 2;
  arch.channels = 15;
  arch.elabs = 2;
  arch.pairs = 2;
  arch.expand = 2;
  return arch;
}

// The smallest there is.
inline Architecture smallest_architecture() {
  Architecture arch;
  arch.scale = 1;
  arch.channels = 3;
  arch.elabs = 1;
  arch.pairs = 1;
  arch.expand = 1;
  return arch;
}

inline WeightsFile renamed(const WeightsFile& file, auto&& rename) {
  WeightsFile changed;
  changed.metadata = file.metadata;
  for (const auto& [key, tensor] : file.tensors) changed.tensors[rename(key)] = tensor;
  return changed;
}

inline std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

// The names of FriedRiceLab's port.
inline WeightsFile in_basicsr_layout(const WeightsFile& file) {
  return renamed(file, [](std::string key) {
    key = replaced(key, "head.0.", "head.");
    key = replaced(key, "modules_gmsa.gmsa_", "modules_gmsa.");
    key = replaced(key, "modules_lfe.lfe_", "modules_lfe.");
    key = replaced(key, ".conv0.", ".lfe.0.");
    key = replaced(key, ".conv1.", ".lfe.2.");
    key = replaced(key, ".shift_conv.weight", ".mask");
    return replaced(key, ".shift_conv.conv1x1.", ".");
  });
}

// Shift and 1x1 convolution as one masked 3x3 convolution; what the mask hides is not zero.
inline WeightsFile in_low_memory_layout(const WeightsFile& file) {
  WeightsFile changed;
  changed.metadata = file.metadata;
  for (const auto& [key, tensor] : file.tensors) {
    const std::size_t at = key.find(".shift_conv.");
    if (at == std::string::npos) {
      changed.tensors[key] = tensor;
      continue;
    }
    const std::string base = key.substr(0, at) + ".shift_conv";
    if (key != base + ".conv1x1.weight") continue;
    const auto mask = floats_of(file.tensors.at(base + ".weight"));
    const auto weight = floats_of(tensor);
    const std::size_t out = tensor.shape[0], in = tensor.shape[1];
    std::vector<float> w, m;
    for (std::size_t o = 0; o < out; ++o) {
      for (std::size_t k = 0; k < in * 9; ++k) {
        m.push_back(mask[k]);
        w.push_back(mask[k] == 1 ? weight[o * in + k / 9] : 7);
      }
    }
    changed.tensors[base + ".w"] = f32_tensor({out, in, 3, 3}, w);
    changed.tensors[base + ".m"] = f32_tensor({out, in, 3, 3}, m);
    changed.tensors[base + ".b"] = file.tensors.at(base + ".conv1x1.bias");
  }
  return changed;
}

// As ports write it whose inputs are 0..1 and which subtract no mean: no trace of either.
inline WeightsFile without_mean(WeightsFile file) {
  for (const char* key : {"sub_mean.weight", "sub_mean.bias", "add_mean.weight", "add_mean.bias"}) {
    file.tensors.erase(key);
  }
  file.metadata.erase("value_range");
  return file;
}

}  // namespace elan::test
