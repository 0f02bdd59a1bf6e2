// elan-sr build: a TensorRT engine for a model, into a file or the cache.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "arguments.h"
#include "command.h"
#include "core/whole_file.h"
#include "elan/error.h"
#include "elan/model.h"
#include "model/network.h"
#include "model/reference.h"
#include "models.h"
#include "picture/picture.h"
#include "signals.h"
#include "tensorrt/tensorrt_backend.h"
#include "tensorrt_device.h"
#include "terminal.h"
#include "test_pictures.h"

namespace elan::cli {
namespace {

struct BuildArguments {
  ModelToFile files;
  std::string precision, plan, size, least, best, most;
  std::vector<std::string> calibrate;
  int batch = 1, effort = 3, gpu = 0;
  bool plugins = false, loose = false, again = false;
};

// From (left, top) of a picture, repeated by reflection where it is smaller.
std::vector<float> planar_crop(const TestPicture& picture, int left, int top,
                               const PictureSize& size) {
  std::vector<float> values;
  for (int c = 0; c < 3; ++c) {
    for (int y = 0; y < size.height; ++y) {
      for (int x = 0; x < size.width; ++x) {
        const auto row = static_cast<std::size_t>(reflect(top + y, picture.height));
        const auto column = static_cast<std::size_t>(reflect(left + x, picture.width));
        values.push_back(picture.rgb[(row * picture.width + column) * 3 + c]);
      }
    }
  }
  return values;
}

// One crop of each of some pictures, or several of each where there are fewer.
std::shared_ptr<const tensorrt::Calibration> load_calibration(const std::vector<std::string>& names,
                                                              const PictureSize& size) {
  constexpr std::size_t kCrops = 16;
  picture::initialise(1);
  auto calibration = std::make_shared<tensorrt::Calibration>();
  const std::vector<std::filesystem::path> files = find_test_pictures(names, 0);
  const std::size_t used = std::min(files.size(), kCrops);
  for (std::size_t k = 0; k < used; ++k) {
    const TestPicture picture = load_test_picture(files[k * files.size() / used]);
    for (std::size_t n = k; n < kCrops; n += used) {
      const auto number = static_cast<unsigned>(2 * n);
      calibration->pictures.push_back(
          planar_crop(picture, spread_place(picture.width, size.width, number),
                      spread_place(picture.height, size.height, number + 1), size));
    }
  }
  return calibration;
}

// All but the precision where none is asked for, and the calibration.
tensorrt::BuildOptions build_options(const BuildArguments& a) {
  tensorrt::BuildOptions options;
  if (!a.precision.empty() && !a.plan.empty()) {
    throw Error(ErrorKind::usage, "--precision and --plan contradict each other: give one");
  }
  if (!a.precision.empty()) options.precision = parse_precision(a.precision);
  if (!a.plan.empty()) {
    options.precision =
        PrecisionPlan::read(a.plan.starts_with('{') ? "./" + a.plan : a.plan, Precision::fp16);
  }
  if (!a.calibrate.empty()) {
    if (!a.plan.empty() || (!a.precision.empty() && a.precision != "int8")) {
      throw Error(ErrorKind::usage, "--calibrate: expected precision int8 and no plan, found " +
                                        (a.plan.empty() ? a.precision : a.plan));
    }
    options.precision = Precision::int8;
  }
  options.plugins = a.plugins;
  options.loose = a.loose;
  options.effort = a.effort;
  options.profile.batch = a.batch;
  const bool ranged = !a.least.empty() || !a.best.empty() || !a.most.empty();
  if (!a.size.empty() && ranged) {
    throw Error(ErrorKind::usage, "--size and --min, --opt, --max contradict each other");
  }
  if (!a.size.empty()) {
    const PictureSize size = parse_picture_size("--size", a.size);
    options.profile = {size, size, size, a.batch};
  }
  if (!a.least.empty()) options.profile.least = parse_picture_size("--min", a.least);
  if (!a.best.empty()) options.profile.best = parse_picture_size("--opt", a.best);
  if (!a.most.empty()) options.profile.most = parse_picture_size("--max", a.most);
  tensorrt::check(options);
  return options;
}

int build(BuildArguments a, const std::vector<std::string>& operands) {
  take_operands(a.files, operands, "build: expected a model and an engine file");
  const std::string& output = a.files.output;
  if (!output.empty() && !output.ends_with(".plan")) {
    throw Error(ErrorKind::usage, "--output: expected a name that ends in .plan, found " + output);
  }
  tensorrt::BuildOptions options = build_options(a);
  // A folder that is not there yet is made in the end.
  const std::filesystem::path folder = std::filesystem::path(output).parent_path();
  if (!output.empty() && (folder.empty() || std::filesystem::exists(folder))) {
    expect_writable(output);
  }
  const Model model = choose_model(a.files.model, a.files.scale).load();
  if (a.precision.empty() && a.plan.empty() && model.network().quantized()) {
    options.precision = Precision::int8;
  }
  if (!a.calibrate.empty()) {
    options.calibration =
        load_calibration(a.calibrate, tensorrt::calibration_size(options.profile));
  }
  const SignalGuard signals;
  tensorrt::Built built;
  try {
    BuildDisplay display;
    tensorrt::BuildContext context = display.context();
    context.stop = signals.token();
    context.again = a.again;
    built = tensorrt::build_engine(model, options, output, a.gpu, context);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::cancelled || signals.received() == 0) throw;
    return kSignal + signals.received();
  }
  std::printf("%s%s  %.1f MB, %s\n", built.description.c_str(), built.path.c_str(),
              static_cast<double>(built.bytes) / 1e6,
              built.seconds > 0
                  ? ("built in " + std::to_string(std::lround(built.seconds)) + " s").c_str()
                  : "was there already");
  return kDone;
}

}  // namespace

