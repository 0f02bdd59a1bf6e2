// elan-sr quantize: an 8-bit model from one in floating point and a folder of pictures.
#include "quality/quantize.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "arguments.h"
#include "command.h"
#include "core/whole_file.h"
#include "elan/version.h"
#include "guard.h"
#include "model/checkpoint.h"
#include "model/safetensors_writer.h"
#include "model/write_network.h"
#include "models.h"
#include "picture/picture.h"
#include "signals.h"
#include "terminal.h"
#include "test_pictures.h"

namespace elan::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct QuantizeArguments {
  ModelToFile files;
  std::string report;
  std::vector<std::string> data;
  int crops = 64, size = 64, search = 10, keep = 4, seed = 1, threads = 0;
  bool shrink = false, attention = false;
};

constexpr int kLeastSide = 16;  // of a crop; the largest window

// Of the enlarged crops against FP32, in dB: photographs give 50 to 60, a mean error of one level
// is about 46.
constexpr double kUsualPsnr = 40;

// Pictures in the folders, by name.
std::vector<fs::path> files_in(const std::vector<std::string>& folders) {
  std::vector<fs::path> files;
  for (const std::string& folder : folders) {
    const std::vector<fs::path> found = pictures_in(folder);
    files.insert(files.end(), found.begin(), found.end());
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) {
    throw Error(ErrorKind::input, "--data: expected pictures, found none in " +
                                      printable(folders.front(), false) +
                                      (folders.size() > 1 ? " and the others" : ""));
  }
  return files;
}

// The square of `side` pixels at (x, y), made smaller by `factor` (the mean of each block), padded
// as the network wants it.
Planar<float> crop_of(const ConstImageView& rgb, int x, int y, int side_x, int side_y, int factor,
                      const Architecture& arch) {
  const int width = side_x / factor, height = side_y / factor;
  Planar<float> small(3, height, width);
  std::vector<float> line(static_cast<std::size_t>(width) * factor * 3);
  for (int row = 0; row < height * factor; ++row) {
    read_samples(rgb.data + static_cast<std::size_t>(y + row) * rgb.row_bytes +
                     static_cast<std::size_t>(x) * 3 * size_of(rgb.type),
                 rgb.type, line.size(), line.data());
    for (int column = 0; column < width * factor; ++column) {
      for (int c = 0; c < 3; ++c) {
        small.row(c, row / factor)[column / factor] +=
            line[3 * static_cast<std::size_t>(column) + c] / static_cast<float>(factor * factor);
      }
    }
  }
  Planar<float> padded(3, padded_side(arch, height), padded_side(arch, width));
  for (int c = 0; c < 3; ++c) {
    for (int row = 0; row < padded.height; ++row) {
      for (int column = 0; column < padded.width; ++column) {
        // What pictures are made of: whole levels.
        padded.row(c, row)[column] =
            std::nearbyint(small.row(c, reflect(row, height))[reflect(column, width)]);
      }
    }
  }
  return padded;
}

// One crop of each of some pictures, or several of each where there are fewer pictures than crops.
std::vector<Planar<float>> load_crops(const QuantizeArguments& arguments,
                                      const Architecture& arch) {
  const std::vector<fs::path> files = files_in(arguments.data);
  const int factor = arguments.shrink ? arch.scale : 1;
  const auto wanted = static_cast<std::size_t>(arguments.crops);
  const std::size_t used = std::min(files.size(), wanted);
  std::vector<Planar<float>> crops;
  std::string reason;
  for (std::size_t k = 0; k < used; ++k) {
    const fs::path& path = files[k * files.size() / used];
    try {
      const picture::Picture picture = picture::load({path}, {});
      const int w = std::min(picture.width(), arguments.size * factor);
      const int h = std::min(picture.height(), arguments.size * factor);
      if (w < kLeastSide * factor || h < kLeastSide * factor) {
        throw Error(ErrorKind::input,
                    printable(path.native(), false) + ": expected at least " +
                        std::to_string(kLeastSide * factor) + " pixels a side, found " +
                        std::to_string(picture.width()) + "x" + std::to_string(picture.height()));
      }
      for (std::size_t n = k; n < wanted; n += used) {
        const auto number = static_cast<unsigned>(2 * n) +
                            static_cast<unsigned>(arguments.seed) * 2 * arguments.crops;
        crops.push_back(crop_of(picture.rgb(), spread_place(picture.width(), w, number),
                                spread_place(picture.height(), h, number + 1), w, h, factor, arch));
      }
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::input) throw;
      reason = error.what();
      print_warning("", reason);
    }
  }
  if (crops.empty()) {
    throw Error(ErrorKind::input, "--data: expected usable pictures, found none among " +
                                      std::to_string(files.size()) + " files (the last: " + reason +
                                      ")");
  }
  return crops;
}

