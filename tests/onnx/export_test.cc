// What every exported graph promises to those who read it. That it computes the right picture is
// checked on ONNX Runtime, by scripts/test-onnx.sh.
#include "onnx/export.h"

#include <gtest/gtest.h>
#include <onnx/checker.h>
#include <onnx/shape_inference/implementation.h>

#include <cmath>
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

  [[nodiscard]] Precision branch() const { return options_.precision.default_precision(); }

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
  if (branch() == Precision::fp16) allowed.insert("Cast");
  if (branch() == Precision::int8) allowed.insert({"QuantizeLinear", "DequantizeLinear"});
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
  EXPECT_EQ(metadata["precision"], to_string(branch()));
  EXPECT_EQ(metadata["padding"], options_.padding ? "inside" : "outside");
  EXPECT_EQ(proto_.producer_name(), "elan-sr");
  EXPECT_EQ(proto_.producer_version(), version());
}

// Trunk, head, tail, logits and softmax stay FP32 whatever the branches compute in.
TEST_P(OnnxExport, PrecisionIsWhereItIsPromised) {
  const std::map<std::string, int> types =
      inferred([](const auto& tensor) { return tensor.elem_type(); });
  const int type =
      branch() == Precision::fp16 ? onnx::TensorProto::FLOAT16 : onnx::TensorProto::FLOAT;
  for (const char* stage : {"head", "body.0.lfe.0", "body.1.gmsa.0", "body", "tail"}) {
    EXPECT_EQ(types.at(stage), onnx::TensorProto::FLOAT) << stage;
  }
  if (options_.plugins) return;
  for (const char* window : {".window4", ".window8", ".window16"}) {
    const std::string gmsa = "body.1.gmsa.0";
    EXPECT_EQ(types.at(gmsa + ".qk" + window), onnx::TensorProto::FLOAT);
    EXPECT_EQ(types.at(gmsa + ".softmax" + window), onnx::TensorProto::FLOAT);
    EXPECT_EQ(types.at(gmsa + ".av" + window), type);
  }
  for (const char* conv :
       {".lfe.0.conv0", ".lfe.0.conv1", ".gmsa.0.project_inp", ".gmsa.0.project_out"}) {
    EXPECT_EQ(types.at("body.0" + std::string(conv)), type) << conv;
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
        Variant{"Int8", "elan_light_int8_x4", {.precision = Precision::int8}},
        Variant{"Int8OneSize",
                "elan_light_int8_x2",
                {.size = PictureSize{20, 9}, .precision = Precision::int8}},
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
      {{.precision = Precision::bf16}, "head: expected fp32, tf32, fp16, fp8 or int8, found bf16"},
      {{.precision = Precision::int8}, "expected a model in 8 bits (elan-sr quantize) for int8"},
      {{.precision = Precision::fp8}, "for fp8"},
      {{.precision = PrecisionPlan::parse(R"({"tail": "fp16"})", "p", Precision::fp32),
        .plugins = true},
       "fp32, tf32, fp16 or int8 for all operations, found a plan"},
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

// A network with 8-bit forms of most matrices, and how it is exported.
class OnnxEightBits : public testing::Test {
 protected:
  [[nodiscard]] onnx::ModelProto graph(const char* plan) const {
    return exported(model_, {.precision = PrecisionPlan::parse(plan, "plan", Precision::fp32)});
  }
  const Model model_ = Model::load(model_path("elan_light_int8_x4"));
  const Network& net_ = model_.network();

  // Matrices without an 8-bit form; project_inp is one.
  [[nodiscard]] int floating() const {
    int count = 0;
    for (const Elab& elab : net_.body) {
      for (const Lfe& lfe : elab.lfe) count += !lfe.conv0.int8 + !lfe.conv1.int8;
      for (const Gmsa& gmsa : elab.gmsa) count += !gmsa.int8_v + !gmsa.int8_out;
    }
    return count;
  }
};

// The values of a tensor that QuantizeLinear makes integers of, and those integers.
std::vector<int> integers(const onnx::ModelProto& proto, const std::string& tensor) {
  const auto nodes = nodes_of(proto);
  const auto constants = initializers_of(proto);
  const onnx::NodeProto& node = *nodes.at(tensor + ".quantized");
  const auto values = values_of<float>(*constants.at(node.input(0)));
  const auto scales = values_of<float>(*constants.at(node.input(1)));
  std::vector<int> result;
  for (std::size_t i = 0; i < values.size(); ++i) {
    result.push_back(
        static_cast<int>(std::lrint(values[i] / scales[i / (values.size() / scales.size())])));
  }
  return result;
}

TEST_F(OnnxEightBits, WeightsAreTheModelsIntegers) {
  const onnx::ModelProto proto = graph(R"({"default": "int8"})");
  const auto same = [](const std::vector<int>& a, const std::vector<std::int8_t>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  };
  const Elab& elab = net_.body[2];
  EXPECT_TRUE(same(integers(proto, "body.2.lfe.1.conv1.weight"), elab.lfe[1].conv1.int8->weight));
  EXPECT_TRUE(
      same(integers(proto, "body.2.gmsa.1.project_inp.weight"), elab.gmsa[1].int8_v->weight));
  EXPECT_TRUE(
      same(integers(proto, "body.2.gmsa.0.project_out.weight"), elab.gmsa[0].int8_out->weight));
  // q and v in one matrix: 20 rows of q, 20 of v, and so on for three groups.
  const std::vector<int> both = integers(proto, "body.2.gmsa.0.project_inp.weight");
  const std::vector<std::int8_t>& q = elab.gmsa[0].int8_q->weight;
  const std::vector<std::int8_t>& v = elab.gmsa[0].int8_v->weight;
  ASSERT_EQ(both.size(), q.size() + v.size());
  for (std::size_t row = 0; row < 120; ++row) {
    const std::size_t group = row / 40, within = row % 40;
    const auto& from = within < 20 ? q : v;
    const std::size_t source = (group * 20 + within % 20) * 60;
    for (std::size_t i = 0; i < 60; ++i) ASSERT_EQ(both[row * 60 + i], from[source + i]) << row;
  }
}

// Every matrix that has an 8-bit form reads a rounded input and a rounded weight, each with the
// model's scale and a zero point of the same shape.
TEST_F(OnnxEightBits, EveryMatrixReadsDequantisedTensors) {
  const onnx::ModelProto proto = graph(R"({"default": "int8"})");
  const auto nodes = nodes_of(proto);
  const auto constants = initializers_of(proto);
  int matrices = 0, floating_ones = 0;
  for (const auto& node : proto.graph().node()) {
    const auto* kernel = attribute_of(node, "kernel_shape");
    if (node.op_type() != "Conv" || kernel->ints(0) != 1) continue;
    ++matrices;
    if (constants.contains(node.input(1))) {
      ++floating_ones;
      continue;
    }
    for (const int input : {0, 1}) {
      const onnx::NodeProto& wide = *nodes.at(node.input(input));
      ASSERT_EQ(wide.op_type(), "DequantizeLinear") << node.name();
      const onnx::NodeProto& narrow = *nodes.at(wide.input(0));
      ASSERT_EQ(narrow.op_type(), "QuantizeLinear");
      EXPECT_EQ(wide.input(1), narrow.input(1));
      const onnx::TensorProto& scale = *constants.at(wide.input(1));
      const onnx::TensorProto& zero = *constants.at(wide.input(2));
      EXPECT_EQ(zero.data_type(), onnx::TensorProto::INT8);
      EXPECT_EQ(scale.dims_size(), input) << node.name();
      EXPECT_EQ(std::vector(scale.dims().begin(), scale.dims().end()),
                std::vector(zero.dims().begin(), zero.dims().end()));
      EXPECT_EQ(attribute_of(wide, "axis") != nullptr, input == 1);
    }
  }
  EXPECT_EQ(matrices, 24 * 4);
  EXPECT_EQ(floating_ones, floating());
  const auto scale = [&](const std::string& node) {
    return values_of<float>(*constants.at(nodes.at(node)->input(1)));
  };
  const Gmsa& gmsa = net_.body[1].gmsa[0];
  EXPECT_EQ(scale("body.1.gmsa.0.project_out.input.quantized").at(0), gmsa.int8_out->input_scale);
  EXPECT_EQ(scale("body.1.gmsa.0.project_inp.input.quantized").at(0), gmsa.int8_v->input_scale);
  EXPECT_EQ(scale("body.1.lfe.0.conv0.weight.dequantized"),
            net_.body[1].lfe[0].conv0.int8->weight_scale);
}

// E4M3 takes the largest value to 448 where 8-bit integers take it to 127.
TEST_F(OnnxEightBits, Fp8SaysItsVersionsAndScales) {
  const onnx::ModelProto proto = graph(R"({"default": "fp8"})");
  EXPECT_EQ(proto.ir_version(), 9);
  EXPECT_EQ(proto.opset_import(0).version(), 19);
  const auto nodes = nodes_of(proto);
  const auto constants = initializers_of(proto);
  const onnx::NodeProto& node = *nodes.at("body.0.lfe.0.conv0.input.quantized");
  EXPECT_EQ(constants.at(node.input(2))->data_type(), 17);
  EXPECT_EQ(constants.at(node.input(2))->raw_data(), std::string(1, '\0'));
  EXPECT_FLOAT_EQ(values_of<float>(*constants.at(node.input(1))).at(0),
                  net_.body[0].lfe[0].conv0.int8->input_scale * 127 / 448);
}

TEST_F(OnnxEightBits, PlansChooseForEachOperation) {
  const onnx::ModelProto proto = graph(
      R"({"default": "int8", "body.1.*": "fp16", "body.2.gmsa.0.project_inp.q": "fp32",
          "body.3.lfe.*": "fp32"})");
  const auto nodes = nodes_of(proto);
  EXPECT_EQ(proto.opset_import(0).version(), 17);
  EXPECT_TRUE(nodes.contains("body.0.lfe.0.conv0.weight.quantized"));
  EXPECT_FALSE(nodes.contains("body.1.lfe.0.conv0.weight.quantized"));
  EXPECT_TRUE(nodes.contains("body.1.gmsa.0.project_out.to_fp32"));
  EXPECT_FALSE(nodes.contains("body.2.gmsa.0.project_inp.q.weight.quantized"));
  EXPECT_TRUE(nodes.contains("body.2.gmsa.0.project_inp.v.weight.quantized"));
  EXPECT_TRUE(nodes.contains("body.2.gmsa.0.project_inp"));  // both, joined again
  EXPECT_FALSE(nodes.contains("body.3.lfe.1.conv1.to_fp32"));
  EXPECT_TRUE(nodes.contains("body.3.gmsa.1.project_out.input.dequantized"));
  EXPECT_NO_THROW(onnx::checker::check_model(proto));
  for (const auto& entry : proto.metadata_props()) {
    if (entry.key() == "precision") {
      EXPECT_TRUE(entry.value().starts_with("{\"default\":\"int8\",\"body.1.*\":\"fp16\""));
    }
  }
  EXPECT_THROW((void)graph(R"({"body.99.*": "fp16"})"), Error);
}

TEST_F(OnnxEightBits, ModelsInEightBitsAreExportedSoByThemselves) {
  EXPECT_EQ(natural_precision(model_), Precision::int8);
  EXPECT_EQ(natural_precision(Model::load(model_path("elan_light_x4"))), Precision::fp32);
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