Action setup_build(CommandLine& line) {
  auto a = std::make_shared<BuildArguments>();
  line.app.footer(
      "elan-sr build light                                   any size up to 1024x1024, for -d "
      "tensorrt\n"
      "elan-sr build full hd.plan --size 1280x720 --plugins  one size, with this project's "
      "kernels\n"
      "elan-sr upscale -d tensorrt:hd.plan -i in.png -o out.png");
  add_model_to_file(
      line, a->files, "FILE.plan",
      "the engine to write; or the last argument; default: the cache that -d tensorrt reads");
  add_text(line.app, "-p,--precision", a->precision, "NAME",
           "fp32, tf32; fp16: half-precision branches on an FP32 residual stream; int8 or fp8: a "
           "model in 8 bits with its scales; default int8 for such a model, else fp16");
  add_text(line.app, "--plan", a->plan, "FILE",
           "a precision for each operation, as JSON, instead of one for all");
  add_names(line.app, "--calibrate", a->calibrate,
            "TensorRT 8.6: int8 with scales that it finds on these pictures, files or folders");
  add_text(line.app, "--size", a->size, "WxH", "build for one size in pixels");
  add_text(line.app, "--min", a->least, "WxH", "smallest size; default 1x1");
  add_text(line.app, "--opt", a->best, "WxH", "size to be fastest at; default 304x208");
  add_text(line.app, "--max", a->most, "WxH", "largest size; default 1024x1024");
  add_number(line.app, "--batch", a->batch, {1, 256}, "pictures in one pass, at most; default 1");
  add_number(line.app, "--effort", a->effort, {0, 5},
             "how much the builder tries: less builds sooner; default 3");
  line.app.add_flag("--plugins", a->plugins, "compute the body with this project's kernels");
  line.app.add_flag("--loose", a->loose,
                    "TensorRT 8.6: let it compute anything in FP16, not the branches alone; also "
                    "beside int8");
  add_number(line.app, "-g,--gpu", a->gpu, {0, 255}, "GPU by number; default 0");
  line.app.add_flag("--again", a->again, "build even if the cache has the engine");
  return [a, &line] { return build(*a, line.operands); };
}

}  // namespace elan::cli
