// Weights files in 8 bits: what is written comes back, and what does not fit together is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>

#include "core/whole_file.h"
#include "model/checkpoint.h"
#include "model/describe.h"
#include "model/safetensors_writer.h"
#include "model/write_network.h"
#include "support/errors.h"
#include "support/golden.h"
#include "support/quantized.h"

namespace elan::test {
namespace {

constexpr const char* kConv0 = "body.1.modules_lfe.lfe_1.conv0.shift_conv.conv1x1";
constexpr const char* kInp = "body.0.modules_gmsa.gmsa_0.project_inp";

Network read(const WeightsFile& file) {
  return read_checkpoint(Safetensors::parse("m", serialise(file))).network;
}

std::string read_error(const WeightsFile& file) {
  return error_of(ErrorKind::model, [&] { read(file); });
}

Network small_float() {
  return read(make_elan(small_architecture()));
}

void expect_same(const std::optional<QuantizedMatrix>& a, const std::optional<QuantizedMatrix>& b) {
  ASSERT_EQ(a.has_value(), b.has_value());
  if (!a) return;
  EXPECT_EQ(a->input_scale, b->input_scale);
  EXPECT_EQ(a->weight_scale, b->weight_scale);
  EXPECT_EQ(a->weight, b->weight);
}

TEST(QuantizedFile, ComesBackAsItWasWritten) {
  const Network net = quantized(small_float());
  const Network again = read(file_of(net));
  EXPECT_TRUE(again.quantized());
  EXPECT_EQ(again.fingerprint, net.fingerprint);
  for (std::size_t i = 0; i < net.body.size(); ++i) {
    for (std::size_t j = 0; j < net.body[i].lfe.size(); ++j) {
      const Lfe &a = net.body[i].lfe[j], &b = again.body[i].lfe[j];
      expect_same(a.conv0.int8, b.conv0.int8);
      expect_same(a.conv1.int8, b.conv1.int8);
      EXPECT_EQ(b.conv0.weight, a.conv0.int8->values());
      const Gmsa &c = net.body[i].gmsa[j], &d = again.body[i].gmsa[j];
      expect_same(c.int8_q, d.int8_q);
      expect_same(c.int8_v, d.int8_v);
      expect_same(c.int8_out, d.int8_out);
      EXPECT_EQ(d.int8_q.has_value(), j == 0);
      EXPECT_EQ(d.projection_v().weight, c.int8_v->values());
      if (j == 0) {
        EXPECT_EQ(d.projection_q().weight, c.int8_q->values());
      }
    }
  }
}

// Every float network survives too, its batch norms included.
TEST(QuantizedFile, FloatNetworksComeBack) {
  for (const WeightsFile& file :
       {make_elan(small_architecture()), without_mean(make_elan(small_architecture())),
        content_of(Safetensors::read(model_path("elan_light_x3")))}) {
    const Network net = read(file);
    const Network again = read(file_of(net));
    EXPECT_EQ(again.fingerprint, net.fingerprint);
    EXPECT_FALSE(again.quantized());
    EXPECT_EQ(again.body[0].gmsa[0].norm.var, net.body[0].gmsa[0].norm.var);
  }
}

TEST(QuantizedFile, AnyMatrixMayStayInFloatingPoint) {
  for (const std::string kept : {"conv0", "conv1", "q", "v", "project_out"}) {
    SCOPED_TRACE(kept);
    const Network net =
        quantized(small_float(), [&](std::string_view name) { return name != kept; });
    const Gmsa& gmsa = net.body[1].gmsa[0];
    EXPECT_EQ(gmsa.int8_q.has_value(), kept != "q");
    EXPECT_EQ(gmsa.int8_v.has_value(), kept != "v");
    EXPECT_EQ(gmsa.int8_out.has_value(), kept != "project_out");
    EXPECT_EQ(net.body[1].lfe[1].conv0.int8.has_value(), kept != "conv0");
    EXPECT_EQ(net.body[1].lfe[1].conv1.int8.has_value(), kept != "conv1");
    const Network original = small_float();
    if (kept == "q") {
      Gmsa folded = original.body[1].gmsa[0];
      folded.project_inp = folded.folded_project_inp();
      EXPECT_EQ(gmsa.projection_q().weight, folded.projection_q().weight);
      EXPECT_EQ(gmsa.projection_q().bias, folded.projection_q().bias);
    }
  }
}

TEST(QuantizedFile, FingerprintCoversIntegersAndScales) {
  const WeightsFile file = file_of(quantized(small_float()));
  const std::string before = read(file).fingerprint;
  const std::string base = kConv0;
  for (const char* name : {".weight", ".weight_scale", ".input_scale"}) {
    WeightsFile changed = file;
    std::byte& byte = changed.tensors.at(base + name).bytes.at(0);
    byte ^= std::byte{1};
    EXPECT_NE(read(changed).fingerprint, before) << name;
  }
  WeightsFile changed = file;
  changed.tensors.at(std::string(kInp) + ".input_scale").bytes.at(1) ^= std::byte{1};
  EXPECT_NE(read(changed).fingerprint, before);
}

TEST(QuantizedFile, IsAQuarterOfTheSize) {
  const auto file = content_of(Safetensors::read(model_path("elan_light_x4")));
  const Network net = read(file);
  EXPECT_LT(serialise(tensors_of(quantized(net)), {}).size() * 3, serialise(file).size());
}

TEST(QuantizedFile, DescriptionCountsMatrices) {
  const auto path = std::filesystem::path(testing::TempDir()) / "described.safetensors";
  const Network net =
      quantized(small_float(), [](std::string_view name) { return name != "project_out"; });
  write_whole_file(path, {serialise(tensors_of(net), metadata_of(net))});
  const ModelDescription about = describe_model(path);
  std::filesystem::remove(path);
  EXPECT_EQ(about.matrices, 18U);
  EXPECT_EQ(about.int8_matrices, 14U);
  EXPECT_EQ(about.fingerprint, net.fingerprint);
}

TEST(QuantizedFile, RefusesWhatDoesNotFitTogether) {
  const WeightsFile file = file_of(quantized(small_float()));
  const std::string base = kConv0, inp = kInp;
  const auto error_with = [&](auto&& change) {
    WeightsFile changed = file;
    change(changed.tensors);
    return read_error(changed);
  };
  using Tensors = std::map<std::string, RawTensor>;
  EXPECT_EQ(error_with([&](Tensors& t) { t.erase(base + ".weight_scale"); }),
            "m: keys: expected the 86 tensors of 2 ELABs with 2 pairs each, found 1 missing (" +
                base + ".weight_scale)");
  EXPECT_NE(error_with([&](Tensors& t) {
              t.erase(inp + ".input_scale");
            }).find("1 missing (" + inp + ".input_scale)"),
            std::string::npos);
  EXPECT_NE(error_with([&](Tensors& t) {
              t[inp + ".q.input_scale"] = f32_tensor({1}, {1});
            }).find("1 unknown (" + inp + ".q.input_scale)"),
            std::string::npos);
  EXPECT_EQ(error_with([&](Tensors& t) {
              t[base + ".weight"] = f32_tensor({30, 15, 1, 1}, std::vector<float>(450));
            }),
            "m: " + base +
                ".input_scale: expected no scale without a weight of type I8 beside it, found one "
                "beside another type (stale?)");
  EXPECT_EQ(error_with([&](Tensors& t) { t["head.0.input_scale"] = f32_tensor({1}, {1}); }),
            "m: head.0.input_scale: expected no scale without a weight of type I8 beside it, "
            "found one beside another type (stale?)");
  EXPECT_EQ(error_with([&](Tensors& t) { t[base + ".weight"].bytes[7] = std::byte{0x80}; }),
            "m: " + base + ".weight: expected values from -127 to 127, found -128 at index 7");
  EXPECT_EQ(error_with([&](Tensors& t) { t[base + ".weight"].shape = {15, 30, 1, 1}; }),
            "m: " + base + ".weight: expected shape [30, 15, 1, 1], found [15, 30, 1, 1]");
  EXPECT_EQ(error_with([&](Tensors& t) {
              t[base + ".weight_scale"] = f32_tensor({15, 2}, std::vector<float>(30, 1));
            }),
            "m: " + base + ".weight_scale: expected shape [30], found [15, 2]");
  EXPECT_EQ(error_with([&](Tensors& t) { t[base + ".input_scale"] = f32_tensor({}, {1}); }),
            "m: " + base + ".input_scale: expected shape [1], found []");
  for (const auto& [value, shown] : {std::pair(0.0F, "0"), std::pair(-0.5F, "-0.5"),
                                     std::pair(1e-12F, "1e-12"), std::pair(1e10F, "1e+10")}) {
    EXPECT_EQ(
        error_with([&, v = value](Tensors& t) { t[base + ".input_scale"] = f32_tensor({1}, {v}); }),
        "m: " + base + ".input_scale: expected scales from 1e-9 to 1e9, found " + shown +
            " at index 0");
  }
  EXPECT_NE(error_with([&](Tensors& t) {
              t[base + ".input_scale"] = f32_tensor({1}, {std::nanf("")});
            }).find(base + ".input_scale: expected finite values, found NaN"),
            std::string::npos);
}

TEST(QuantizedFile, RefusesIntegersWhereNoneBelong) {
  WeightsFile file = file_of(quantized(small_float()));
  RawTensor& bias = file.tensors.at(std::string(kConv0) + ".bias");
  bias = {"I8", {30}, Bytes(30)};
  EXPECT_EQ(read_error(file),
            "m: " + std::string(kConv0) + ".bias: expected type F32, F16, BF16 or F64, found I8");
}

TEST(QuantizedFile, RefusesBatchNorms) {
  WeightsFile file = make_elan(small_architecture());
  const std::string out = "body.0.modules_gmsa.gmsa_0.project_out";
  file.tensors.at(out + ".weight") = {"I8", {15, 15, 1, 1}, Bytes(225)};
  EXPECT_EQ(read_error(file),
            "m: " + out +
                ".weight: expected type F32 in a file with batch norms (quantised files have them "
                "folded), found I8");
}

TEST(SafetensorsWriter, AlignsEveryTensor) {
  const Network net = quantized(small_float());
  const auto bytes = serialise(tensors_of(net), metadata_of(net));
  const Safetensors file = Safetensors::parse("w", bytes);
  std::size_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  EXPECT_EQ(header % 8, 0U);
  for (const auto& [key, tensor] : file.entries()) {
    const std::size_t width = tensor.dtype == "I8" ? 1 : tensor.dtype == "BF16" ? 2 : 4;
    EXPECT_EQ(tensor.begin % width, 0U) << key;
  }
  EXPECT_EQ(file.metadata().at("scale"), "2");
}

}  // namespace
}  // namespace elan::test
