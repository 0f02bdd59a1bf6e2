// What holds for the plugins of every TensorRT, whatever the interface: a fixture that has the
// library under test loaded, and runs that see a plugin through functions.
#pragma once

#include <stdexcept>

#include "host.h"

namespace elan::test {

class PluginHost : public testing::Test {
 protected:
  static Library& library() {
    static Library library(ELANSR_PLUGIN_LIBRARY);
    return library;
  }
  void SetUp() override { library().errors().clear(); }
  static Strings& errors() { return library().errors(); }

  // Of the creators that the library's function `getter` gives as `Interface`s.
  template <typename Creator, typename Interface>
  static Creator& creator_of(const char* getter, const std::string& name) {
    using Get = Interface* const* (*)(int32_t&);
    int32_t count = 0;
    auto* const* all = library().symbol<Get>(getter)(count);
    for (int i = 0; i < count; ++i) {
      auto* one = static_cast<Creator*>(all[i]);
      if (name == one->getPluginName()) return *one;
    }
    throw std::out_of_range(name);
  }

  template <typename Creator>
  static void expect_name_and_fields(Creator& creator, plugins::Kind kind) {
    EXPECT_STREQ(creator.getPluginVersion(), "4");
    EXPECT_STREQ(creator.getPluginNamespace(), "elan_sr");
    Strings found, expected;
    for (int i = 0; i < creator.getFieldNames()->nbFields; ++i) {
      found.emplace_back(creator.getFieldNames()->fields[i].name);
    }
    for (const auto& f : plugins::field_names(kind)) expected.emplace_back(f.name);
    EXPECT_EQ(found, expected);
  }

  // outputs(stage, inputs, expr): the shapes of all outputs.
  template <typename Outputs>
  static void expect_symbolic_shapes(Outputs outputs) {
    using Shapes = std::vector<nvinfer1::DimsExprs>;
    ExprBuilder expr;
    const nvinfer1::DimsExprs stream =
        exprs({expr.symbol("n"), expr.symbol("h"), expr.symbol("w"), expr.constant(64)});
    const Shapes lfe = outputs(kLfeStage, Shapes{stream}, expr);
    ASSERT_EQ(lfe.size(), 3U);
    EXPECT_EQ(texts(lfe[0]), (Strings{"n", "h", "w", "64"}));
    EXPECT_EQ(texts(lfe[1]), (Strings{"n", "h/4", "w/4", "512"}));
    EXPECT_EQ(texts(lfe[2]), texts(lfe[1]));
    const Shapes gmsa = outputs(kGmsaStage, Shapes{stream, lfe[1], lfe[2]}, expr);
    ASSERT_EQ(gmsa.size(), 1U);
    EXPECT_EQ(texts(gmsa[0]), texts(stream));
    EXPECT_EQ(outputs("body.1.lfe.1", Shapes{stream}, expr).size(), 2U);
    EXPECT_TRUE(errors().empty());
  }

  // takes(position, tensor): whether the GMSA of such a stream takes it there.
  template <typename Takes>
  static void expect_one_combination_of_formats(nvinfer1::DataType stream, Takes takes) {
    using nvinfer1::DataType;
    using nvinfer1::TensorFormat;
    const DataType good[]{stream, DataType::kINT32, DataType::kINT32, stream};
    for (const DataType type :
         {DataType::kFLOAT, DataType::kHALF, DataType::kINT8, DataType::kINT32}) {
      for (const TensorFormat format :
           {TensorFormat::kLINEAR, TensorFormat::kCHW32, TensorFormat::kHWC8}) {
        for (int position = 0; position < 4; ++position) {
          EXPECT_EQ(takes(position, tensor(type, format)),
                    type == good[position] && format == TensorFormat::kLINEAR);
        }
      }
    }
  }

  static void expect_no_device_told() {
    ASSERT_EQ(errors().size(), 1U);
    EXPECT_NE(errors()[0].find("cuda"), std::string::npos) << errors()[0];
  }
};

}  // namespace elan::test
