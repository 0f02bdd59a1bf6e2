// elan-sr export: a model as an ONNX graph, for other runtimes.
#include "onnx/export.h"

#include <charconv>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "arguments.h"
#include "command.h"
#include "elan/error.h"
#include "elan/model.h"
#include "models.h"

namespace elan::cli {
namespace {

struct ExportOptions {
  std::string model, output, size, padding = "inside", precision, plan;
  int scale = 0;
  bool plugins = false;
};

std::optional<int> side(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1) return std::nullopt;
  return value;
}

PictureSize parse_size(const std::string& text) {
  const auto cross = text.find('x');
  if (cross != std::string::npos) {
    const auto width = side(std::string_view(text).substr(0, cross));
    const auto height = side(std::string_view(text).substr(cross + 1));
    if (width && height) return {*width, *height};
  }
  throw Error(ErrorKind::usage,
              "--size: expected WIDTHxHEIGHT in pixels, for example 320x180, found " + text);
}

// All but the precision.
OnnxOptions onnx_options(const ExportOptions& options) {
  if (!options.precision.empty() && !options.plan.empty()) {
    throw Error(ErrorKind::usage, "--precision and --plan contradict each other: give one");
  }
  OnnxOptions result;
  if (!options.size.empty()) result.size = parse_size(options.size);
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
  export_onnx(model, onnx, options.output);
}
#else
void write(const Model&, const ExportOptions&, const OnnxOptions&) {
  throw Error(ErrorKind::usage,
              "export: this program was built without ONNX; building it where libonnx-dev and "
              "libprotobuf-dev are installed adds it");
}
#endif

int export_model(ExportOptions options, const std::vector<std::string>& operands) {
  for (const std::string& operand : operands) {
    if (options.model.empty()) {
      options.model = operand;
    } else if (options.output.empty()) {
      options.output = operand;
    } else {
      throw Error(ErrorKind::usage, "export: expected a model and an output, found " + operand);
    }
  }
  if (options.output.empty()) {
    throw Error(ErrorKind::usage, "export: expected a model and an output, such as " +
                                      std::string("elan-sr export light light.onnx"));
  }
  const OnnxOptions onnx = onnx_options(options);
  const ModelChoice choice = choose_model(options.model, options.scale);
  const Model model =
      Model::load(choice.file.empty() ? choice.by_scale.at(choice.scale) : choice.file);
  if (choice.scale != 0 && model.scale() != choice.scale) {
    throw Error(ErrorKind::usage, "--scale: expected " + std::to_string(model.scale()) +
                                      ", the model's, found " + std::to_string(choice.scale));
  }
  write(model, options, onnx);
  return kDone;
}

}  // namespace

Action setup_export(CommandLine& line) {
  auto options = std::make_shared<ExportOptions>();
  line.takes_operands = true;
  line.app.footer(
      "elan-sr export light light.onnx                     any size\n"
      "elan-sr export light hd.onnx --size 1280x720 -p fp16    one size, half precision\n"
      "elan-sr export light-int8 int8.onnx                 explicit quantisation");
  add_text(line.app, "-m,--model", options->model, "MODEL",
           "a .safetensors file or the name of a shipped model; or the first argument");
  add_text(line.app, "-o,--output", options->output, "FILE",
           "the ONNX file to write; or the last argument");
  add_number(line.app, "-s,--scale", options->scale, {2, 4},
             "which of a shipped model's scales; default 4");
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
