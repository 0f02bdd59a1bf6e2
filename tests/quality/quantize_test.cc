// Post-training quantisation: scales for known distributions, and whole small networks.
#include "quality/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <stop_token>
#include <vector>

#include "model/checkpoint.h"
#include "quality/calibrate.h"
#include "support/errors.h"
#include "support/quantized.h"

namespace elan::test {
namespace {

Network small_float() {
  return read_checkpoint(Safetensors::parse("m", serialise(make_elan(small_architecture()))))
      .network;
}

std::vector<Planar<float>> pictures(std::size_t count) {
  std::vector<Planar<float>> all;
  for (std::size_t k = 0; k < count; ++k) {
    Planar<float> picture(3, 16, 32);
    picture.values = Values(static_cast<std::uint32_t>(k + 1))(picture.values.size(), 128, 127);
    all.push_back(std::move(picture));
  }
  return all;
}

// Many values up to 1 and one outlier.
OperandSamples with_outlier() {
  OperandSamples samples;
  samples.channels = 2;
  samples.values = Values(5)(40000);
  samples.values[7] = -12;
  samples.largest = 12;
  return samples;
}

TEST(Observers, TreatAnOutlierEachInTheirWay) {
  const OperandSamples samples = with_outlier();
  const std::vector<float> weight{1, 1};
  EXPECT_FLOAT_EQ(step_by(Observer::max, samples, weight), 12.0F / 127);
  EXPECT_NEAR(step_by(Observer::percentile, samples, weight), 1.0F / 127, 0.02F / 127);
  EXPECT_LT(step_by(Observer::entropy, samples, weight), 3.0F / 127);
  const float mse = step_by(Observer::mse, samples, weight);
  EXPECT_LT(mse, 11.0F / 127);
  EXPECT_GT(mse, 1.0F / 127);
}

TEST(Observers, MseWeighsChannels) {
  OperandSamples samples;
  samples.channels = 2;
  for (int k = 0; k < 1000; ++k) {
    samples.values.push_back(static_cast<float>(k % 10) / 10);
    samples.values.push_back(static_cast<float>(k % 7) * 1.5F);
  }
  samples.largest = 9;
  const std::vector<float> small{1, 0}, large{0, 1};
  EXPECT_LT(step_by(Observer::mse, samples, small), step_by(Observer::mse, samples, large) / 2);
}

TEST(Observers, SilenceHasAStepToo) {
  OperandSamples samples;
  samples.channels = 1;
  samples.values = {0, 0};
  const std::vector<float> weight{1};
  for (const Observer o : {Observer::max, Observer::percentile, Observer::entropy, Observer::mse}) {
    EXPECT_EQ(step_by(o, samples, weight), 1.0F);
  }
}

TEST(RoundMatrix, IsNeverWorseThanTheLargestValue) {
  Linear matrix;
  matrix.in = 20;
  matrix.out = 3;
  matrix.weight = Values(3)(60);
  matrix.weight[5] = 4;
  std::fill(matrix.weight.begin() + 40, matrix.weight.end(), 0.0F);  // an output that is silent
  matrix.bias = {0, 0, 0};
  const QuantizedMatrix found = round_matrix(matrix, 0.5F, {});
  const QuantizedMatrix plain = rounded_matrix(matrix, 0.5F);
  EXPECT_EQ(found.input_scale, 0.5F);
  const auto error = [&](const QuantizedMatrix& m, std::size_t row) {
    const auto values = m.values();
    double sum = 0;
    for (std::size_t i = row * 20; i < row * 20 + 20; ++i) {
      sum += std::pow(double(values[i]) - matrix.weight[i], 2);
    }
    return sum;
  };
  for (const std::size_t row : {0U, 1U}) EXPECT_LE(error(found, row), error(plain, row) * 1.0001);
  EXPECT_GT(found.weight_scale[2], 0);
  EXPECT_EQ(found.weight[45], 0);
}

TEST(Quantize, StaysNearTheNetworkAndRepeats) {
  const Network net = small_float();
  const auto calibration = pictures(4);
  QuantizeOptions options;
  options.threads = 2;
  options.search = 2;
  options.keep = 0;
  const QuantizedNetwork a = quantize(net, calibration, options);
  EXPECT_TRUE(a.network.quantized());
  EXPECT_EQ(a.report.operands.size(), 16U);
  EXPECT_GT(a.report.psnr, 40);
  EXPECT_LT(a.report.mean_error, 1.5);
  for (const OperandReport& operand : a.report.operands) {
    EXPECT_GT(operand.scale, 0) << operand.operation;
    EXPECT_LT(operand.error, 0.05) << operand.operation;
  }
  const QuantizedNetwork b = quantize(net, calibration, options);
  EXPECT_EQ(b.network.fingerprint, a.network.fingerprint);
  // What is written is what was measured.
  const Network again =
      read_checkpoint(Safetensors::parse("q", serialise(file_of(a.network)))).network;
  EXPECT_EQ(again.fingerprint, a.network.fingerprint);
}

TEST(Quantize, AttentionGetsAScaleForEveryGroup) {
  const Network net = small_float();
  const auto calibration = pictures(4);
  QuantizeOptions options;
  options.search = 0;
  options.keep = 0;
  const QuantizedNetwork plain = quantize(net, calibration, options);
  EXPECT_FALSE(plain.network.body[0].gmsa[0].int8_attention);
  options.attention = true;
  const QuantizedNetwork found = quantize(net, calibration, options);
  EXPECT_EQ(found.report.operands.size(), 16U + 3 * (2 + 4));  // qk of 2 ELABs, av of 4 pairs
  EXPECT_EQ(found.report.operands[16].operation, "body.0.gmsa.0.qk.0");
  for (const OperandReport& operand : found.report.operands) {
    EXPECT_GT(operand.scale, 0) << operand.operation;
    EXPECT_LT(operand.error, 0.05) << operand.operation;
  }
  const QuantizedAttention& scales = *found.network.body[1].gmsa[0].int8_attention;
  EXPECT_NE(scales.q_scale[0], scales.q_scale[1]);
  EXPECT_NE(scales.v_scale, found.network.body[1].gmsa[1].int8_attention->v_scale);
  EXPECT_NE(found.report.psnr, plain.report.psnr);
  EXPECT_GT(found.report.psnr, plain.report.psnr - 3);
}

TEST(Quantize, SearchDoesNotMakeItWorse) {
  const Network net = small_float();
  const auto calibration = pictures(4);
  QuantizeOptions options;
  options.search = 0;
  options.keep = 0;
  const double plain = quantize(net, calibration, options).report.psnr;
  options.search = 16;
  EXPECT_GE(quantize(net, calibration, options).report.psnr, plain - 1e-9);
}

TEST(Quantize, KeepsTheMostSensitiveInFloatingPoint) {
  // One matrix whose weights are much larger than those around it outweighs all others' rounding.
  Network net = small_float();
  for (float& w : net.body[1].lfe[0].conv1.weight) w *= 8;
  const auto calibration = pictures(2);
  QuantizeOptions options;
  options.search = 0;
  options.keep = 0;
  const QuantizedNetwork all = quantize(net, calibration, options);
  EXPECT_TRUE(all.report.kept.empty());
  options.keep = 2;
  const QuantizedNetwork most = quantize(net, calibration, options);
  ASSERT_EQ(most.report.kept.size(), 2U);
  EXPECT_EQ(most.report.operands.size(), 14U);
  EXPECT_NE(std::find(most.report.kept.begin(), most.report.kept.end(), "body.1.lfe.0.conv1"),
            most.report.kept.end());
  const ShiftConv& kept = most.network.body[1].lfe[0].conv1;
  EXPECT_FALSE(kept.int8);
  EXPECT_EQ(kept.weight, net.body[1].lfe[0].conv1.weight);
  EXPECT_GT(most.report.psnr, all.report.psnr + 1);
  options.keep = 16;
  EXPECT_NE(error_of(ErrorKind::usage, [&] { quantize(net, calibration, options); }), "");
}

TEST(Quantize, PromisesWhatTheFileItselfStraysBy) {
  QuantizeOptions options;
  options.search = 0;
  options.keep = 0;
  const auto calibration = pictures(3);
  const QuantizedNetwork made = quantize(small_float(), calibration, options);
  double worst = 0;
  for (const Planar<float>& picture : calibration) {
    const auto watch = [](const std::string&, const Planar<float>&) {};
    const auto is = forward<float>(made.network, picture, watch, Precision::int8);
    const auto should = forward<float>(made.network, picture, watch, Precision::fp32);
    double sum = 0;
    for (std::size_t i = 0; i < is.values.size(); ++i) {
      sum += std::abs(double(is.values[i]) - should.values[i]);
    }
    worst = std::max(worst, sum / static_cast<double>(is.values.size()));
  }
  // Two engines may round a few values differently.
  EXPECT_NEAR(made.report.worst_mean_error, worst, 0.2 * worst);
}

TEST(Quantize, RefusesWhatItCannotDo) {
  const Network net = small_float();
  const auto calibration = pictures(1);
  EXPECT_NE(error_of(ErrorKind::input, [&] { quantize(net, {}, {}); }), "");
  EXPECT_NE(error_of(ErrorKind::model, [&] { quantize(quantized(net), calibration, {}); }), "");
  std::stop_source source;
  source.request_stop();
  QuantizeOptions options;
  options.stop = source.get_token();
  EXPECT_EQ(error_of(ErrorKind::cancelled, [&] { quantize(net, calibration, options); }),
            "cancelled");
}

}  // namespace
}  // namespace elan::test
