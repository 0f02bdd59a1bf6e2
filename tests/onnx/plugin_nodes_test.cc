// The fields of plugin nodes, as a plugin's creator gets them.
#include <gtest/gtest.h>

#include <tuple>

#include "elan/error.h"
#include "exported.h"
#include "model/network.h"
#include "support/golden.h"

namespace elan::test {
namespace {

std::vector<float> floats(const onnx::NodeProto& node, const std::string& name) {
  const auto* attribute = attribute_of(node, name);
  if (attribute == nullptr || attribute->type() != onnx::AttributeProto::TENSOR ||
      attribute->t().data_type() != onnx::TensorProto::FLOAT) {
    ADD_FAILURE() << node.name() << ": no tensor " << name;
    return {};
  }
  return values_of<float>(attribute->t());
}

std::int64_t number(const onnx::NodeProto& node, const std::string& name) {
  const auto* attribute = attribute_of(node, name);
  return attribute != nullptr ? attribute->i() : -1;
}

std::string text(const onnx::NodeProto& node, const std::string& name) {
  const auto* attribute = attribute_of(node, name);
  return attribute != nullptr ? attribute->s() : "";
}

std::vector<std::string> list(const google::protobuf::RepeatedPtrField<std::string>& names) {
  return {names.begin(), names.end()};
}

using Names = std::vector<std::string>;

class PluginNodes : public testing::TestWithParam<const char*> {
 protected:
  const Model model_ = Model::load(model_path(GetParam()));
  const Network& net_ = model_.network();
  const onnx::ModelProto proto_ = exported(model_, {.precision = Precision::fp16, .plugins = true});
  const std::map<std::string, const onnx::NodeProto*> nodes_ = nodes_of(proto_);
};

TEST_P(PluginNodes, NameThePluginAndTheNetwork) {
  int plugins = 0;
  for (const auto& node : proto_.graph().node()) {
    if (node.domain().empty()) continue;
    ++plugins;
    EXPECT_EQ(node.domain(), "elan_sr");
    EXPECT_EQ(text(node, "plugin_namespace"), "elan_sr");
    EXPECT_EQ(text(node, "plugin_version"), "4");
    EXPECT_EQ(text(node, "precision"), "fp16");
    EXPECT_EQ(number(node, "half_stream"), 0);
    EXPECT_EQ(number(node, "int8_block"), 0);
    EXPECT_EQ(text(node, "stage"), node.name());
    EXPECT_EQ(text(node, "fingerprint"), model_.fingerprint());
    EXPECT_EQ(number(node, "channels"), net_.arch.channels);
  }
  EXPECT_EQ(plugins, 2 * net_.arch.elabs * net_.arch.pairs);
}

TEST_P(PluginNodes, SayWhatTheyComputeIn) {
  for (const Precision precision : {Precision::fp32, Precision::tf32}) {
    const onnx::ModelProto proto = exported(model_, {.precision = precision, .plugins = true});
    for (const auto& [name, node] : nodes_of(proto)) {
      if (node->domain().empty()) continue;
      EXPECT_EQ(text(*node, "precision"), to_string(precision));
    }
  }
}

TEST_P(PluginNodes, LfeCarriesItsConvolutionsAndTheNextProjection) {
  const onnx::NodeProto& node = *nodes_.at("body.1.lfe.0");
  const Lfe& lfe = net_.body[1].lfe[0];
  const Linear projection = net_.body[1].gmsa[0].folded_project_inp();
  EXPECT_EQ(node.op_type(), "ElanLFE");
  EXPECT_EQ(number(node, "hidden"), lfe.conv0.out);
  EXPECT_EQ(floats(node, "conv0_mask"), lfe.conv0.mask);
  EXPECT_EQ(floats(node, "conv0_weight"), lfe.conv0.weight);
  EXPECT_EQ(floats(node, "conv0_bias"), lfe.conv0.bias);
  EXPECT_EQ(floats(node, "conv1_mask"), lfe.conv1.mask);
  EXPECT_EQ(floats(node, "conv1_weight"), lfe.conv1.weight);
  EXPECT_EQ(floats(node, "conv1_bias"), lfe.conv1.bias);
  EXPECT_EQ(floats(node, "project_inp_weight"), projection.weight);
  EXPECT_EQ(floats(node, "project_inp_bias"), projection.bias);
}

TEST_P(PluginNodes, GmsaCarriesTheLastProjection) {
  for (const int block : {0, 1}) {
    const onnx::NodeProto& node = *nodes_.at("body." + std::to_string(block) + ".gmsa.0");
    const Gmsa& gmsa = net_.body[static_cast<std::size_t>(block)].gmsa[0];
    EXPECT_EQ(node.op_type(), "ElanGMSA");
    EXPECT_EQ(number(node, "shifted"), block);
    const auto& windows = attribute_of(node, "windows")->ints();
    EXPECT_EQ(std::vector<int>(windows.begin(), windows.end()), (std::vector<int>{4, 8, 16}));
    EXPECT_EQ(floats(node, "project_out_weight"), gmsa.project_out.weight);
    EXPECT_EQ(floats(node, "project_out_bias"), gmsa.project_out.bias);
  }
}

TEST_P(PluginNodes, LaterPairsTakeTheQueriesOfTheFirst) {
  const onnx::NodeProto& first = *nodes_.at("body.0.lfe.0");
  EXPECT_EQ(list(first.output()), (Names{"body.0.lfe.0", "body.0.lfe.0.v", "body.0.lfe.0.q"}));
  EXPECT_EQ(number(first, "gives_q"), 1);
  EXPECT_EQ(list(nodes_.at("body.0.gmsa.0")->input()), list(first.output()));
  if (net_.arch.pairs == 1) return;
  const onnx::NodeProto& second = *nodes_.at("body.0.lfe.1");
  EXPECT_EQ(list(second.input()), Names{"body.0.gmsa.0"});
  EXPECT_EQ(list(second.output()), (Names{"body.0.lfe.1", "body.0.lfe.1.v"}));
  EXPECT_EQ(number(second, "gives_q"), 0);
  EXPECT_EQ(list(nodes_.at("body.0.gmsa.1")->input()),
            (Names{"body.0.lfe.1", "body.0.lfe.1.v", "body.0.lfe.0.q"}));
}

// The convolutions around the plugins give and take the stream's channels in its order.
TEST_P(PluginNodes, HeadAndTailArePermutedIntoTheStream) {
  const auto stream = attribute_of(*nodes_.at("body.0.lfe.0"), "stream")->ints();
  const auto places = static_cast<std::size_t>(stream.size());
  const auto constants = initializers_of(proto_);
  const std::vector<float> head = values_of<float>(*constants.at("head.conv.weight"));
  const std::vector<float> tail = values_of<float>(*constants.at("tail.conv.weight"));
  const std::size_t channels = net_.head.bias.size();
  ASSERT_EQ(head.size(), places * 27);
  ASSERT_EQ(tail.size(), net_.tail.bias.size() * places * 9);
  for (std::size_t p = 0; p < places; ++p) {
    const auto channel = stream[static_cast<int>(p)];
    for (std::size_t i = 0; i < 27; ++i) {
      const float expected =
          channel < 0 ? 0 : net_.head.weight[static_cast<std::size_t>(channel) * 27 + i];
      ASSERT_EQ(head[p * 27 + i], expected) << p;
    }
    for (std::size_t i = 0; i < 9; ++i) {  // of the third output channel
      const float expected =
          channel < 0
              ? 0
              : net_.tail.weight[(2 * channels + static_cast<std::size_t>(channel)) * 9 + i];
      ASSERT_EQ(tail[(2 * places + p) * 9 + i], expected) << p;
    }
  }
}

class PluginNodesIn8Bits : public testing::TestWithParam<const char*> {
 protected:
  // `weight` is a matrix with its scales.
  static void expect_integers(const onnx::NodeProto& node, const std::string& name,
                              const QuantizedMatrix& expected) {
    const auto* weight = attribute_of(node, name + "_weight");
    ASSERT_NE(weight, nullptr);
    EXPECT_EQ(weight->t().data_type(), onnx::TensorProto::INT8);
    EXPECT_EQ(weight->t().dims_size(), 2);
    EXPECT_EQ(values_of<std::int8_t>(weight->t()), expected.weight);
    EXPECT_EQ(floats(node, name + "_weight_scale"), expected.weight_scale);
    EXPECT_EQ(floats(node, name + "_input_scale"), std::vector{expected.input_scale});
  }

