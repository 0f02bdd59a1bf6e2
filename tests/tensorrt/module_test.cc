// What a plugin node is and how it is stored, without TensorRT.
#include "module.h"

#include <gtest/gtest.h>

#include "cuda/pack.h"
#include "elan/error.h"
#include "fields.h"

namespace elan::test {
namespace {

using plugins::Kind;
using plugins::TensorKind;

constexpr const char* kLfe = "body.1.lfe.0";
constexpr const char* kGmsa = "body.1.gmsa.0";

const PluginGraph& light() {
  static const PluginGraph graph("elan_light_x4");
  return graph;
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::model);
    return error.what();
  }
  return "no error";
}

std::string refusal(const NodeFields& fields) {
  return error_of([&] { (void)plugins::module_from_fields(fields.kind(), fields.get()); });
}

TEST(PluginFields, AreThoseTheExporterWrites) {
  for (const char* stage : {kLfe, kGmsa}) {
    const NodeFields fields = light().fields(stage);
    std::map<std::string, plugins::FieldType> expected{
        {"plugin_version", plugins::FieldType::text},
        {"plugin_namespace", plugins::FieldType::text}};
    for (const plugins::FieldName& f : plugins::field_names(fields.kind()))
      expected[f.name] = f.type;
    std::map<std::string, plugins::FieldType> found;
    for (const plugins::Field& f : fields.get()) found[std::string(f.name)] = f.type;
    EXPECT_EQ(found, expected) << stage;
  }
}

TEST(PluginModule, HoldsTheWeightsOfItsNode) {
  const Lfe& lfe = light().network().body[1].lfe[0];
  const Gmsa& gmsa = light().network().body[1].gmsa[0];
  const plugins::Module a = plugins::module_from_fields(Kind::lfe, light().fields(kLfe).get());
  EXPECT_EQ(a.stage, kLfe);
  EXPECT_EQ(a.precision, Precision::fp16);
  EXPECT_EQ(a.fingerprint, light().network().fingerprint);
  EXPECT_TRUE(a.gives_q);
  EXPECT_EQ(a.lfe.conv0.weight, lfe.conv0.weight);
  EXPECT_EQ(a.lfe.conv1.taps, lfe.conv1.taps);
  EXPECT_EQ(a.gmsa.project_inp.weight, gmsa.folded_project_inp().weight);
  const plugins::Module b = plugins::module_from_fields(Kind::gmsa, light().fields(kGmsa).get());
  EXPECT_TRUE(b.shifted);
  EXPECT_EQ(b.gmsa.project_out.weight, gmsa.project_out.weight);
  EXPECT_EQ(b.gmsa.project_out.bias, gmsa.project_out.bias);
}

// The kernels then read exactly what the CUDA backend gives them.
TEST(PluginModule, IsPackedAsTheBackendPacks) {
  for (const char* name : {"elan_light_x4", "elan_x4"}) {
    const PluginGraph graph(name);
    const Network& net = graph.network();
    const int pairs = net.arch.pairs;
    for (const bool hopper : {false, true}) {
      cuda::NetworkShape shape;
      shape.channels = net.arch.channels;
      shape.scale = net.arch.scale;
      shape.tail = cuda::Operand::fp16;
      shape.body.assign(net.body.size(), {cuda::Operand::fp16, hopper});
      const cuda::PackedNetwork whole = pack_network(net, shape);
      const std::string at = "1", pair = std::to_string(pairs - 1);
      const plugins::Module lfe =
          plugins::module_from_fields(Kind::lfe, graph.fields("body." + at + ".lfe." + pair).get());
      const plugins::Module gmsa = plugins::module_from_fields(
          Kind::gmsa, graph.fields("body." + at + ".gmsa." + pair).get());
      const cuda::ModuleLayout layout{net.arch.channels, cuda::Operand::fp16, hopper};
      const auto alone = pack_lfe_alone(lfe.lfe, lfe.gmsa, lfe.stream, layout);
      const auto out = pack_out_alone(gmsa.gmsa.project_out, gmsa.stream, layout);
      const cuda::PackedPair& expected = whole.body[1][static_cast<std::size_t>(pairs - 1)];
      EXPECT_EQ(alone.at.has_q, pairs == 1);
      EXPECT_EQ(alone.at.hidden_x, expected.lfe.hidden_x);
      EXPECT_EQ(alone.at.chunk_y, expected.lfe.chunk_y);
      EXPECT_EQ(alone.at.unscale_project, expected.lfe.unscale_project);
      const auto lfe_bytes = expected.out.weights - expected.lfe.weights;
      ASSERT_LE(alone.data.size(), lfe_bytes);
      EXPECT_EQ(std::memcmp(alone.data.data(), whole.data.data() + expected.lfe.weights,
                            alone.data.size()),
                0);
      EXPECT_EQ(
          std::memcmp(out.data.data(), whole.data.data() + expected.out.weights, out.data.size()),
          0);
    }
  }
}

