// The engines against the network that training in 8 bits trains: values that PyTorch computed
// (training/make_parity.py), compared with the reference and with every instruction set.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "backend.h"
#include "core/thread_pool.h"
#include "cpu/isa.h"
#include "model/network.h"
#include "support/golden.h"

namespace elan::test {
namespace {

struct Difference {
  double mean = 0, most = 0;
};

Difference difference(std::span<const float> a, std::span<const float> b) {
  Difference d;
  d.most = max_abs_difference(a, b);
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    d.mean += std::abs(double(a[i]) - double(b[i])) / static_cast<double>(a.size());
  }
  return d;
}

class Int8Parity : public testing::Test {
 protected:
  static constexpr const char* kStage = "body.0.gmsa.0";

  Int8Parity() {
    const auto file = Safetensors::read(std::string(ELANSR_TEST_DATA) + "/int8_parity.safetensors");
    golden_ = load_golden_file(std::string(ELANSR_TEST_DATA) + "/int8_parity.safetensors");
    const GoldenCase& c = golden_.cases.at(0);
    float_attention_ = c;
    float_attention_.output = file.floats("float_attention." + c.size);
    with_attention_ = Model::load(model_path("elan_light_int8_x4")).shared_network();
    auto matrices = std::make_shared<Network>(*with_attention_);
    for (Elab& elab : matrices->body) {
      for (Gmsa& gmsa : elab.gmsa) gmsa.int8_attention.reset();
    }
    matrices_ = matrices;
  }

  // The output, and the stream after the first pair.
  std::vector<float> run(Backend& backend, const GoldenCase& c) {
    RunContext context;
    context.observer = [this](const StageView& stage) {
      if (stage.name == kStage) first_pair_.assign(stage.f32, stage.f32 + stage.size());
    };
    return run_golden(backend, c, 4, context);
  }

  Golden golden_;
  GoldenCase float_attention_;
  std::shared_ptr<const Network> matrices_, with_attention_;
  std::vector<float> first_pair_;
};

// With attention in 8 bits every sum that meets a rounding is one of integers or of two numbers:
// nothing is left for PyTorch and the reference to disagree on.
TEST_F(Int8Parity, TheReferenceComputesTheSameIntegers) {
  const GoldenCase& c = golden_.cases.at(0);
  const auto output = run(*make_reference_backend(with_attention_, Precision::int8), c);
  EXPECT_EQ(difference(first_pair_, golden_.stages.at(kStage)).most, 0);
  EXPECT_LE(difference(output, c.output).most, 1e-3);
}

// The float softmax differs in last bits, which flip roundings that then grow.
TEST_F(Int8Parity, TheReferenceIsNearWithAttentionInFloatingPoint) {
  const auto output = run(*make_reference_backend(matrices_, Precision::int8), float_attention_);
  EXPECT_LE(difference(output, float_attention_.output).mean, 0.5);
  EXPECT_GE(difference(output, golden_.cases.at(0).output).mean, 0.01);  // the variants differ
}

TEST_F(Int8Parity, EveryInstructionSetIsNear) {
  const GoldenCase& c = golden_.cases.at(0);
  for (const cpu::Isa isa : cpu::usable_isas()) {
    if (isa == cpu::Isa::scalar) continue;  // slow, and its kernels are tested by themselves
    setenv("ELANSR_CPU", std::string(to_string(isa)).c_str(), 1);
    const auto cpu =
        make_cpu_backend(with_attention_, Precision::int8, std::make_shared<ThreadPool>(1));
    const auto output = run(*cpu, c);
    EXPECT_LE(difference(first_pair_, golden_.stages.at(kStage)).mean, 1e-3) << to_string(isa);
    EXPECT_LE(difference(output, c.output).mean, 0.5) << to_string(isa);
    unsetenv("ELANSR_CPU");
  }
}

}  // namespace
}  // namespace elan::test
