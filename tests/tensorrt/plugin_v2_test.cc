// The library for TensorRT 8.6, driven as its registry, parser, builder and engine would.
#include <memory>

#include "cuda/cuda_backend.h"
#include "host.h"

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

class PluginV2 : public testing::Test {
 protected:
  static Library& library() {
    static Library library(ELANSR_PLUGIN_LIBRARY);
    return library;
  }
  void SetUp() override { library().errors().clear(); }

  static IPluginCreator& creator(const std::string& name) {
    using Get = IPluginCreator* const* (*)(int32_t&);
    int32_t count = 0;
    auto* const* all = library().symbol<Get>("getPluginCreators")(count);
    for (int i = 0; i < count; ++i) {
      if (name == all[i]->getPluginName()) return *all[i];
    }
    throw std::out_of_range(name);
  }
  static Owned create(const NodeFields& fields) {
    const Collection collection(fields);
    return own(creator(plugins::name_of(fields.kind())).createPlugin("node", collection.get()));
  }
  static Owned create(const char* stage) { return create(light_graph().fields(stage)); }
  static Strings& errors() { return library().errors(); }
};

TEST_F(PluginV2, CreatorsAreNamedAndListTheirFields) {
  for (const char* stage : {kLfeStage, kGmsaStage}) {
    const NodeFields fields = light_graph().fields(stage);
    IPluginCreator& one = creator(plugins::name_of(fields.kind()));
    EXPECT_STREQ(one.getPluginVersion(), "1");
    EXPECT_STREQ(one.getPluginNamespace(), "elan_sr");
    Strings found, expected;
    for (int i = 0; i < one.getFieldNames()->nbFields; ++i) {
      found.emplace_back(one.getFieldNames()->fields[i].name);
    }
    for (const auto& f : plugins::field_names(fields.kind())) expected.emplace_back(f.name);
    EXPECT_EQ(found, expected);
  }
}

TEST_F(PluginV2, InfersSymbolicShapes) {
  ExprBuilder expr;
  const DimsExprs stream =
      exprs({expr.symbol("n"), expr.symbol("h"), expr.symbol("w"), expr.constant(64)});
  const Owned lfe = create(kLfeStage);
  ASSERT_EQ(lfe->getNbOutputs(), 3);
  EXPECT_EQ(texts(lfe->getOutputDimensions(0, &stream, 1, expr)), texts(stream));
  for (const int packed : {1, 2}) {
    EXPECT_EQ(texts(lfe->getOutputDimensions(packed, &stream, 1, expr)),
              (Strings{"n", "h/4", "w/4", "576"}));
  }
  const Owned gmsa = create(kGmsaStage);
  const DimsExprs in[3]{stream, stream, stream};
  ASSERT_EQ(gmsa->getNbOutputs(), 1);
  EXPECT_EQ(texts(gmsa->getOutputDimensions(0, in, 3, expr)), texts(stream));
  EXPECT_EQ(create("body.1.lfe.1")->getNbOutputs(), 2);
  EXPECT_TRUE(errors().empty());
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
  const Owned gmsa = create(kGmsaStage);
  const DataType good[]{DataType::kFLOAT, DataType::kINT32, DataType::kINT32, DataType::kFLOAT};
  for (const DataType type :
       {DataType::kFLOAT, DataType::kHALF, DataType::kINT8, DataType::kINT32}) {
    for (const TensorFormat format :
         {TensorFormat::kLINEAR, TensorFormat::kCHW32, TensorFormat::kHWC8}) {
      for (int position = 0; position < 4; ++position) {
        const PluginTensorDesc tensors[4]{tensor(type, format), tensor(type, format),
                                          tensor(type, format), tensor(type, format)};
        EXPECT_EQ(gmsa->supportsFormatCombination(position, tensors, 3, 1),
                  type == good[position] && format == TensorFormat::kLINEAR);
      }
    }
  }
  const Owned lfe = create(kLfeStage);
  EXPECT_EQ(lfe->getOutputDataType(0, nullptr, 1), DataType::kFLOAT);
  EXPECT_EQ(lfe->getOutputDataType(1, nullptr, 1), DataType::kINT32);
}

TEST_F(PluginV2, SurvivesAPlanAndCloning) {
  for (const char* stage : {kLfeStage, kGmsaStage}) {
    const Owned plugin = create(stage);
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
  bytes[8] = 7;
  EXPECT_EQ(creator("ElanGMSA").deserializePlugin("node", bytes.data(), bytes.size()), nullptr);
  bytes[8] = 1;
  bytes.back() ^= 1;
  EXPECT_EQ(creator("ElanGMSA").deserializePlugin("node", bytes.data(), bytes.size()), nullptr);
  EXPECT_EQ(creator("ElanGMSA").deserializePlugin("node", nullptr, 100), nullptr);
  EXPECT_EQ(creator("ElanGMSA").createPlugin("node", nullptr), nullptr);
  ASSERT_EQ(errors().size(), 6U);
  EXPECT_EQ(errors()[0],
            "ElanGMSA body.1.gmsa.0: field project_out_bias: expected 32-bit floats, found none");
  EXPECT_EQ(errors()[1],
            "ElanGMSA body.1.gmsa.0: field windows: expected integers, found another type");
  EXPECT_NE(errors()[2].find("expected version 1, found 7"), std::string::npos);
  EXPECT_NE(errors()[3].find("damaged"), std::string::npos);
  EXPECT_NE(errors()[4].find("expected one of elan_sr"), std::string::npos);
  EXPECT_NE(errors()[5].find("expected fields, found none"), std::string::npos);
}

TEST_F(PluginV2, SaysWhenThereIsNoDevice) {
  if (cuda_device_count() > 0) GTEST_SKIP() << "there is a device";
  const Owned plugin = create(kLfeStage);
  EXPECT_NE(plugin->initialize(), 0);
  ASSERT_EQ(errors().size(), 1U);
  EXPECT_NE(errors()[0].find("cuda"), std::string::npos) << errors()[0];
}

}  // namespace
}  // namespace elan::test