std::string number_text(const char* format, double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

Json report_of(const QuantizeArguments& arguments, const Network& before,
               const QuantizedNetwork& after, std::size_t crops, double seconds) {
  Json operands = Json::array();
  for (const OperandReport& o : after.report.operands) {
    operands.push_back({{"operation", o.operation},
                        {"observer", to_string(o.observer)},
                        {"scale", o.scale},
                        {"largest", o.largest},
                        {"relative_error", o.error}});
  }
  Json data = Json::array();
  for (const std::string& folder : arguments.data) data.push_back(valid_utf8(folder));
  return {{"version", version()},
          {"commit", commit()},
          {"from", before.fingerprint},
          {"fingerprint", after.network.fingerprint},
          {"data", std::move(data)},
          {"crops", crops},
          {"seed", arguments.seed},
          {"seconds", seconds},
          {"psnr_against_fp32", after.report.psnr},
          {"mean_error", after.report.mean_error},
          {"worst_mean_abs_error", after.report.worst_mean_error},
          {"largest_error", after.report.largest_error},
          {"biases_corrected", after.report.biases_corrected},
          {"kept", after.report.kept},
          {"operands", std::move(operands)}};
}

int quantize_model(QuantizeArguments arguments, const std::vector<std::string>& operands) {
  constexpr const char* kExpected = "quantize: expected a model and an output";
  take_operands(arguments.files, operands, kExpected);
  if (arguments.files.output.empty()) {
    throw Error(ErrorKind::usage,
                std::string(kExpected) +
                    ", such as elan-sr quantize --data FOLDER light light_int8.safetensors");
  }
  expect_writable(arguments.files.output);
  if (!arguments.report.empty()) expect_writable(arguments.report);
  const auto began = std::chrono::steady_clock::now();
  picture::initialise(1);
  const Model model = choose_model(arguments.files.model, arguments.files.scale).load();
  const SignalGuard signals;
  const std::vector<Planar<float>> crops = load_crops(arguments, model.architecture());
  QuantizeOptions options;
  options.seed = static_cast<std::uint64_t>(arguments.seed);
  options.threads = arguments.threads;
  options.search = arguments.search;
  options.keep = arguments.keep;
  options.attention = arguments.attention;
  options.stop = signals.token();
  StatusLine progress;
  options.progress = [&progress](const std::string& phase, double share) {
    progress.show(phase + " " + std::to_string(static_cast<int>(share * 100)) + " %");
  };
  QuantizedNetwork result = quantize(model.network(), crops, options);
  progress.clear();

  auto& metadata = result.network.metadata;
  metadata["quantization"] =
      std::string("post-training: weights per output channel, activations per tensor, 8 bits") +
      (arguments.attention ? "; attention per group, 8 bits" : "");
  metadata["quantization_of"] = model.fingerprint();
  metadata["quantization_data"] =
      std::to_string(crops.size()) + " crops of " + std::to_string(arguments.size) + "x" +
      std::to_string(arguments.size) + (arguments.shrink ? ", pictures made smaller before" : "");
  metadata["quantization_error"] = number_text("%.3f dB against fp32, ", result.report.psnr) +
                                   number_text("mean %.4f levels, ", result.report.mean_error) +
                                   number_text("largest %.2f", result.report.largest_error);
  metadata[kExpectedError] = number_text("%.4g", result.report.worst_mean_error);
  write_whole_file(arguments.files.output,
                   {serialise(tensors_of(result.network), metadata_of(result.network))});
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  if (!arguments.report.empty()) {
    const Json report = report_of(arguments, model.network(), result, crops.size(), seconds);
    const std::string text = report.dump(2) + "\n";
    write_whole_file(arguments.report, {std::as_bytes(std::span(text))});
  }
  std::printf("%s: %s, %.0f s\n", printable(arguments.files.output, false).c_str(),
              metadata["quantization_error"].c_str(), seconds);
  if (result.report.psnr < kUsualPsnr) {
    print_warning(arguments.files.output,
                  "enlarges these pictures far worse than fp32; expected pictures like those that "
                  "will be enlarged, such as photographs without dither and noise");
  }
  return kDone;
}

}  // namespace

Action setup_quantize(CommandLine& line) {
  auto arguments = std::make_shared<QuantizeArguments>();
  line.app.footer("elan-sr quantize --data photos light light_int8.safetensors");
  add_names(line.app, "--data", arguments->data,
            "a folder of pictures like those that will be enlarged; may be given again")
      ->expected(1)  // what follows is the model
      ->take_all()
      ->required();
  line.app.add_flag("--shrink", arguments->shrink,
                    "the pictures are large ones: make them smaller by the model's scale first");
  add_model_to_file(line, arguments->files, "FILE",
                    "the .safetensors file to write; or the last argument");
  add_text(line.app, "--report", arguments->report, "FILE",
           "write scales, observers and errors as JSON");
  add_number(line.app, "--crops", arguments->crops, {1, 1024},
             "pieces of pictures to look at (default: 64)");
  add_number(line.app, "--size", arguments->size, {16, 512}, "their side in pixels (default: 64)");
  add_number(line.app, "--search", arguments->search, {0, 1024},
             "activations for which every observer is tried on the whole network (default: 10)");
  add_number(line.app, "--keep", arguments->keep, {0, 1024},
             "matrices to leave in floating point: the most sensitive ones (default: 4)");
  line.app.add_flag("--attention", arguments->attention,
                    "q, v and the softmax in 8 bits too, not only the matrices");
  add_number(line.app, "--seed", arguments->seed, {0, 1 << 20},
             "another selection of pieces (default: 1)");
  add_number(line.app, "--threads", arguments->threads, {0, 4096},
             "CPU threads (default: 0, every core)");
  return [arguments, &line] { return quantize_model(*arguments, line.operands); };
}

}  // namespace elan::cli
