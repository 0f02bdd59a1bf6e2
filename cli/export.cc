// elan-sr export: a model as an ONNX graph, for other runtimes.
#include "onnx/export.h"

#include <memory>
#include <string>

#include "arguments.h"
#include "command.h"
#include "elan/error.h"
#include "elan/model.h"
#include "models.h"

namespace elan::cli {
namespace {

struct ExportOptions {
  ModelToFile files;
  std::string size, padding = "inside", precision = "fp32";
  bool plugins = false;
};

OnnxOptions onnx_options(const ExportOptions& options) {
  OnnxOptions result;
  if (!options.size.empty()) result.size = parse_picture_size("--size", options.size);
  if (options.padding != "inside" && options.padding != "outside") {
    throw Error(ErrorKind::usage,
                "--padding: expected inside or outside, found " + options.padding);
  }
  result.padding = options.padding == "inside";
  result.precision = parse_precision(options.precision);
  result.plugins = options.plugins;
  return result;
}

#ifdef ELANSR_HAS_ONNX
void write(const Model& model, const OnnxOptions& options, const std::string& path) {
  export_onnx(model, options, path);
}
#else
void write(const Model&, const OnnxOptions&, const std::string&) {
  throw Error(ErrorKind::usage,
              "export: this program was built without ONNX; building it where libonnx-dev and "
              "libprotobuf-dev are installed adds it");
}
#endif

int export_model(ExportOptions options, const std::vector<std::string>& operands) {
  constexpr const char* kExpected = "export: expected a model and an output";
  take_operands(options.files, operands, kExpected);
  if (options.files.output.empty()) {
    throw Error(ErrorKind::usage,
                std::string(kExpected) + ", such as elan-sr export light light.onnx");
  }
  [[maybe_unused]] const OnnxOptions onnx = onnx_options(options);  // checked in every build
  write(choose_model(options.files.model, options.files.scale).load(), onnx, options.files.output);
  return kDone;
}

}  // namespace

Action setup_export(CommandLine& line) {
  auto options = std::make_shared<ExportOptions>();
  line.app.footer(
      "elan-sr export light light.onnx                     any size\n"
      "elan-sr export light hd.onnx --size 1280x720 -p fp16    one size, half precision");
  add_model_to_file(line, options->files, "FILE", "the ONNX file to write; or the last argument");
  add_text(line.app, "--size", options->size, "WxH",
           "fix the input's size in pixels; default: dynamic batch, height and width");
  add_text(line.app, "--padding", options->padding, "WHERE",
           "inside: in the graph, any size; outside: the caller pads to multiples of 16 and crops; "
           "default inside");
  add_text(line.app, "-p,--precision", options->precision, "NAME",
           "fp32, or fp16: half-precision branches on an FP32 residual stream; default fp32");
  line.app.add_flag("--plugins", options->plugins,
                    "one ElanLFE or ElanGMSA node for each module, for runtimes that have them");
  return [options, &line] { return export_model(*options, line.operands); };
}

}  // namespace elan::cli