TEST(PluginTensors, HaveTheKernelsSizes) {
  const struct {
    const char* model;
    Precision precision;
    int places, words;
  } cases[] = {{"elan_light_x4", Precision::fp16, 64, 576},
               {"elan_light_x4", Precision::fp32, 64, 1152},
               {"elan_x4", Precision::fp16, 184, 1536}};
  for (const auto& c : cases) {
    const PluginGraph graph(c.model, c.precision);
    const auto m = plugins::module_from_fields(Kind::lfe, graph.fields("body.0.lfe.0").get());
    EXPECT_EQ(plugins::places(m), c.places);
    EXPECT_EQ(plugins::packed_words(m), c.words);
    EXPECT_EQ(plugins::inputs_of(m).size(), 1U);
    EXPECT_EQ(plugins::outputs_of(m).size(), 3U);
  }
  const auto later = plugins::module_from_fields(Kind::lfe, light().fields("body.0.lfe.1").get());
  EXPECT_EQ(plugins::outputs_of(later).size(), 2U);
  const auto gmsa = plugins::module_from_fields(Kind::gmsa, light().fields("body.0.gmsa.1").get());
  const auto inputs = plugins::inputs_of(gmsa);
  EXPECT_EQ(std::vector(inputs.begin(), inputs.end()),
            (std::vector{TensorKind::stream, TensorKind::packed, TensorKind::packed}));
  EXPECT_EQ(plugins::outputs_of(gmsa).size(), 1U);
}

TEST(PluginTensors, OfOtherShapesAreRefused) {
  const auto m = plugins::module_from_fields(Kind::lfe, light().fields(kLfe).get());
  const auto check = [&](std::vector<std::int64_t> dims) {
    return error_of([&] { plugins::check_stream(m, dims); });
  };
  EXPECT_EQ(check({1, 16, 32, 64}), "no error");
  EXPECT_EQ(check({-1, -1, -1, 64}), "no error");
  EXPECT_EQ(check({1, 17, 32, 64}),
            "ElanLFE body.1.lfe.0: input: expected batch x height x width x 64 with sides that are "
            "multiples of 16, found 1x17x32x64");
  for (const auto& dims : std::vector<std::vector<std::int64_t>>{
           {1, 16, 32, 60}, {1, 16, 8, 64}, {1, 0, 32, 64}, {16, 32, 64}, {1, 64, 16, 32, 1}, {}}) {
    EXPECT_NE(check(dims).find("expected batch"), std::string::npos);
  }
}

TEST(PluginSerial, GivesTheSameModuleBack) {
  for (const char* stage : {kLfe, kGmsa}) {
    const NodeFields fields = light().fields(stage);
    const plugins::Module m = plugins::module_from_fields(fields.kind(), fields.get());
    const std::vector<std::byte> bytes = plugins::serialise(m);
    const plugins::Module again = plugins::deserialise(fields.kind(), bytes);
    EXPECT_EQ(plugins::serialise(again), bytes);
    EXPECT_EQ(plugins::hash_of(again), plugins::hash_of(m));
    EXPECT_EQ(again.stage, stage);
    EXPECT_EQ(again.lfe.conv1.taps, m.lfe.conv1.taps);
  }
}

TEST(PluginSerial, HashChangesWithAnyWeight) {
  NodeFields fields = light().fields(kGmsa);
  const auto before = hash_of(plugins::module_from_fields(Kind::gmsa, fields.get()));
  std::vector<float> bias(60, 0.25F);
  fields.set("project_out_bias", bias);
  EXPECT_NE(hash_of(plugins::module_from_fields(Kind::gmsa, fields.get())), before);
}