  const Model model_ = Model::load(model_path(GetParam()));
  const Network& net_ = model_.network();
  const onnx::ModelProto proto_ = exported(model_, {.precision = Precision::int8, .plugins = true});
  const std::map<std::string, const onnx::NodeProto*> nodes_ = nodes_of(proto_);
};

TEST_P(PluginNodesIn8Bits, CarryIntegersAndScales) {
  const Gmsa& gmsa = net_.body[1].gmsa[0];
  const onnx::NodeProto& lfe = *nodes_.at("body.1.lfe.0");
  expect_integers(lfe, "conv0", *net_.body[1].lfe[0].conv0.int8);
  expect_integers(lfe, "conv1", *net_.body[1].lfe[0].conv1.int8);
  const QuantizedMatrix joined = gmsa.int8_project_inp().value();
  EXPECT_EQ(joined.values(), gmsa.project_inp.weight);
  expect_integers(lfe, "project_inp", joined);
  EXPECT_EQ(floats(lfe, "project_inp_bias"), gmsa.project_inp.bias);
  expect_integers(*nodes_.at("body.1.gmsa.0"), "project_out", *gmsa.int8_out);
  for (const auto& [name, node] : nodes_) {
    if (node->domain().empty()) continue;
    EXPECT_EQ(text(*node, "precision"), "int8");
    EXPECT_EQ(number(*node, "half_stream"), 1);
    EXPECT_EQ(number(*node, "int8_block"), net_.arch.channels == 180 ? 1 : 0);
  }
}

TEST_P(PluginNodesIn8Bits, HaveAStreamInHalves) {
  EXPECT_EQ(nodes_.at("body.0.lfe.0")->input(0), "head.to_fp16");
  const onnx::NodeProto& sum = *nodes_.at("body");
  EXPECT_EQ(nodes_.at(sum.input(0))->op_type(), "Cast");
  EXPECT_EQ(sum.input(1), "head");
  for (const auto& value : proto_.graph().value_info()) {
    EXPECT_EQ(value.type().tensor_type().elem_type(), value.name().starts_with("body.")
                                                          ? onnx::TensorProto::FLOAT16
                                                          : onnx::TensorProto::FLOAT)
        << value.name();
  }
}

INSTANTIATE_TEST_SUITE_P(Models, PluginNodesIn8Bits,
                         testing::Values("elan_light_int8_x4", "elan_int8_x4"));

// As the CUDA backend: floats for a matrix that stayed exact, fp16 for an ELAB of nothing else.
TEST(PluginExport, LeavesWhatIsExactInFloats) {
  Network network = Model::load(model_path("elan_int8_x4")).network();
  network.body[0].gmsa[0].int8_out.reset();
  network.body[0].gmsa[0].int8_q.reset();
  Elab& exact = network.body[1];
  exact.lfe[0].conv0.int8.reset();
  exact.lfe[0].conv1.int8.reset();
  exact.gmsa[0].int8_q.reset();
  exact.gmsa[0].int8_v.reset();
  exact.gmsa[0].int8_out.reset();
  const Linear projection = network.body[0].gmsa[0].project_inp;
  const Model model(std::make_shared<const Network>(std::move(network)));
  const auto proto = exported(model, {.precision = Precision::int8, .plugins = true});
  const auto nodes = nodes_of(proto);
  const onnx::NodeProto& lfe = *nodes.at("body.0.lfe.0");
  EXPECT_EQ(attribute_of(lfe, "conv0_weight")->t().data_type(), onnx::TensorProto::INT8);
  EXPECT_EQ(floats(lfe, "project_inp_weight"), projection.weight);
  EXPECT_EQ(attribute_of(lfe, "project_inp_weight_scale"), nullptr);
  const onnx::NodeProto& gmsa = *nodes.at("body.0.gmsa.0");
  EXPECT_EQ(attribute_of(gmsa, "project_out_weight")->t().data_type(), onnx::TensorProto::FLOAT);
  EXPECT_EQ(attribute_of(gmsa, "project_out_input_scale"), nullptr);
  const std::tuple<const char*, const char*, int> expected[]{
      {"body.0.lfe.0", "int8", 0}, {"body.1.gmsa.0", "fp16", 0}, {"body.2.lfe.0", "int8", 1}};
  for (const auto& [stage, precision, whole] : expected) {
    EXPECT_EQ(text(*nodes.at(stage), "precision"), precision);
    EXPECT_EQ(number(*nodes.at(stage), "half_stream"), 1);
    EXPECT_EQ(number(*nodes.at(stage), "int8_block"), whole);
  }
}

TEST(PluginExport, OfANetworkThatThePluginsCannotComputeIsRefused) {
  Network network = Model::load(model_path("elan_light_x4")).network();
  network.body[1].lfe[0].conv0.taps.clear();
  const Model model(std::make_shared<const Network>(std::move(network)));
  try {
    (void)onnx_model(model, {.plugins = true});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::model);
    EXPECT_NE(std::string(error.what()).find("one-hot"), std::string::npos) << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Models, PluginNodes, testing::Values("elan_light_x4", "elan_x4"));

}  // namespace
}  // namespace elan::test
