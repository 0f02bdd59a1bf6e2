// The library for TensorRT 10 or 11, driven as its registry, parser, builder and engine would.
#include <memory>

#include "cuda/cuda_backend.h"
#include "plugin_runs.h"

namespace elan::test {
namespace {

using namespace nvinfer1;

class PluginV3 : public PluginHost {
 protected:
  static IPluginCreatorV3One& creator(const std::string& name) {
    return creator_of<IPluginCreatorV3One, IPluginCreatorInterface>("getCreators", name);
  }
  static std::unique_ptr<IPluginV3> create(const NodeFields& fields) {
    const Collection collection(fields);
    return std::unique_ptr<IPluginV3>(
        creator(plugins::name_of(fields.kind()))
            .createPlugin("node", collection.get(), TensorRTPhase::kBUILD));
  }
  static std::unique_ptr<IPluginV3> create(const char* stage) {
    return create(light_graph().fields(stage));
  }
  static IPluginV3OneBuild& build(IPluginV3& plugin) {
    return *static_cast<IPluginV3OneBuild*>(
        plugin.getCapabilityInterface(PluginCapabilityType::kBUILD));
  }
  static IPluginV3OneRuntime& runtime(IPluginV3& plugin) {
    return *static_cast<IPluginV3OneRuntime*>(
        plugin.getCapabilityInterface(PluginCapabilityType::kRUNTIME));
  }
};

TEST_F(PluginV3, CreatorsAreNamedAndListTheirFields) {
  for (const char* stage : {kLfeStage, kGmsaStage}) {
    const NodeFields fields = light_graph().fields(stage);
    IPluginCreatorV3One& one = creator(plugins::name_of(fields.kind()));
    EXPECT_STREQ(one.getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE");
    expect_name_and_fields(one, fields.kind());
  }
}

TEST_F(PluginV3, HasAllThreeCapabilities) {
  const auto plugin = create(kLfeStage);
  ASSERT_NE(plugin, nullptr);
  const auto* core =
      static_cast<IPluginV3OneCore*>(plugin->getCapabilityInterface(PluginCapabilityType::kCORE));
  EXPECT_STREQ(core->getPluginName(), "ElanLFE");
  EXPECT_STREQ(core->getPluginNamespace(), "elan_sr");
  EXPECT_STREQ(core->getInterfaceInfo().kind, "PLUGIN_V3ONE_CORE");
  EXPECT_STREQ(build(*plugin).getInterfaceInfo().kind, "PLUGIN_V3ONE_BUILD");
  EXPECT_STREQ(runtime(*plugin).getInterfaceInfo().kind, "PLUGIN_V3ONE_RUNTIME");
}

TEST_F(PluginV3, InfersSymbolicShapes) {
  expect_symbolic_shapes([](const char* stage, const auto& in, ExprBuilder& expr) {
    const auto plugin = create(stage);
    const auto inputs = static_cast<int32_t>(in.size());
    std::vector<DimsExprs> out(static_cast<std::size_t>(build(*plugin).getNbOutputs()));
    EXPECT_EQ(build(*plugin).getOutputShapes(in.data(), inputs, nullptr, 0, out.data(),
                                             static_cast<int32_t>(out.size()), expr),
              0);
    return out;
  });
}

TEST_F(PluginV3, InfersFixedShapesAndRefusesOthers) {
  ExprBuilder expr;
  const auto lfe = create(kLfeStage);
  DimsExprs out[3]{};
  const DimsExprs good =
      exprs({expr.constant(2), expr.constant(208), expr.constant(304), expr.constant(64)});
  ASSERT_EQ(build(*lfe).getOutputShapes(&good, 1, nullptr, 0, out, 3, expr), 0);
  EXPECT_EQ(texts(out[1]), (Strings{"2", "52", "76", "512"}));
  const DimsExprs odd =
      exprs({expr.constant(2), expr.constant(206), expr.constant(304), expr.constant(64)});
  EXPECT_NE(build(*lfe).getOutputShapes(&odd, 1, nullptr, 0, out, 3, expr), 0);
  const DimsExprs narrow =
      exprs({expr.symbol("n"), expr.symbol("h"), expr.symbol("w"), expr.constant(60)});
  EXPECT_NE(build(*lfe).getOutputShapes(&narrow, 1, nullptr, 0, out, 3, expr), 0);
  EXPECT_NE(build(*lfe).getOutputShapes(&good, 1, nullptr, 0, out, 2, expr), 0);
  ASSERT_EQ(errors().size(), 3U);
  EXPECT_NE(errors()[0].find("multiples of 16, found 2x206x304x64"), std::string::npos);
  EXPECT_NE(errors()[1].find("found -1x-1x-1x60"), std::string::npos);
  EXPECT_NE(errors()[2].find("3 outputs, found 1 and 2"), std::string::npos);
}

TEST_F(PluginV3, TakesOneCombinationOfFormats) {
  DataType types[3]{};
  for (const auto& [graph, stream] :
       {std::pair{&light_graph(), DataType::kFLOAT}, {&int8_graph(), DataType::kHALF}}) {
    const auto gmsa = create(graph->fields(kGmsaStage));
    ASSERT_NE(gmsa, nullptr);
    expect_one_combination_of_formats(stream, [&](int position, const PluginTensorDesc& desc) {
      DynamicPluginTensorDesc tensors[4]{};
      for (auto& t : tensors) t.desc = desc;
      return build(*gmsa).supportsFormatCombination(position, tensors, 3, 1);
    });
    const DataType in[]{stream, DataType::kINT32, DataType::kINT32};
    ASSERT_EQ(build(*gmsa).getOutputDataTypes(types, 1, in, 3), 0);
    EXPECT_EQ(types[0], stream);
  }
  const DataType in = DataType::kFLOAT;
  const auto lfe = create(kLfeStage);
  ASSERT_EQ(build(*lfe).getOutputDataTypes(types, 3, &in, 1), 0);
  EXPECT_EQ(types[0], DataType::kFLOAT);
  EXPECT_EQ(types[1], DataType::kINT32);
  EXPECT_EQ(types[2], DataType::kINT32);
}

TEST_F(PluginV3, ConfiguresForARangeOfSizes) {
  const auto lfe = create(kLfeStage);
  DynamicPluginTensorDesc in{}, out[3]{};
  in.desc = tensor(DataType::kFLOAT);
  in.desc.dims = dims_of({-1, -1, -1, 64});
  in.min = dims_of({1, 16, 16, 64});
  in.max = dims_of({4, 512, 512, 64});
  EXPECT_EQ(build(*lfe).configurePlugin(&in, 1, out, 3), 0);
  in.max = dims_of({4, 512, 500, 64});
  EXPECT_NE(build(*lfe).configurePlugin(&in, 1, out, 3), 0);
  ASSERT_EQ(errors().size(), 1U);
  PluginTensorDesc fixed = tensor(DataType::kFLOAT);
  PluginTensorDesc results[3]{};
  EXPECT_EQ(runtime(*lfe).onShapeChange(&fixed, 1, results, 3), 0);
  fixed.dims = dims_of({1, 16, 40, 64});
  EXPECT_NE(runtime(*lfe).onShapeChange(&fixed, 1, results, 3), 0);
}

TEST_F(PluginV3, WorksInMemoryOfTheHostIn8Bits) {
  DynamicPluginTensorDesc in[3]{};
  in[0].max = dims_of({2, 16, 32, 184});
  const auto bytes = [&](const PluginGraph& graph, const char* stage, int inputs) {
    const auto plugin = create(graph.fields(stage));
    return build(*plugin).getWorkspaceSize(in, inputs, nullptr, 1);
  };
  EXPECT_EQ(bytes(int8_graph(), kLfeStage, 1), std::size_t{2} * 20 * 36 * 192);
  EXPECT_EQ(bytes(int8_graph(), kGmsaStage, 3), 0U);
  in[0].max = dims_of({2, 16, 32, 64});
  EXPECT_EQ(bytes(light_graph(), kLfeStage, 1), 0U);
  EXPECT_TRUE(errors().empty());
}

TEST_F(PluginV3, SurvivesAPlanAndCloning) {
  for (const auto& [graph, stage] : {std::pair{&light_graph(), kLfeStage},
                                     {&light_graph(), kGmsaStage},
                                     {&int8_graph(), kLfeStage},
                                     {&int8_graph(), kGmsaStage}}) {
    const auto plugin = create(graph->fields(stage));
    ASSERT_NE(plugin, nullptr);
    const PluginFieldCollection* stored = runtime(*plugin).getFieldsToSerialize();
    ASSERT_EQ(stored->nbFields, 1);
    const auto bytes = [](const PluginFieldCollection& c) {
      return std::string(static_cast<const char*>(c.fields[0].data),
                         static_cast<std::size_t>(c.fields[0].length));
    };
    const std::string before = bytes(*stored);
    IPluginCreatorV3One& one = creator(graph->node(stage).op_type());
    const std::unique_ptr<IPluginV3> again(
        one.createPlugin("node", stored, TensorRTPhase::kRUNTIME));
    ASSERT_NE(again, nullptr);
    EXPECT_EQ(bytes(*runtime(*again).getFieldsToSerialize()), before);
    const std::unique_ptr<IPluginV3> copy(again->clone());
    ASSERT_NE(copy, nullptr);
    EXPECT_NE(copy, again);
    EXPECT_EQ(bytes(*runtime(*copy).getFieldsToSerialize()), before);
    EXPECT_EQ(build(*copy).getNbOutputs(), build(*plugin).getNbOutputs());
  }
}

TEST_F(PluginV3, TellsTheLoggerWhatIsWrongWithFields) {
  NodeFields fields = light_graph().fields(kLfeStage);
  fields.remove("conv1_bias");
  EXPECT_EQ(create(fields), nullptr);
  fields = light_graph().fields(kLfeStage);
  fields.at("hidden").type = plugins::FieldType::other;
  EXPECT_EQ(create(fields), nullptr);
  fields = light_graph().fields(kLfeStage);
  fields.at("conv0_weight").length -= 1;
  EXPECT_EQ(create(fields), nullptr);
  EXPECT_EQ(creator("ElanGMSA").createPlugin("node", nullptr, TensorRTPhase::kBUILD), nullptr);
  fields = int8_graph().fields(kLfeStage);
  fields.remove("conv1_input_scale");
  EXPECT_EQ(create(fields), nullptr);
  ASSERT_EQ(errors().size(), 5U);
  EXPECT_EQ(errors()[0],
            "ElanLFE body.1.lfe.0: field conv1_bias: expected 32-bit floats, found none");
  EXPECT_EQ(errors()[1],
            "ElanLFE body.1.lfe.0: field hidden: expected integers, found another type");
  EXPECT_EQ(errors()[2],
            "ElanLFE body.1.lfe.0: field conv0_weight: expected 7200 numbers, found 7199");
  EXPECT_EQ(errors()[3], "ElanGMSA: expected fields, found none");
  EXPECT_EQ(errors()[4],
            "ElanLFE body.1.lfe.0: field conv1_input_scale: expected 32-bit floats, found none");
}

TEST_F(PluginV3, RefusesAPlanOfAnotherVersionOrADamagedOne) {
  const auto plugin = create(kGmsaStage);
  const PluginField stored = runtime(*plugin).getFieldsToSerialize()->fields[0];
  const auto load = [&](std::string bytes) {
    const PluginField field{"module", bytes.data(), PluginFieldType::kCHAR,
                            static_cast<int32_t>(bytes.size())};
    const PluginFieldCollection collection{1, &field};
    return creator("ElanGMSA").createPlugin("node", &collection, TensorRTPhase::kRUNTIME);
  };
  const std::string good(static_cast<const char*>(stored.data),
                         static_cast<std::size_t>(stored.length));
  std::string bad = good;
  bad[8] = 7;
  EXPECT_EQ(load(bad), nullptr);
  bad = good;
  bad[bad.size() / 2] ^= 1;
  EXPECT_EQ(load(bad), nullptr);
  const PluginFieldCollection nothing{0, nullptr};
  EXPECT_EQ(creator("ElanGMSA").createPlugin("node", &nothing, TensorRTPhase::kRUNTIME), nullptr);
  ASSERT_EQ(errors().size(), 3U);
  EXPECT_NE(errors()[0].find("expected version 4, found 7"), std::string::npos) << errors()[0];
  EXPECT_NE(errors()[1].find("damaged"), std::string::npos) << errors()[1];
  EXPECT_NE(errors()[2].find("found none"), std::string::npos) << errors()[2];
}

// What needs the device fails in words where there is none.
TEST_F(PluginV3, SaysWhenThereIsNoDevice) {
  if (cuda_device_count() > 0) GTEST_SKIP() << "there is a device";
  const auto plugin = create(kLfeStage);
  EXPECT_EQ(runtime(*plugin).attachToContext(nullptr), nullptr);
  expect_no_device_told();
}

}  // namespace
}  // namespace elan::test
