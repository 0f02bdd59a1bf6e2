// From tensors to a network: the layouts that are read, and what is said about everything else.
#include "model/checkpoint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <tuple>
#include <utility>

#include "model/fingerprint.h"
#include "support/errors.h"
#include "support/golden.h"
#include "support/weights_files.h"

namespace elan::test {
namespace {

Checkpoint read(const WeightsFile& file) {
  return read_checkpoint(Safetensors::parse("m", serialise(file)));
}

std::string read_error(const WeightsFile& file) {
  return error_of(ErrorKind::model, [&] { read(file); });
}

WeightsFile shipped(std::string_view name) {
  return content_of(Safetensors::read(model_path(name)));
}

void expect_same(const ShiftConv& a, const ShiftConv& b) {
  EXPECT_EQ(std::tie(a.in, a.out), std::tie(b.in, b.out));
  EXPECT_EQ(a.mask, b.mask);
  EXPECT_EQ(a.weight, b.weight);
  EXPECT_EQ(a.bias, b.bias);
  EXPECT_EQ(a.taps, b.taps);
}

// Every value, so that a fingerprint that misses some cannot hide a difference.
void expect_same(const Network& a, const Network& b) {
  EXPECT_EQ(a.fingerprint, b.fingerprint);
  EXPECT_EQ(a.mean, b.mean);
  const auto shape = [](const Network& n) {
    const Architecture& arch = n.arch;
    return std::tuple(arch.scale, arch.channels, arch.elabs, arch.pairs, arch.expand, arch.windows,
                      arch.value_range, arch.subtracts_mean);
  };
  EXPECT_EQ(shape(a), shape(b));
  EXPECT_EQ(a.head.weight, b.head.weight);
  EXPECT_EQ(a.head.bias, b.head.bias);
  EXPECT_EQ(a.tail.weight, b.tail.weight);
  EXPECT_EQ(a.tail.bias, b.tail.bias);
  ASSERT_EQ(a.body.size(), b.body.size());
  for (std::size_t i = 0; i < a.body.size(); ++i) {
    EXPECT_EQ(a.body[i].shifted, b.body[i].shifted);
    ASSERT_EQ(a.body[i].lfe.size(), b.body[i].lfe.size());
    ASSERT_EQ(a.body[i].gmsa.size(), b.body[i].gmsa.size());
    for (std::size_t j = 0; j < a.body[i].lfe.size(); ++j) {
      expect_same(a.body[i].lfe[j].conv0, b.body[i].lfe[j].conv0);
      expect_same(a.body[i].lfe[j].conv1, b.body[i].lfe[j].conv1);
      const Gmsa &ga = a.body[i].gmsa[j], &gb = b.body[i].gmsa[j];
      EXPECT_EQ(ga.computes_attention, gb.computes_attention);
      EXPECT_EQ(ga.project_inp.weight, gb.project_inp.weight);
      EXPECT_EQ(ga.project_inp.bias, gb.project_inp.bias);
      EXPECT_EQ(ga.norm.weight, gb.norm.weight);
      EXPECT_EQ(ga.norm.bias, gb.norm.bias);
      EXPECT_EQ(ga.norm.mean, gb.norm.mean);
      EXPECT_EQ(ga.norm.var, gb.norm.var);
      EXPECT_EQ(ga.project_out.weight, gb.project_out.weight);
      EXPECT_EQ(ga.project_out.bias, gb.project_out.bias);
    }
  }
}

TEST(Checkpoint, InfersTheShippedModels) {
  struct Expected {
    const char* name;
    const char* variant;
    int scale, channels, elabs, pairs;
    std::size_t parameters;
  };
  // The counts are those of torch.nn.Module.parameters() that are trained.
  for (const Expected& e : {Expected{"elan_light_x2", "elan-light", 2, 60, 12, 2, 582'012},
                            Expected{"elan_light_x3", "elan-light", 3, 60, 12, 2, 590'127},
                            Expected{"elan_light_x4", "elan-light", 4, 60, 12, 2, 601'488},
                            Expected{"elan_x4", "elan", 4, 180, 36, 1, 8'312'448}}) {
    SCOPED_TRACE(e.name);
    const Model model = Model::load(model_path(e.name));
    const Architecture& arch = model.architecture();
    EXPECT_EQ(arch.variant(), e.variant);
    EXPECT_EQ(arch.scale, e.scale);
    EXPECT_EQ(arch.channels, e.channels);
    EXPECT_EQ(arch.elabs, e.elabs);
    EXPECT_EQ(arch.pairs, e.pairs);
    EXPECT_EQ(arch.expand, 2);
    EXPECT_EQ(arch.windows, (std::array<int, 3>{4, 8, 16}));
    EXPECT_EQ(arch.value_range, 255);
    EXPECT_TRUE(arch.subtracts_mean);
    EXPECT_EQ(model.parameters(), e.parameters);
    EXPECT_TRUE(model.network().one_hot_shifts());
    EXPECT_NEAR(model.network().mean[1], 255 * 0.4371, 1e-3);
    EXPECT_EQ(model.metadata().at("licence"), "CC0-1.0");
    EXPECT_EQ(model.network().body[0].lfe[0].conv0.taps[0], 5);  // the pixel to the right
  }
}

TEST(Checkpoint, ReadsTheSmallestNetwork) {
  const Network net = read(make_elan(smallest_architecture())).network;
  EXPECT_EQ(net.arch.scale, 1);
  EXPECT_EQ(net.arch.channels, 3);
  EXPECT_EQ(net.arch.variant(), "elan-custom");
}

TEST(Checkpoint, ReadsBasicSrNames) {
  const WeightsFile file = shipped("elan_light_x4");
  const Checkpoint changed = read(in_basicsr_layout(file));
  EXPECT_EQ(changed.layout, KeyLayout::basicsr);
  expect_same(changed.network, read(file).network);
}

TEST(Checkpoint, ReadsTheLowMemoryLayout) {
  const WeightsFile file = shipped("elan_light_x2");
  const Checkpoint changed = read(in_low_memory_layout(file));
  EXPECT_EQ(changed.layout, KeyLayout::low_memory);
  expect_same(changed.network, read(file).network);
}

TEST(Checkpoint, ReadsWrappedKeys) {
  const WeightsFile file = make_elan(small_architecture());
  const Checkpoint plain = read(file);
  EXPECT_EQ(plain.layout, KeyLayout::published);
  EXPECT_EQ(plain.prefix, "");
  for (const std::string prefix : {"params.", "params_ema.", "module.", "state_dict.",
                                   "model_state_dict.module.", "params.module."}) {
    const auto wrapped = renamed(file, [&](const std::string& key) { return prefix + key; });
    const Checkpoint read_wrapped = read(wrapped);
    EXPECT_EQ(read_wrapped.prefix, prefix);
    expect_same(read_wrapped.network, plain.network);
  }
}

TEST(Checkpoint, IgnoresBatchCounters) {
  WeightsFile file = make_elan(small_architecture());
  const Network plain = read(file).network;
  file.tensors["body.0.modules_gmsa.gmsa_0.project_inp.1.num_batches_tracked"] = {
      "I64", {}, Bytes(8)};
  expect_same(read(file).network, plain);
}

// Values that all three types can hold must give the same network.
TEST(Checkpoint, ReadsHalfPrecision) {
  WeightsFile file = make_elan(small_architecture());
  WeightsFile brain = file;
  for (auto& [key, tensor] : brain.tensors) {
    std::vector<float> values = floats_of(tensor);
    tensor.dtype = "BF16";
    tensor.bytes.clear();
    for (float& v : values) {
      const std::uint32_t bits = std::bit_cast<std::uint32_t>(v) & 0xFFFF0000;
      v = std::bit_cast<float>(bits);
      tensor.bytes.push_back(static_cast<std::byte>(bits >> 16 & 255));
      tensor.bytes.push_back(static_cast<std::byte>(bits >> 24));
    }
    file.tensors[key] = f32_tensor(tensor.shape, values);
  }
  expect_same(read(brain).network, read(file).network);
}

TEST(Checkpoint, FoldsARangeUpToOneIntoHeadAndTail) {
  const WeightsFile file = without_mean(make_elan(small_architecture()));
  WeightsFile wide = file;
  wide.metadata["value_range"] = "0..255";
  const Network folded = read(file).network, plain = read(wide).network;
  EXPECT_EQ(folded.arch.value_range, 1);
  EXPECT_EQ(plain.arch.value_range, 255);
  EXPECT_FALSE(folded.arch.subtracts_mean);
  EXPECT_EQ(folded.mean, (std::array<float, 3>{}));
  for (std::size_t i = 0; i < plain.head.weight.size(); ++i) {
    EXPECT_FLOAT_EQ(folded.head.weight[i], plain.head.weight[i] / 255);
  }
  EXPECT_EQ(folded.head.bias, plain.head.bias);
  for (std::size_t i = 0; i < plain.tail.weight.size(); ++i) {
    EXPECT_FLOAT_EQ(folded.tail.weight[i], plain.tail.weight[i] * 255);
  }
  EXPECT_FLOAT_EQ(folded.tail.bias[3], plain.tail.bias[3] * 255);
}

// A network for 0..1 and one for 0..255 that compute the same must give the same picture.
TEST(Checkpoint, ValueRangesGiveTheSamePicture) {
  const WeightsFile wide = make_elan(small_architecture());
  WeightsFile narrow = wide;
  narrow.metadata.erase("value_range");
  const auto scale = [&](const std::string& key, float factor) {
    std::vector<float> values = floats_of(narrow.tensors[key]);
    for (float& v : values) v *= factor;
    narrow.tensors[key] = f32_tensor(narrow.tensors[key].shape, values);
  };
  for (const char* key : {"sub_mean.bias", "add_mean.bias", "tail.0.weight", "tail.0.bias"}) {
    scale(key, 1 / 255.0F);
  }
  scale("head.0.weight", 255);
  const auto a = std::make_shared<const Network>(read(wide).network);
  const auto b = std::make_shared<const Network>(read(narrow).network);
  EXPECT_EQ(a->arch.value_range, 255);
  EXPECT_EQ(b->arch.value_range, 1);
  GoldenCase picture;
  picture.height = 5;
  picture.width = 7;
  for (int i = 0; i < 5 * 7 * 3; ++i) picture.input.push_back(static_cast<std::uint8_t>(i * 37));
  picture.output.resize(picture.input.size() * 4);
  const auto backend_a = make_reference_backend(a, Precision::fp64);
  const auto backend_b = make_reference_backend(b, Precision::fp64);
  const auto out_a = run_golden(*backend_a, picture, 2), out_b = run_golden(*backend_b, picture, 2);
  EXPECT_LE(max_abs_difference(out_a, out_b), 1e-3);
  EXPECT_GT(std::abs(out_a[0] - out_a[50]), 0.01);
}

TEST(Checkpoint, ReadsOtherWindows) {
  WeightsFile file = make_elan(small_architecture());
  file.metadata["windows"] = "8,4,2";
  EXPECT_EQ(read(file).network.arch.windows, (std::array<int, 3>{8, 4, 2}));
  for (const char* bad : {"", "4,8", "4,8,16,", "4,8,12", "4,8,0", "4,8,-4", "4;8;16", "4,8,1e1",
                          "4,8,99999999999", "4,8,16 "}) {
    file.metadata["windows"] = bad;
    EXPECT_EQ(read_error(file),
              "m: metadata windows: expected three of 2, 4, 8 and 16 such as 4,8,16, found " +
                  std::string(bad));
  }
}

TEST(Checkpoint, RefusesContradictoryMetadata) {
  const WeightsFile file = make_elan(small_architecture());
  const auto error_with = [&](const std::string& name, const std::string& value) {
    WeightsFile changed = file;
    changed.metadata[name] = value;
    return read_error(changed);
  };
  EXPECT_EQ(error_with("scale", "4"),
            "m: metadata scale: expected 2 as in the shape of tail.0.weight, found 4");
  EXPECT_EQ(error_with("architecture", "SwinIR"),
            "m: metadata architecture: expected elan, found SwinIR");
  EXPECT_EQ(error_with("value_range", "0..1"),
            "m: metadata value_range: expected 0..255 for a mean of 114.444000, found 0..1");
  EXPECT_EQ(error_with("value_range", "-1..1"),
            "m: metadata value_range: expected 0..1 or 0..255, found -1..1");
}

TEST(Checkpoint, ListsMissingAndUnknownKeys) {
  const std::string expected =
      "m: keys: expected the 64 tensors of 2 ELABs with 2 pairs each, found ";
  const WeightsFile good = make_elan(small_architecture());
  ASSERT_EQ(good.tensors.size(), 64U);
  WeightsFile file = good;
  file.tensors.erase("head.0.bias");
  EXPECT_EQ(read_error(file), expected + "1 missing (head.0.bias)");
  file.tensors["tail.2.weight"] = f32_tensor({1}, {0});
  EXPECT_EQ(read_error(file), expected + "1 missing (head.0.bias) and 1 unknown (tail.2.weight)");
  for (int i = 0; i < 5; ++i) file.tensors["x" + std::to_string(i)] = f32_tensor({1}, {0});
  EXPECT_EQ(read_error(file), expected +
                                  "1 missing (head.0.bias) and 6 unknown (tail.2.weight, "
                                  "x0, x1, ...)");
  file = good;
  file.tensors.erase("add_mean.weight");
  EXPECT_EQ(read_error(file), expected + "1 missing (add_mean.weight)");
  file = good;
  file.tensors.erase("body.1.modules_gmsa.gmsa_1.project_inp.1.running_var");
  EXPECT_EQ(read_error(in_basicsr_layout(file)),
            expected + "1 missing (body.1.modules_gmsa.gmsa_1.project_inp.1.running_var)");
}

TEST(Checkpoint, RefusesGapsInTheBody) {
  WeightsFile file = make_elan(small_architecture());
  file = renamed(file, [](const std::string& key) { return replaced(key, "body.1.", "body.7."); });
  EXPECT_TRUE(read_error(file).starts_with(
      "m: keys: expected the 64 tensors of 2 ELABs with 2 pairs each, found 28 missing (body.1."))
      << read_error(file);
  file = renamed(file, [](const std::string& key) {
    return replaced(key, "body.7.", "body.99999999999999999999.");
  });
  EXPECT_NE(read_error(file).find("unknown (body.99999999999999999999."), std::string::npos);
}

TEST(Checkpoint, SaysThatItIsAnotherNetwork) {
  WeightsFile file;
  file.tensors["conv_first.weight"] = f32_tensor({1}, {0});
  file.tensors["layers.0.weight"] = f32_tensor({1}, {0});
  EXPECT_EQ(read_error(file),
            "m: head.0.weight: expected an ELAN with this tensor, found none among 2 tensors such "
            "as conv_first.weight");
  EXPECT_EQ(read_error(WeightsFile{}),
            "m: head.0.weight: expected an ELAN with this tensor, found none among 0 tensors");
}

TEST(Checkpoint, ChecksEveryShape) {
  const WeightsFile good = make_elan(small_architecture());
  for (const auto& [key, tensor] : good.tensors) {
    WeightsFile file = good;
    file.tensors[key].shape.push_back(1);
    const std::string error = read_error(file);
    EXPECT_TRUE(error.starts_with("m: " + key + ": expected ")) << error;
    EXPECT_NE(error.find("found " + to_string(file.tensors[key].shape)), std::string::npos)
        << error;
  }
  WeightsFile file = good;
  file.tensors["body.0.modules_gmsa.gmsa_0.project_out.weight"].shape = {225, 1, 1, 1};
  EXPECT_EQ(
      read_error(file),
      "m: body.0.modules_gmsa.gmsa_0.project_out.weight: expected shape [15, 15, 1, 1], found "
      "[225, 1, 1, 1]");
  file = good;
  file.tensors["head.0.weight"] = f32_tensor({0, 3, 3, 3}, {});
  EXPECT_EQ(read_error(file),
            "m: head.0.weight: expected a shape of 4 sides from 1 to 65536, found [0, 3, 3, 3]");
  file.tensors["head.0.weight"] = f32_tensor({16, 3, 3, 3}, std::vector<float>(432));
  EXPECT_EQ(read_error(file),
            "m: head.0.weight: expected a multiple of 3 as first side (three groups of channels), "
            "found 16");
  file = good;
  file.tensors["tail.0.weight"] = f32_tensor({13, 15, 3, 3}, std::vector<float>(13 * 15 * 9));
  EXPECT_EQ(read_error(file),
            "m: tail.0.weight: expected 3 * scale * scale as first side, scale 1 to 8, found 13");
  file = good;
  file.tensors["body.0.modules_lfe.lfe_0.conv0.shift_conv.conv1x1.weight"] =
      f32_tensor({20, 15, 1, 1}, std::vector<float>(300));
  EXPECT_EQ(
      read_error(file),
      "m: body.0.modules_lfe.lfe_0.conv0.shift_conv.conv1x1.weight: expected a multiple of the "
      "15 channels as first side, found 20");
}

TEST(Checkpoint, NamesBadValues) {
  const WeightsFile good = make_elan(small_architecture());
  const auto error_with = [&](const std::string& key, std::size_t index, float value) {
    WeightsFile file = good;
    std::vector<float> values = floats_of(file.tensors.at(key));
    values[index] = value;
    file.tensors[key] = f32_tensor(file.tensors[key].shape, values);
    return read_error(file);
  };
  for (const auto& [key, tensor] : good.tensors) {
    EXPECT_EQ(error_with(key, 0, NAN),
              "m: " + key + ": expected finite values, found NaN at index 0");
  }
  const std::string norm = "body.1.modules_gmsa.gmsa_0.project_inp.1.";
  EXPECT_EQ(
      error_with(norm + "running_var", 3, -0.5F),
      "m: " + norm + "running_var: expected variances of 0 or more, found -0.500000 at index 3");
  WeightsFile steep = good;
  steep.tensors[norm + "running_var"] = f32_tensor({30}, std::vector<float>(30, 0));
  steep.tensors[norm + "weight"] = f32_tensor({30}, std::vector<float>(30, 3e38F));
  EXPECT_EQ(read_error(steep), "m: " + norm +
                                   "weight: expected values that stay finite when folded into the "
                                   "convolution, found infinity");
  EXPECT_EQ(error_with("sub_mean.weight", 4, 2),
            "m: sub_mean.weight: expected the identity matrix, found 2.000000 at index 4");
  EXPECT_EQ(error_with("sub_mean.bias", 1, 5),
            "m: sub_mean.bias: expected values from -255 to 0, found 5.000000");
  EXPECT_EQ(error_with("add_mean.bias", 2, 5),
            "m: add_mean.bias: expected the negative of sub_mean.bias, 103.019997, found 5.000000");
  WeightsFile narrow = without_mean(good);
  narrow.tensors["tail.0.bias"] = f32_tensor({12}, std::vector<float>(12, 3e38F));
  EXPECT_EQ(read_error(narrow),
            "m: tail.0: expected values that stay finite when scaled to 0..255, found infinity");
}

TEST(Checkpoint, LoadsMasksThatAreNoShift) {
  WeightsFile file = make_elan(small_architecture());
  const std::string key = "body.1.modules_lfe.lfe_0.conv1.shift_conv.weight";
  std::vector<float> mask = floats_of(file.tensors[key]);
  EXPECT_TRUE(read(file).network.one_hot_shifts());
  for (const float other : {0.5F, 1.0F}) {
    mask[9 * 7 + 2] = other;
    file.tensors[key] = f32_tensor(file.tensors[key].shape, mask);
    const Network net = read(file).network;
    EXPECT_FALSE(net.one_hot_shifts());
    EXPECT_TRUE(net.body[1].lfe[0].conv1.taps.empty());
    EXPECT_EQ(net.body[1].lfe[0].conv1.mask, mask);
    EXPECT_FALSE(net.body[1].lfe[0].conv0.taps.empty());
  }
}

TEST(Checkpoint, RefusesLowMemoryMasksThatAreNoShift) {
  const WeightsFile good = in_low_memory_layout(make_elan(small_architecture()));
  const std::string key = "body.0.modules_lfe.lfe_1.conv0.shift_conv.m";
  const auto error_with = [&](std::size_t index, float value) {
    WeightsFile file = good;
    std::vector<float> mask = floats_of(file.tensors.at(key));
    mask[index] = value;
    file.tensors[key] = f32_tensor(file.tensors[key].shape, mask);
    return read_error(file);
  };
  EXPECT_EQ(error_with(0, 0.5F),
            "m: " + key + ": expected a single 1 for each input channel, found another mask");
  EXPECT_EQ(error_with(15 * 9 * 4, 1),
            "m: " + key +
                ": expected the same mask for every output channel, found another for "
                "output 4");
}

TEST(Checkpoint, ReadsFilesWithoutBatchNorm) {
  WeightsFile file = make_elan(small_architecture());
  std::erase_if(file.tensors, [](const auto& item) {
    return item.first.find(".project_inp.1.") != std::string::npos;
  });
  const Network net = read(file).network;
  EXPECT_TRUE(net.body[0].gmsa[0].norm.var.empty());
  EXPECT_EQ(net.body[0].gmsa[0].folded_project_inp().weight,
            net.body[0].gmsa[0].project_inp.weight);
}

TEST(Checkpoint, RefusesTwoKeysForOneTensor) {
  WeightsFile file = make_elan(small_architecture());
  file.tensors["head.weight"] = file.tensors["head.0.weight"];
  EXPECT_EQ(read_error(file),
            "m: head.weight: expected one key for a tensor, found also head.0.weight");
}

TEST(Fingerprint, IsXxh64) {
  const auto hash = [](std::string_view text, std::uint64_t seed) {
    return xxh64(std::as_bytes(std::span(text)), seed);
  };
  // Computed with xxhash 3 for Python: every length class, with and without a seed.
  const std::string digits = "0123456789";
  std::string hundred;
  for (int i = 0; i < 10; ++i) hundred += digits;
  EXPECT_EQ(hash("", 0), 0xEF46DB3751D8E999);
  EXPECT_EQ(hash("a", 0), 0xD24EC4F1A98C6E5B);
  EXPECT_EQ(hash("abc", 7), 0x9E755206156676D7);
  EXPECT_EQ(hash(digits + "ab", 0), 0x862E292326B8A4FC);
  EXPECT_EQ(hash(hundred, 0), 0xF80E7B96315AFFFA);
  EXPECT_EQ(hash(hundred, 0x8000000000000005), 0xC108CFD48F8DD31C);
}

TEST(Fingerprint, SeesEveryValueAndNoMetadata) {
  const WeightsFile good = make_elan(small_architecture());
  const std::string fingerprint = read(good).network.fingerprint;
  EXPECT_EQ(fingerprint.size(), 16U);
  EXPECT_EQ(fingerprint.find_first_not_of("0123456789abcdef"), std::string::npos);
  WeightsFile file = good;
  file.metadata["licence"] = "another";
  EXPECT_EQ(read(file).network.fingerprint, fingerprint);
  std::set<std::string> seen{fingerprint};
  for (const auto& [key, tensor] : good.tensors) {
    if (key.starts_with("sub_mean") || key.starts_with("add_mean")) continue;
    file = good;
    std::vector<float> values = floats_of(tensor);
    values.back() += 0.25F;
    file.tensors[key] = f32_tensor(tensor.shape, values);
    EXPECT_TRUE(seen.insert(read(file).network.fingerprint).second) << key;
  }
  file = good;
  file.metadata["windows"] = "8,8,16";
  EXPECT_TRUE(seen.insert(read(file).network.fingerprint).second);
  file = good;
  file.metadata["value_range"] = "0..255";
  file.tensors["sub_mean.bias"] = f32_tensor({3}, {-100, -100, -101});
  file.tensors["add_mean.bias"] = f32_tensor({3}, {100, 100, 101});
  EXPECT_TRUE(seen.insert(read(file).network.fingerprint).second);
}

}  // namespace
}  // namespace elan::test
