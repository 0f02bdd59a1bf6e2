// The fields of plugin nodes, as a plugin's creator gets them.
#include <gtest/gtest.h>

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
    EXPECT_EQ(text(node, "plugin_version"), "1");
    EXPECT_EQ(text(node, "precision"), "fp16");
    EXPECT_EQ(text(node, "stage"), node.name());
    EXPECT_EQ(text(node, "fingerprint"), model_.fingerprint());
    EXPECT_EQ(number(node, "channels"), net_.arch.channels);
  }
  EXPECT_EQ(plugins, 2 * net_.arch.elabs * net_.arch.pairs);
}

TEST_P(PluginNodes, LfeCarriesBothConvolutions) {
  const onnx::NodeProto& node = *nodes_.at("body.1.lfe.0");
  const Lfe& lfe = net_.body[1].lfe[0];
  EXPECT_EQ(node.op_type(), "ElanLFE");
  EXPECT_EQ(number(node, "hidden"), lfe.conv0.out);
  EXPECT_EQ(floats(node, "conv0_mask"), lfe.conv0.mask);
  EXPECT_EQ(floats(node, "conv0_weight"), lfe.conv0.weight);
  EXPECT_EQ(floats(node, "conv0_bias"), lfe.conv0.bias);
  EXPECT_EQ(floats(node, "conv1_mask"), lfe.conv1.mask);
  EXPECT_EQ(floats(node, "conv1_weight"), lfe.conv1.weight);
  EXPECT_EQ(floats(node, "conv1_bias"), lfe.conv1.bias);
}

TEST_P(PluginNodes, GmsaCarriesTheFoldedProjections) {
  for (const int block : {0, 1}) {
    const onnx::NodeProto& node = *nodes_.at("body." + std::to_string(block) + ".gmsa.0");
    const Gmsa& gmsa = net_.body[static_cast<std::size_t>(block)].gmsa[0];
    EXPECT_EQ(node.op_type(), "ElanGMSA");
    EXPECT_EQ(number(node, "shifted"), block);
    EXPECT_EQ(number(node, "computes_attention"), 1);
    const auto& windows = attribute_of(node, "windows")->ints();
    EXPECT_EQ(std::vector<int>(windows.begin(), windows.end()), (std::vector<int>{4, 8, 16}));
    EXPECT_EQ(floats(node, "project_inp_weight"), gmsa.folded_project_inp().weight);
    EXPECT_EQ(floats(node, "project_inp_bias"), gmsa.folded_project_inp().bias);
    EXPECT_EQ(floats(node, "project_out_weight"), gmsa.project_out.weight);
    EXPECT_EQ(floats(node, "project_out_bias"), gmsa.project_out.bias);
  }
}

TEST_P(PluginNodes, LaterPairsTakeTheQueriesOfTheFirst) {
  const bool shares = net_.arch.pairs > 1;
  const onnx::NodeProto& first = *nodes_.at("body.0.gmsa.0");
  EXPECT_EQ(number(first, "gives_q"), shares ? 1 : 0);
  EXPECT_EQ(list(first.input()), Names{"body.0.lfe.0"});
  if (!shares) {
    EXPECT_EQ(list(first.output()), Names{"body.0.gmsa.0"});
    return;
  }
  EXPECT_EQ(list(first.output()), (Names{"body.0.gmsa.0", "body.0.gmsa.0.q"}));
  const onnx::NodeProto& second = *nodes_.at("body.0.gmsa.1");
  EXPECT_EQ(list(second.input()), (Names{"body.0.lfe.1", "body.0.gmsa.0.q"}));
  EXPECT_EQ(list(second.output()), Names{"body.0.gmsa.1"});
  EXPECT_EQ(number(second, "computes_attention"), 0);
  EXPECT_EQ(number(second, "gives_q"), 0);
}

INSTANTIATE_TEST_SUITE_P(Models, PluginNodes, testing::Values("elan_light_x4", "elan_x4"));

}  // namespace
}  // namespace elan::test
