// What a plugin node is and how it is stored, without TensorRT.
#include "module.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <utility>

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

const PluginGraph& full() {
  static const PluginGraph graph("elan_x4");
  return graph;
}

const PluginGraph& light_int8() {
  static const PluginGraph graph("elan_light_int8_x4", Precision::int8);
  return graph;
}

const PluginGraph& int8() {
  static const PluginGraph graph("elan_int8_x4", Precision::int8);
  return graph;
}

void expect_same(const std::optional<QuantizedMatrix>& found,
                 const std::optional<QuantizedMatrix>& expected) {
  ASSERT_EQ(found.has_value(), expected.has_value());
  if (!found) return;
  EXPECT_EQ(found->weight, expected->weight);
  EXPECT_EQ(found->weight_scale, expected->weight_scale);
  EXPECT_EQ(found->input_scale, expected->input_scale);
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
    for (const plugins::FieldName& f : plugins::field_names(fields.kind())) {
      if (!f.of_int8) expected[f.name] = f.type;
    }
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

// Only blocks of nothing but 8 bits have it in 8 bits; in others q and v are FP16.
void expect_attention(const plugins::Module& m, bool in_8_bits, const Gmsa& gmsa) {
  ASSERT_TRUE(gmsa.int8_attention);
  ASSERT_EQ(m.gmsa.int8_attention.has_value(), in_8_bits);
  if (!in_8_bits) return;
  EXPECT_EQ(m.gmsa.int8_attention->q_scale, gmsa.int8_attention->q_scale);
  EXPECT_EQ(m.gmsa.int8_attention->v_scale, gmsa.int8_attention->v_scale);
}

TEST(PluginModule, HoldsIntegersAndScalesOfItsNode) {
  for (const PluginGraph* graph : {&light_int8(), &int8()}) {
    const bool full = graph->network().arch.channels == 180;
    for (const char* pair : {"0", "1"}) {
      const std::size_t block = full ? 1 : 0, j = full ? 0 : *pair - '0';
      const std::string at = std::to_string(block), of = std::to_string(j);
      const Lfe& lfe = graph->network().body[block].lfe[j];
      const Gmsa& gmsa = graph->network().body[block].gmsa[j];
      const plugins::Module a =
          plugins::module_from_fields(Kind::lfe, graph->fields("body." + at + ".lfe." + of).get());
      EXPECT_TRUE(a.half_stream);
      EXPECT_EQ(a.int8_block, full);
      EXPECT_EQ(a.precision, Precision::int8);
      expect_same(a.lfe.conv0.int8, lfe.conv0.int8);
      expect_same(a.lfe.conv1.int8, lfe.conv1.int8);
      expect_same(a.gmsa.int8_q, gmsa.int8_q);
      expect_same(a.gmsa.int8_v, gmsa.int8_v);
      expect_attention(a, full, gmsa);
      EXPECT_EQ(a.lfe.conv0.weight, lfe.conv0.weight);
      EXPECT_EQ(a.gmsa.project_inp.weight, gmsa.project_inp.weight);
      const plugins::Module b = plugins::module_from_fields(
          Kind::gmsa, graph->fields("body." + at + ".gmsa." + of).get());
      EXPECT_TRUE(b.half_stream);
      expect_same(b.gmsa.int8_out, gmsa.int8_out);
      expect_attention(b, full, gmsa);
    }
  }
}

// The kernels then read exactly what the CUDA backend gives them.
TEST(PluginModule, IsPackedAsTheBackendPacks) {
  for (const PluginGraph* given : {&light(), &full(), &light_int8(), &int8()}) {
    const PluginGraph& graph = *given;
    const Network& net = graph.network();
    const auto operand = net.quantized() ? cuda::Operand::int8 : cuda::Operand::fp16;
    const auto stream = net.quantized() ? cuda::StreamFormat::fp16 : cuda::StreamFormat::fp32;
    const int pairs = net.arch.pairs;
    for (const bool hopper : {false, true}) {
      if (hopper && !cuda::has_hopper_kernels(net.arch.channels, operand)) continue;
      cuda::NetworkShape shape;
      shape.channels = net.arch.channels;
      shape.scale = net.arch.scale;
      shape.tail = cuda::Operand::fp16;
      shape.body.assign(net.body.size(), {operand, hopper, stream});
      const cuda::PackedNetwork whole = pack_network(net, shape);
      const std::string at = "1", pair = std::to_string(pairs - 1);
      const plugins::Module lfe =
          plugins::module_from_fields(Kind::lfe, graph.fields("body." + at + ".lfe." + pair).get());
      const plugins::Module gmsa = plugins::module_from_fields(
          Kind::gmsa, graph.fields("body." + at + ".gmsa." + pair).get());
      const cuda::ModuleLayout layout{net.arch.channels, operand, hopper};
      const auto alone = pack_lfe_alone(lfe.lfe, lfe.gmsa, lfe.stream, layout);
      const auto out = pack_out_alone(gmsa.gmsa, gmsa.stream, layout);
      const cuda::PackedPair& expected = whole.body[1][static_cast<std::size_t>(pairs - 1)];
      EXPECT_EQ(alone.at.has_q, pairs == 1);
      EXPECT_EQ(alone.at.hidden_x, expected.lfe.hidden_x);
      EXPECT_EQ(alone.at.chunk_y, expected.lfe.chunk_y);
      EXPECT_EQ(alone.at.unscale_project, expected.lfe.unscale_project);
      EXPECT_EQ(alone.at.input.factor, expected.lfe.input.factor);
      EXPECT_EQ(alone.at.projected.factor, expected.lfe.projected.factor);
      EXPECT_EQ(out.at.input.factor, expected.out.input.factor);
      EXPECT_EQ(alone.at.int8_attention, expected.lfe.int8_attention);
      EXPECT_EQ(out.at.int8_attention, expected.out.int8_attention);
      EXPECT_EQ(out.at.power, expected.out.power);
      EXPECT_EQ(out.at.value, expected.out.value);
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
  } cases[] = {{"elan_light_x4", Precision::fp16, 64, 512},
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
  for (const auto& [graph, stage] :
       {std::pair{&light(), kLfe}, {&light(), kGmsa}, {&int8(), kLfe}, {&int8(), kGmsa}}) {
    const NodeFields fields = graph->fields(stage);
    const plugins::Module m = plugins::module_from_fields(fields.kind(), fields.get());
    const std::vector<std::byte> bytes = plugins::serialise(m);
    const plugins::Module again = plugins::deserialise(fields.kind(), bytes);
    EXPECT_EQ(plugins::serialise(again), bytes);
    EXPECT_EQ(plugins::hash_of(again), plugins::hash_of(m));
    EXPECT_EQ(again.stage, stage);
    EXPECT_EQ(again.lfe.conv1.taps, m.lfe.conv1.taps);
    EXPECT_EQ(again.half_stream, graph == &int8());
    EXPECT_EQ(again.int8_block, graph == &int8());
    expect_same(again.gmsa.int8_q, m.gmsa.int8_q);
    EXPECT_EQ(again.gmsa.int8_attention.has_value(), graph == &int8());
  }
}

TEST(PluginSerial, HashChangesWithAnyWeight) {
  NodeFields fields = light().fields(kGmsa);
  const auto before = hash_of(plugins::module_from_fields(Kind::gmsa, fields.get()));
  std::vector<float> bias(60, 0.25F);
  fields.set("project_out_bias", bias);
  EXPECT_NE(hash_of(plugins::module_from_fields(Kind::gmsa, fields.get())), before);
  for (const auto& [scale, count] : {std::pair{"project_out_input_scale", 1},
                                     {"project_out_weight_scale", 180},
                                     {"q_scale", 3},
                                     {"v_scale", 3}}) {
    NodeFields narrow = int8().fields(kGmsa);
    const auto as_it_was = hash_of(plugins::module_from_fields(Kind::gmsa, narrow.get()));
    narrow.set(scale, std::vector<float>(static_cast<std::size_t>(count), 0.25F));
    EXPECT_NE(hash_of(plugins::module_from_fields(Kind::gmsa, narrow.get())), as_it_was);
  }
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
  bad[8] = std::byte{1};
  EXPECT_NE(load(bad).find("expected version 4, found 1; build the engine again"),
            std::string::npos);
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
  for (const auto& [graph, stage] :
       {std::pair{&light(), kLfe}, {&light(), kGmsa}, {&int8(), kLfe}, {&int8(), kGmsa}}) {
    for (const plugins::FieldName& f : plugins::field_names(graph->fields(stage).kind())) {
      NodeFields fields = graph->fields(stage);
      EXPECT_EQ(fields.has(f.name), !f.of_int8 || graph == &int8());
      if (!fields.has(f.name)) continue;
      fields.remove(f.name);
      const std::string text = refusal(fields);
      EXPECT_NE(text.find(std::string("field ") + f.name + ": expected"), std::string::npos)
          << text;
      EXPECT_NE(text.find("found none"), std::string::npos) << text;
      fields = graph->fields(stage);
      fields.at(f.name).type = plugins::FieldType::other;
      EXPECT_NE(refusal(fields).find("found another type"), std::string::npos) << f.name;
      if (f.type == plugins::FieldType::text) continue;
      fields = graph->fields(stage);
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
  EXPECT_NE(with(kLfe, "precision", std::string("fp8")).find("fp16 or int8, found fp8"),
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

TEST(PluginFields, WithMeaninglessIntegersAreRefused) {
  const auto with = [](const PluginGraph& graph, const char* stage, const char* name, auto values) {
    NodeFields fields = graph.fields(stage);
    fields.set(name, values);
    return refusal(fields);
  };
  using Ints = std::vector<std::int32_t>;
  using Bytes = std::vector<std::int8_t>;
  const std::string start = "ElanGMSA body.1.gmsa.0: field ";
  EXPECT_EQ(with(int8(), kGmsa, "project_out_weight", Bytes(180 * 180, -128)),
            start + "project_out_weight: expected -127..127, found -128");
  EXPECT_EQ(with(int8(), kGmsa, "project_out_input_scale", std::vector<float>{0}),
            start + "project_out_input_scale: expected positive numbers, found 0.000000");
  EXPECT_EQ(with(int8(), kGmsa, "project_out_weight_scale", std::vector<float>(179, 1)),
            start + "project_out_weight_scale: expected 180 numbers, found 179");
  EXPECT_NE(with(int8(), kGmsa, "half_stream", Ints{0}).find("int8_block: expected 0 but for"),
            std::string::npos);
  EXPECT_NE(with(light_int8(), kLfe, "int8_block", Ints{1}).find("int8_block: expected 0 but for"),
            std::string::npos);
  EXPECT_NE(with(int8(), kGmsa, "precision", std::string("fp16"))
                .find("field project_out_weight: expected 32-bit floats, found 8-bit integers"),
            std::string::npos);
  EXPECT_NE(with(int8(), kGmsa, "precision", std::string("fp32")).find("half_stream: expected 0"),
            std::string::npos);
  NodeFields planes = int8().fields(kLfe);  // four places of one shift change with four of another
  const auto* stream = static_cast<const std::int32_t*>(planes.at("stream").data);
  Ints order(stream, stream + planes.at("stream").length);
  std::swap_ranges(order.begin() + 32, order.begin() + 36, order.begin() + 36);
  planes.set("stream", order);
  EXPECT_EQ(refusal(planes),
            "ElanLFE body.1.lfe.0: field stream: expected one shift for every 36 "
            "places in a block in 8 bits, found others");
  NodeFields fields = light().fields(kGmsa);
  fields.add("project_out_input_scale", {1});
  EXPECT_EQ(refusal(fields),
            start + "project_out_input_scale: expected none without 8-bit integers, found one");
  EXPECT_EQ(with(int8(), kGmsa, "v_scale", std::vector<float>{1, 0, 1}),
            start + "v_scale: expected positive numbers, found 0.000000");
  fields = light_int8().fields(kGmsa);
  fields.add("q_scale", {1, 1, 1});
  fields.add("v_scale", {1, 1, 1});
  EXPECT_EQ(refusal(fields), start + "q_scale: expected none without int8_block, found one");
}

}  // namespace
}  // namespace elan::test
