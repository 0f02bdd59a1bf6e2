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
  std::string size, padding = "inside", precision, plan;
  bool plugins = false;
};

// All but the precision.
OnnxOptions onnx_options(const ExportOptions& options) {
  if (!options.precision.empty() && !options.plan.empty()) {
    throw Error(ErrorKind::usage, "--precision and --plan contradict each other: give one");
  }
  OnnxOptions result;
  if (!options.size.empty()) result.size = parse_picture_size("--size", options.size);
  if (options.padding != "inside" && options.padding != "outside") {
    throw Error(ErrorKind::usage,
                "--padding: expected inside or outside, found " + options.padding);
  }
  result.padding = options.padding == "inside";
  result.plugins = options.plugins;
  return result;
}

#ifdef ELANSR_HAS_ONNX
void write(const Model& model, const ExportOptions& options, OnnxOptions onnx) {
  onnx.precision =
      options.precision.empty() ? natural_precision(model) : parse_precision(options.precision);
  if (!options.plan.empty()) {
    const std::string path = options.plan.starts_with('{') ? "./" + options.plan : options.plan;
    onnx.precision = PrecisionPlan::read(path, natural_precision(model));
  }
  export_onnx(model, onnx, options.files.output);
}
#else
void write(const Model&, const ExportOptions&, const OnnxOptions&) {
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
  const OnnxOptions onnx = onnx_options(options);
  write(choose_model(options.files.model, options.files.scale).load(), options, onnx);
  return kDone;
}

}  // namespace

Action setup_export(CommandLine& line) {
  auto options = std::make_shared<ExportOptions>();
  line.app.footer(
      "elan-sr export light light.onnx                     any size\n"
      "elan-sr export light hd.onnx --size 1280x720 -p fp16    one size, half precision\n"
      "elan-sr export light-int8 int8.onnx                 explicit quantisation");
  add_model_to_file(line, options->files, "FILE", "the ONNX file to write; or the last argument");
  add_text(line.app, "--size", options->size, "WxH",
           "fix the input's size in pixels; default: dynamic batch, height and width");
  add_text(line.app, "--padding", options->padding, "WHERE",
           "inside: in the graph, any size; outside: the caller pads to multiples of 16 and crops; "
           "default inside");
  add_text(
      line.app, "-p,--precision", options->precision, "NAME",
      "fp32; fp16: half-precision branches on an FP32 residual stream; int8 or fp8: a model in 8 "
      "bits with its scales; default int8 for such a model, else fp32");
  add_text(line.app, "--plan", options->plan, "FILE",
           "a precision for each operation, as JSON, instead of one for all");
  line.app.add_flag("--plugins", options->plugins,
                    "one ElanLFE or ElanGMSA node for each module, for runtimes that have them");
  return [options, &line] { return export_model(*options, line.operands); };
}

}  // namespace elan::cli
