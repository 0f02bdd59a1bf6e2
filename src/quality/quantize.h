// Post-training quantisation: a network whose body's matrices are in 8 bits, from one in floating
// point and a few pictures. What the result computes is fixed in docs/quantization.md.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "model/network.h"
#include "model/reference.h"
#include "quality/calibrate.h"

namespace elan {

struct QuantizeOptions {
  std::uint64_t seed = 1;
  int threads = 0;  // 0: every core
  int search = 10;  // operands for which all observers are tried on the whole network
  int keep = 4;     // operands left in floating point: those whose rounding hurts the picture most
  bool attention = false;  // q, v and the softmax in 8 bits too
  std::stop_token stop;
  // What is being done and the share of it; from any thread, one call at a time.
  std::function<void(const std::string& phase, double share)> progress;
};

struct OperandReport {
  // conv0, conv1, project_inp.v (for q too), project_out; of attentions the operand of qk or av and
  // the group, such as body.0.gmsa.0.qk.2.
  std::string operation;
  Observer observer = Observer::mse;
  float scale = 0;
  float largest = 0;  // absolute value seen
  double error = 0;   // of what the matrix gives (qk, av: of the operand), relative (RMS)
};

struct QuantizeReport {
  // Matrices in order of computation, without those kept, then attentions.
  std::vector<OperandReport> operands;
  std::vector<std::string> kept;  // in floating point, named like operands
  bool biases_corrected = false;
  // Of the enlarged calibration pictures, against the network in floating point.
  double psnr = 0, mean_error = 0, largest_error = 0;  // dB for a peak of 255; levels
  // Mean error of the picture where it is largest, against the result's own integers computed with
  // exact activations: what a user of the file can measure.
  double worst_mean_error = 0;
};

struct QuantizedNetwork {
  Network network;  // batch norms folded; fingerprint of its own
  QuantizeReport report;
};

// `pictures` are padded, RGB, 0..255. Deterministic for the same arguments on one machine. Throws
// Error: model (a network without one-hot shifts or already quantised), input (no pictures), usage
// (nothing would be left to quantise), cancelled.
QuantizedNetwork quantize(const Network& net, std::span<const Planar<float>> pictures,
                          const QuantizeOptions& options);

}  // namespace elan
