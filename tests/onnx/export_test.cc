// What every exported graph promises to those who read it. That it computes the right picture is
// checked on ONNX Runtime, by scripts/test-onnx.sh.
#include "onnx/export.h"

#include <gtest/gtest.h>
#include <onnx/checker.h>
#include <onnx/shape_inference/implementation.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <set>

#include "elan/error.h"
#include "elan/version.h"
#include "exported.h"
#include "model/network.h"
#include "model/stages.h"
#include "support/golden.h"

namespace elan::test {
namespace {

struct Variant {
  const char* name;
  const char* model;
  OnnxOptions options;
};

// The name is GoogleTest's.
void PrintTo(const Variant& variant, std::ostream* out) {  // NOLINT(readability-identifier-naming)
  *out << variant.name;
}

class OnnxExport : public testing::TestWithParam<Variant> {
 protected:
  const Model model_ = Model::load(model_path(GetParam().model));
  const OnnxOptions& options_ = GetParam().options;
  const onnx::ModelProto proto_ = exported(model_, options_);

  // What `get` finds in the type of each tensor, by name, after shape inference.
  template <typename Get>
  [[nodiscard]] std::map<std::string, int> inferred(Get get) const {
    onnx::ModelProto proto = proto_;
    const onnx::ShapeInferenceOptions strict(true, 1, true);
    onnx::shape_inference::InferShapes(proto, onnx::OpSchemaRegistry::Instance(), strict);
    std::map<std::string, int> found;
    for (const auto& info : proto.graph().value_info()) {
      found[info.name()] = get(info.type().tensor_type());
    }
    return found;
  }
};

TEST_P(OnnxExport, PassesTheChecker) {
  EXPECT_NO_THROW(onnx::checker::check_model(proto_));
  EXPECT_EQ(proto_.ir_version(), 8);
  EXPECT_EQ(proto_.opset_import(0).version(), 17);
}

TEST_P(OnnxExport, UsesOnlyOperationsThatEnginesHave) {
  std::set<std::string> allowed{"Add",     "Concat", "Conv",    "DepthToSpace",
                                "MatMul",  "Relu",   "Reshape", "Slice",
                                "Softmax", "Split",  "Sub",     "Transpose"};
  if (options_.padding) allowed.insert("Gather");
  if (!options_.size) allowed.insert({"Div", "Gather", "Mul", "Shape"});
  if (!options_.size && options_.padding) allowed.insert({"Max", "Min", "Range", "Squeeze"});
  if (options_.precision == Precision::fp16) allowed.insert("Cast");
  if (options_.plugins) allowed.insert({"ElanLFE", "ElanGMSA"});
  for (const auto& node : proto_.graph().node()) {
    EXPECT_TRUE(allowed.contains(node.op_type())) << node.op_type() << " " << node.name();
  }
}

// Shapes that are computed at run time stay unknown to shape inference, but not their lengths.
TEST_P(OnnxExport, HasNoRankAboveFour) {
  const auto nodes = nodes_of(proto_);
  const auto constants = initializers_of(proto_);
  for (const auto& [name, tensor] : constants) EXPECT_LE(tensor->dims_size(), 4) << name;
  for (const auto& node : proto_.graph().node()) {
    if (const auto* perm = attribute_of(node, "perm")) {
      EXPECT_LE(perm->ints_size(), 4) << node.name();
    }
    if (node.op_type() == "Reshape") {
      const std::string& shape = node.input(1);
      EXPECT_LE(
          constants.contains(shape) ? constants.at(shape)->dims(0) : nodes.at(shape)->input_size(),
          4)
          << node.name();
    }
  }
  const std::map<std::string, int> ranks = inferred(
      [](const auto& tensor) { return tensor.has_shape() ? tensor.shape().dim_size() : -1; });
  for (const auto& [name, rank] : ranks) EXPECT_LE(rank, 4) << name;
  if (!options_.size || options_.plugins) return;
  for (const auto& [name, node] : nodes) {
    EXPECT_TRUE(name == "output" || (ranks.contains(name) && ranks.at(name) > 0)) << name;
  }
}

// TensorRT refuses a convolution over channels that it cannot know.
TEST_P(OnnxExport, ReshapesHaveConstantChannels) {
  const auto nodes = nodes_of(proto_);
  const auto constants = initializers_of(proto_);
  int reshapes = 0;
  for (const auto& node : proto_.graph().node()) {
    if (node.op_type() != "Reshape") continue;
    ++reshapes;
    std::string last = node.input(1);
    const auto computed = nodes.find(last);
    if (computed != nodes.end()) {
      ASSERT_EQ(computed->second->op_type(), "Concat");
      last = *std::prev(computed->second->input().end());
    }
    ASSERT_TRUE(constants.contains(last)) << node.name();
    EXPECT_GT(values_of<std::int64_t>(*constants.at(last)).back(), 0) << node.name();
  }
  EXPECT_EQ(reshapes > 0, !options_.plugins);
}

TEST_P(OnnxExport, ShowsEveryStageByName) {
  const auto nodes = nodes_of(proto_);
  for (const std::string& stage : stage_names(model_.architecture())) {
    ASSERT_TRUE(nodes.contains(stage)) << stage;
    EXPECT_EQ(nodes.at(stage)->name(), stage);
  }
}

TEST_P(OnnxExport, NamesAreUniqueAndSayWhereTheyBelong) {
  const Architecture& arch = model_.architecture();
  std::set<std::string> seen;
  for (const auto& node : proto_.graph().node()) {
    EXPECT_TRUE(seen.insert(node.name()).second) << node.name();
  }
  if (options_.plugins) return;
  for (const char* operation :
       {".lfe.0.conv0", ".lfe.0.conv1", ".gmsa.0.project_inp", ".gmsa.0.qk.window4",
        ".gmsa.0.av.window16", ".gmsa.0.project_out"}) {
    EXPECT_TRUE(seen.contains("body." + std::to_string(arch.elabs - 1) + operation)) << operation;
  }
}

std::vector<std::string> dims_of(const onnx::ValueInfoProto& info) {
  std::vector<std::string> dims;
  for (const auto& d : info.type().tensor_type().shape().dim()) {
    dims.push_back(d.has_dim_param() ? d.dim_param() : std::to_string(d.dim_value()));
  }
  return dims;
}

TEST_P(OnnxExport, InputAndOutputAreFloatPictures) {
  const auto& graph = proto_.graph();
  ASSERT_EQ(graph.input_size(), 1);
  ASSERT_EQ(graph.output_size(), 1);
  EXPECT_EQ(graph.input(0).name(), "input");
  EXPECT_EQ(graph.output(0).name(), "output");
  for (const auto& info : {graph.input(0), graph.output(0)}) {
    EXPECT_EQ(info.type().tensor_type().elem_type(), onnx::TensorProto::FLOAT);
  }
  using Dims = std::vector<std::string>;
  if (!options_.size) {
    EXPECT_EQ(dims_of(graph.input(0)), (Dims{"batch", "3", "height", "width"}));
    EXPECT_EQ(dims_of(graph.output(0)), (Dims{"batch", "3", "output_height", "output_width"}));
    return;
  }
  const auto [width, height] = *options_.size;
  const auto dims = [](int h, int w) {
    return Dims{"1", "3", std::to_string(h), std::to_string(w)};
  };
  EXPECT_EQ(dims_of(graph.input(0)), dims(height, width));
  EXPECT_EQ(dims_of(graph.output(0)), dims(height * model_.scale(), width * model_.scale()));
}

TEST_P(OnnxExport, MetadataSaysWhatItIs) {
  std::map<std::string, std::string> metadata;
  for (const auto& entry : proto_.metadata_props()) metadata[entry.key()] = entry.value();
  const Architecture& arch = model_.architecture();
  EXPECT_EQ(metadata["architecture"], arch.variant());
  EXPECT_EQ(metadata["fingerprint"], model_.fingerprint());
  EXPECT_EQ(metadata["scale"], std::to_string(arch.scale));
  EXPECT_EQ(metadata["windows"], "4,8,16");
  EXPECT_EQ(metadata["range"], "0..255");
  EXPECT_EQ(metadata["precision"], to_string(options_.precision));
  EXPECT_EQ(metadata["padding"], options_.padding ? "inside" : "outside");
  EXPECT_EQ(proto_.producer_name(), "elan-sr");
  EXPECT_EQ(proto_.producer_version(), version());
}

// Trunk, head, tail, logits and softmax stay FP32 whatever the branches compute in.
TEST_P(OnnxExport, PrecisionIsWhereItIsPromised) {
  const std::map<std::string, int> types =
      inferred([](const auto& tensor) { return tensor.elem_type(); });
  const int branch =
      options_.precision == Precision::fp16 ? onnx::TensorProto::FLOAT16 : onnx::TensorProto::FLOAT;
  for (const char* stage : {"head", "body.0.lfe.0", "body.1.gmsa.0", "body", "tail"}) {
    EXPECT_EQ(types.at(stage), onnx::TensorProto::FLOAT) << stage;
  }
  if (options_.plugins) return;
  for (const char* window : {".window4", ".window8", ".window16"}) {
    const std::string gmsa = "body.1.gmsa.0";
    EXPECT_EQ(types.at(gmsa + ".qk" + window), onnx::TensorProto::FLOAT);
    EXPECT_EQ(types.at(gmsa + ".softmax" + window), onnx::TensorProto::FLOAT);
    EXPECT_EQ(types.at(gmsa + ".av" + window), branch);
  }
  for (const char* conv :
       {".lfe.0.conv0", ".lfe.0.conv1", ".gmsa.0.project_inp", ".gmsa.0.project_out"}) {
    EXPECT_EQ(types.at("body.0" + std::string(conv)), branch) << conv;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Variants, OnnxExport,
    testing::Values(
        Variant{"LightX4", "elan_light_x4", {}}, Variant{"LightX2", "elan_light_x2", {}},
        Variant{"Full", "elan_x4", {}},
        Variant{"OddSize", "elan_light_x3", {.size = PictureSize{30, 17}}},
        Variant{"OnePixel", "elan_light_x4", {.size = PictureSize{1, 1}}},
        Variant{"OnGrid", "elan_light_x4", {.size = PictureSize{48, 32}}},
        Variant{"PaddedOutside", "elan_light_x4", {.padding = false}},
        Variant{"PaddedOutsideOneSize",
                "elan_light_x4",
                {.size = PictureSize{48, 32}, .padding = false}},
        Variant{"Half", "elan_light_x4", {.precision = Precision::fp16}},
        Variant{"HalfFullOneSize",
                "elan_x4",
                {.size = PictureSize{20, 9}, .precision = Precision::fp16}},
        Variant{"Plugins", "elan_light_x4", {.plugins = true}},
        Variant{"HalfPluginsOneSize",
                "elan_x4",
                {.size = PictureSize{20, 9}, .precision = Precision::fp16, .plugins = true}}),
    [](const auto& test) { return test.param.name; });

TEST(OnnxOptions, MeaninglessOnesAreRefused) {
  const Model model = Model::load(model_path("elan_light_x4"));
  const struct {
    OnnxOptions options;
    const char* says;
  } cases[] = {
      {{.precision = Precision::bf16}, "not bf16"},
      {{.precision = Precision::int8}, "not int8"},
      {{.size = PictureSize{0, 4}}, "size 0x4"},
      {{.size = PictureSize{4, -1}}, "size 4x-1"},
      {{.size = PictureSize{32, 17}, .padding = false}, "multiples of 16"},
  };
  for (const auto& c : cases) {
    try {
      (void)onnx_model(model, c.options);
      ADD_FAILURE() << c.says;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      EXPECT_NE(std::string(error.what()).find(c.says), std::string::npos) << error.what();
    }
  }
}

TEST(OnnxWeights, BeyondHalfsRangeAreRefusedByName) {
  Network network = Model::load(model_path("elan_light_x4")).network();
  network.body[2].lfe[1].conv1.weight[7] = 70000;
  const Model model(std::make_shared<const Network>(std::move(network)));
  EXPECT_NO_THROW((void)onnx_model(model, {}));
  try {
    (void)onnx_model(model, {.precision = Precision::fp16});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::model);
    EXPECT_NE(std::string(error.what()).find("body.2.lfe.1.conv1.weight: 70000"), std::string::npos)
        << error.what();
  }
}

TEST(OnnxWeights, MasksThatAreNotOneHotAreKept) {
  Network network = Model::load(model_path("elan_light_x4")).network();
  ShiftConv& conv = network.body[1].lfe[0].conv0;
  std::iota(conv.mask.begin(), conv.mask.end(), 1.0F);
  conv.taps.clear();
  const std::vector<float> mask = conv.mask;
  const onnx::ModelProto proto =
      exported(Model(std::make_shared<const Network>(std::move(network))), {});
  const auto nodes = nodes_of(proto);
  const std::string& input = nodes.at("body.1.lfe.0.conv0.shift")->input(1);
  EXPECT_EQ(values_of<float>(*initializers_of(proto).at(input)), mask);
  EXPECT_NE(input, nodes.at("body.1.lfe.1.conv0.shift")->input(1));
}

class OnnxFile : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directory(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  [[nodiscard]] std::set<std::string> files() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      names.insert(entry.path().filename());
    }
    return names;
  }

  const Model model_ = Model::load(model_path("elan_light_x4"));
  const std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) /
      ("onnx_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
};

TEST_F(OnnxFile, HoldsTheGraph) {
  export_onnx(model_, {}, folder_ / "a.onnx");
  std::ifstream file(folder_ / "a.onnx", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(bytes, onnx_model(model_));
  EXPECT_EQ(files(), (std::set<std::string>{"a.onnx"}));
}

TEST_F(OnnxFile, ThatCannotBeWrittenIsAnErrorAndLeavesNothing) {
  std::filesystem::create_directory(folder_ / "taken.onnx");
  std::ofstream(folder_ / "taken.onnx" / "inside") << "x";
  for (const auto& path : {folder_ / "missing" / "a.onnx", folder_ / "taken.onnx"}) {
    try {
      export_onnx(model_, {}, path);
      ADD_FAILURE() << path;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      EXPECT_TRUE(std::string(error.what()).starts_with(path.string())) << error.what();
    }
  }
  EXPECT_EQ(files(), (std::set<std::string>{"taken.onnx"}));
}

}  // namespace
}  // namespace elan::test
