// The library for TensorRT 8.6, driven as its registry, parser, builder and engine would.
#include <memory>
#include <utility>

#include "cuda/cuda_backend.h"
#include "plugin_runs.h"

namespace elan::test {
namespace {

using namespace nvinfer1;

struct Destroy {
  void operator()(IPluginV2DynamicExt* plugin) const { plugin->destroy(); }
};
using Owned = std::unique_ptr<IPluginV2DynamicExt, Destroy>;

Owned own(IPluginV2* plugin) {
  return Owned(static_cast<IPluginV2DynamicExt*>(plugin));
}

std::string bytes_of(const IPluginV2DynamicExt& plugin) {
  std::string bytes(plugin.getSerializationSize(), '\0');
  plugin.serialize(bytes.data());
  return bytes;
}

class PluginV2 : public PluginHost {
 protected:
  static IPluginCreator& creator(const std::string& name) {
    return creator_of<IPluginCreator, IPluginCreator>("getPluginCreators", name);
  }
  static Owned create(const NodeFields& fields) {
    const Collection collection(fields);
    return own(creator(plugins::name_of(fields.kind())).createPlugin("node", collection.get()));
  }
  static Owned create(const char* stage) { return create(light_graph().fields(stage)); }
};

TEST_F(PluginV2, CreatorsAreNamedAndListTheirFields) {
  for (const char* stage : {kLfeStage, kGmsaStage}) {
    const NodeFields fields = light_graph().fields(stage);
    expect_name_and_fields(creator(plugins::name_of(fields.kind())), fields.kind());
  }
}

TEST_F(PluginV2, InfersSymbolicShapes) {
  expect_symbolic_shapes([](const char* stage, const auto& in, ExprBuilder& expr) {
    const Owned plugin = create(stage);
    std::vector<DimsExprs> out;
    for (int i = 0; i < plugin->getNbOutputs(); ++i) {
      out.push_back(
          plugin->getOutputDimensions(i, in.data(), static_cast<int32_t>(in.size()), expr));
    }
    return out;
  });
}

TEST_F(PluginV2, RefusesOtherShapes) {
  ExprBuilder expr;
  const Owned lfe = create(kLfeStage);
  const DimsExprs odd =
      exprs({expr.constant(2), expr.constant(206), expr.constant(304), expr.constant(64)});
  EXPECT_EQ(lfe->getOutputDimensions(0, &odd, 1, expr).nbDims, -1);
  EXPECT_EQ(lfe->getOutputDimensions(0, &odd, 2, expr).nbDims, -1);
  DynamicPluginTensorDesc in{};
  in.desc = tensor(DataType::kFLOAT);
  in.min = dims_of({1, 16, 16, 64});
  in.max = dims_of({4, 512, 512, 64});
  lfe->configurePlugin(&in, 1, nullptr, 3);
  ASSERT_EQ(errors().size(), 2U);
  in.max = dims_of({4, 512, 500, 64});
  lfe->configurePlugin(&in, 1, nullptr, 3);
  ASSERT_EQ(errors().size(), 3U);
  EXPECT_NE(errors()[0].find("multiples of 16, found 2x206x304x64"), std::string::npos);
  EXPECT_NE(errors()[1].find("expected 1 inputs and 3 outputs, found 2 and 3"), std::string::npos);
  EXPECT_NE(errors()[2].find("found 4x512x500x64"), std::string::npos);
}

TEST_F(PluginV2, TakesOneCombinationOfFormats) {
  for (const auto& [graph, stream] :
       {std::pair{&light_graph(), DataType::kFLOAT}, {&int8_graph(), DataType::kHALF}}) {
    const Owned gmsa = create(graph->fields(kGmsaStage));
    ASSERT_NE(gmsa, nullptr);
    expect_one_combination_of_formats(stream, [&](int position, const PluginTensorDesc& desc) {
      const PluginTensorDesc tensors[4]{desc, desc, desc, desc};
      return gmsa->supportsFormatCombination(position, tensors, 3, 1);
    });
    EXPECT_EQ(gmsa->getOutputDataType(0, nullptr, 3), stream);
  }
  const Owned lfe = create(kLfeStage);
  EXPECT_EQ(lfe->getOutputDataType(0, nullptr, 1), DataType::kFLOAT);
  EXPECT_EQ(lfe->getOutputDataType(1, nullptr, 1), DataType::kINT32);
}

TEST_F(PluginV2, WorksInMemoryOfTheHostIn8Bits) {
  PluginTensorDesc in[3]{tensor(DataType::kHALF), {}, {}};
  in[0].dims = dims_of({2, 16, 32, 184});
  const auto bytes = [&](const PluginGraph& graph, const char* stage, int inputs) {
    return create(graph.fields(stage))->getWorkspaceSize(in, inputs, nullptr, 1);
  };
  EXPECT_EQ(bytes(int8_graph(), kLfeStage, 1), std::size_t{2} * 20 * 36 * 192);
  EXPECT_EQ(bytes(int8_graph(), kGmsaStage, 3), 0U);
  in[0].dims = dims_of({2, 16, 32, 64});
  EXPECT_EQ(bytes(light_graph(), kLfeStage, 1), 0U);
  EXPECT_TRUE(errors().empty());
}

TEST_F(PluginV2, SurvivesAPlanAndCloning) {
  for (const auto& [graph, stage] : {std::pair{&light_graph(), kLfeStage},
                                     {&light_graph(), kGmsaStage},
                                     {&int8_graph(), kLfeStage},
                                     {&int8_graph(), kGmsaStage}}) {
    const Owned plugin = create(graph->fields(stage));
    ASSERT_NE(plugin, nullptr);
    const std::string before = bytes_of(*plugin);
    const Owned again = own(
        creator(plugin->getPluginType()).deserializePlugin("node", before.data(), before.size()));
    ASSERT_NE(again, nullptr);
    EXPECT_EQ(bytes_of(*again), before);
    again->setPluginNamespace("another");
    const Owned copy = own(again->clone());
    EXPECT_EQ(bytes_of(*copy), before);
    EXPECT_STREQ(copy->getPluginNamespace(), "another");
    EXPECT_STREQ(plugin->getPluginNamespace(), "elan_sr");
    EXPECT_EQ(copy->getNbOutputs(), plugin->getNbOutputs());
  }
}

TEST_F(PluginV2, TellsTheLoggerWhatIsWrong) {
  NodeFields fields = light_graph().fields(kGmsaStage);
  fields.remove("project_out_bias");
  EXPECT_EQ(create(fields), nullptr);
  fields = light_graph().fields(kGmsaStage);
  fields.at("windows").type = plugins::FieldType::other;
  EXPECT_EQ(create(fields), nullptr);
  std::string bytes = bytes_of(*create(kGmsaStage));
  const char version = std::exchange(bytes[8], 7);
  EXPECT_EQ(creator("ElanGMSA").deserializePlugin("node", bytes.data(), bytes.size()), nullptr);
  bytes[8] = version;
  bytes.back() ^= 1;
  EXPECT_EQ(creator("ElanGMSA").deserializePlugin("node", bytes.data(), bytes.size()), nullptr);
  EXPECT_EQ(creator("ElanGMSA").deserializePlugin("node", nullptr, 100), nullptr);
  EXPECT_EQ(creator("ElanGMSA").createPlugin("node", nullptr), nullptr);
  fields = int8_graph().fields(kGmsaStage);
  fields.remove("project_out_weight_scale");
  EXPECT_EQ(create(fields), nullptr);
  ASSERT_EQ(errors().size(), 7U);
  EXPECT_EQ(errors()[0],
            "ElanGMSA body.1.gmsa.0: field project_out_bias: expected 32-bit floats, found none");
  EXPECT_EQ(errors()[1],
            "ElanGMSA body.1.gmsa.0: field windows: expected integers, found another type");
  EXPECT_NE(errors()[2].find("expected version 4, found 7"), std::string::npos);
  EXPECT_NE(errors()[3].find("damaged"), std::string::npos);
  EXPECT_NE(errors()[4].find("expected one of elan_sr"), std::string::npos);
  EXPECT_NE(errors()[5].find("expected fields, found none"), std::string::npos);
  EXPECT_EQ(errors()[6],
            "ElanGMSA body.1.gmsa.0: field project_out_weight_scale: expected 32-bit floats, found "
            "none");
}

TEST_F(PluginV2, SaysWhenThereIsNoDevice) {
  if (cuda_device_count() > 0) GTEST_SKIP() << "there is a device";
  const Owned plugin = create(kLfeStage);
  EXPECT_NE(plugin->initialize(), 0);
  expect_no_device_told();
}

}  // namespace
}  // namespace elan::test