TEST(PluginSerial, ThatIsNotOursIsRefused) {
  const std::vector<std::byte> good =
      plugins::serialise(plugins::module_from_fields(Kind::gmsa, light().fields(kGmsa).get()));
  const auto load = [](std::vector<std::byte> bytes) {
    return error_of([&] { (void)plugins::deserialise(Kind::gmsa, bytes); });
  };
  EXPECT_EQ(load(good), "no error");
  EXPECT_NE(load({}).find("expected one of elan_sr"), std::string::npos);
  auto bad = good;
  bad[0] = std::byte{'X'};
  EXPECT_NE(load(bad).find("expected one of elan_sr"), std::string::npos);
  bad = good;
  bad[8] = std::byte{99};
  EXPECT_NE(load(bad).find("expected version 1, found 99"), std::string::npos);
  bad = good;
  bad[12] = std::byte{0};
  EXPECT_NE(load(bad).find("expected kind 1, found 0"), std::string::npos);
  bad = good;
  bad[16] ^= std::byte{1};
  EXPECT_NE(load(bad).find("damaged"), std::string::npos);
  bad = good;
  bad.back() ^= std::byte{1};
  EXPECT_NE(load(bad).find("damaged"), std::string::npos);
  bad = good;
  bad.pop_back();
  EXPECT_NE(load(bad).find("damaged"), std::string::npos);
}

TEST(PluginFields, EachOfThemIsNeededWithItsType) {
  for (const char* stage : {kLfe, kGmsa}) {
    for (const plugins::FieldName& f : plugins::field_names(light().fields(stage).kind())) {
      NodeFields fields = light().fields(stage);
      fields.remove(f.name);
      const std::string text = refusal(fields);
      EXPECT_NE(text.find(std::string("field ") + f.name + ": expected"), std::string::npos)
          << text;
      EXPECT_NE(text.find("found none"), std::string::npos) << text;
      fields = light().fields(stage);
      fields.at(f.name).type = plugins::FieldType::other;
      EXPECT_NE(refusal(fields).find("found another type"), std::string::npos) << f.name;
      if (f.type == plugins::FieldType::text) continue;
      fields = light().fields(stage);
      fields.at(f.name).length -= 1;
      EXPECT_NE(refusal(fields).find(std::string("field ") + f.name + ": expected"),
                std::string::npos)
          << f.name;
    }
  }
}

TEST(PluginFields, WithMeaninglessValuesAreRefused) {
  const auto with = [](const char* stage, const char* name, auto values) {
    NodeFields fields = light().fields(stage);
    fields.set(name, values);
    return refusal(fields);
  };
  using Ints = std::vector<std::int32_t>;
  EXPECT_NE(with(kLfe, "precision", std::string("int8")).find("fp16, found int8"),
            std::string::npos);
  EXPECT_NE(with(kLfe, "channels", Ints{64}).find("60 or 180, found 64"), std::string::npos);
  EXPECT_NE(with(kLfe, "gives_q", Ints{2}).find("0..1, found 2"), std::string::npos);
  EXPECT_NE(with(kLfe, "hidden", Ints{0}).find("found 0"), std::string::npos);
  EXPECT_NE(with(kGmsa, "windows", Ints{4, 8, 32}).find("4, 8, 16"), std::string::npos);
  EXPECT_NE(with(kGmsa, "stream", Ints(64, -1)).find("channel 0 0 times"), std::string::npos);
  EXPECT_NE(with(kGmsa, "stream", Ints(64, 60)).find("found 60"), std::string::npos);
  EXPECT_NE(with(kGmsa, "project_out_bias", std::vector<float>(60, NAN)).find("finite"),
            std::string::npos);
  EXPECT_NE(with(kLfe, "conv0_mask", std::vector<float>(540, 1)).find("one 1 and eight 0"),
            std::string::npos);
  Ints mixed(64, -1);  // channels in their own order: shifts change within four places
  for (int i = 0; i < 60; ++i) mixed[static_cast<std::size_t>(i)] = (i * 13) % 60;
  EXPECT_NE(with(kLfe, "stream", mixed).find("one shift for every four places"), std::string::npos);
}

}  // namespace
}  // namespace elan::test
