#include "tensorrt_faults.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include "cuda/device.h"
#include "elan/error.h"
#include "elan/model.h"
#include "model/reference.h"
#include "tensorrt/flavour.h"
#include "tensorrt/plan_file.h"
#include "tensorrt/tensorrt_backend.h"

namespace elan {
namespace {

namespace fs = std::filesystem;
using namespace tensorrt;

BuildOptions plugin_options() {
  BuildOptions options;
  options.plugins = true;
  options.effort = 0;
  options.profile = {{16, 16}, {48, 32}, {64, 64}, 1};
  return options;
}

void run(Backend& backend, int scale, int width, int height) {
  const std::vector<float> in(std::size_t{3} * width * height, 100.F);
  std::vector<float> out(in.size() * static_cast<std::size_t>(scale) * scale);
  const ConstImageView from = view_of(in.data(), width, height);
  const ImageView to = view_of(out.data(), width * scale, height * scale);
  backend.run({&from, 1}, {&to, 1}, RunContext{});
}

void flip_byte(const fs::path& path, std::uintmax_t at) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(static_cast<std::streamoff>(at));
  const int before = file.get();
  file.seekp(static_cast<std::streamoff>(at));
  file.put(static_cast<char>(before ^ 0x55));
}

class Faults {
 public:
  Faults(const std::string& model, const std::string& other, const fs::path& folder)
      : model_(Model::load(model)), other_(Model::load(other)), folder_(folder) {}

  int check() {
    missing_plugins();
    plan_ = folder_ / "faults.plan";
    good("built and run", 0, [&] {
      build_engine(model_, plugin_options(), plan_, 0, context());
      run(*load(), model_.scale(), 48, 32);
    });
    plans();
    caches();
    return failed_;
  }

 private:
  BuildContext context() {
    BuildContext c;
    c.warning = [this](const std::string& text) { warnings_.push_back(text); };
    return c;
  }
  std::unique_ptr<Backend> load() {
    return make_tensorrt_backend(model_, {plan_, {}, 0}, context());
  }
  std::unique_ptr<Backend> cached() {
    return make_tensorrt_backend(model_, {{}, plugin_options(), 0}, context());
  }

  void say(const char* name, bool as_wanted, const std::string& text) {
    std::printf("%-9s %-28s %s\n", as_wanted ? "as wanted" : "NOT", name, text.c_str());
    std::fflush(stdout);
    if (!as_wanted) ++failed_;
  }
  void bad(const char* name, ErrorKind kind, const std::function<void()>& work) {
    try {
      work();
      say(name, false, "no error");
    } catch (const Error& error) {
      say(name, error.kind() == kind,
          (error.kind() == ErrorKind::model ? "model: " : "device: ") + std::string(error.what()));
    }
  }
  void good(const char* name, std::size_t warnings, const std::function<void()>& work) {
    warnings_.clear();
    try {
      work();
      say(name, warnings_.size() == warnings, warnings_.empty() ? "" : "warning: " + warnings_[0]);
    } catch (const Error& error) {
      say(name, false, error.what());
    }
  }

  // First of all: a library once loaded stays.
  void missing_plugins() {
    const char* set = std::getenv("ELANSR_TENSORRT_PLUGINS");
    const std::string before = set != nullptr ? set : "";
    const auto build = [&] {
      build_engine(model_, plugin_options(), folder_ / "none.plan", 0, context());
    };
    setenv("ELANSR_TENSORRT_PLUGINS", "/nowhere/plugins.so", 1);
    bad("no plugin library", ErrorKind::device, build);
    const fs::path text = folder_ / "text.so";
    std::ofstream(text) << "not a library\n";
    setenv("ELANSR_TENSORRT_PLUGINS", text.c_str(), 1);
    bad("plugin library is none", ErrorKind::device, build);
    if (set != nullptr) {
      setenv("ELANSR_TENSORRT_PLUGINS", before.c_str(), 1);
    } else {
      unsetenv("ELANSR_TENSORRT_PLUGINS");
    }
  }

  void plans() {
    bad("larger than the profile", ErrorKind::model, [&] { run(*load(), model_.scale(), 80, 32); });
    bad("another model's plan", ErrorKind::model,
        [&] { make_tensorrt_backend(other_, {plan_, {}, 0}, context()); });
    const PlanFile intact = read_plan(plan_);
    const auto described = [&](const std::string& line, const std::string& value) {
      PlanFile file = intact;
      const std::size_t at = file.description.find(line + ": ");
      const std::size_t end = file.description.find('\n', at);
      file.description.replace(at, end - at, line + ": " + value);
      write_plan(plan_, file);
      load();
    };
    bad("another GPU's", ErrorKind::model, [&] { described("gpu", "NVIDIA A10, sm_86"); });
    bad("another TensorRT's", ErrorKind::model, [&] { described("tensorrt", "10 10.16.0"); });
    bad("another recipe's", ErrorKind::model, [&] { described("recipe", "1"); });
    PlanFile cut = intact;
    cut.plan.resize(cut.plan.size() / 2);
    write_plan(plan_, cut);
    bad("cut, behind a good header", ErrorKind::model, [&] { load(); });
    write_plan(plan_, intact);
    flip_byte(plan_, fs::file_size(plan_) / 2);
    bad("damaged", ErrorKind::model, [&] { load(); });
  }

  void caches() {
    good("into the cache", 0, [&] { run(*cached(), model_.scale(), 48, 32); });
    const std::vector<fs::path> files{fs::directory_iterator(cache_folder()), {}};
    for (const fs::path& path : files) {
      if (path.extension() == ".plan") newest_ = later(newest_, path);
      if (path.extension() == ".cache") timing_ = path;
    }
    flip_byte(newest_, fs::file_size(newest_) / 2);
    good("damaged plan in the cache", 1, [&] { run(*cached(), model_.scale(), 48, 32); });
    flip_byte(timing_, fs::file_size(timing_) / 2);
    good("damaged timing cache", 1, [&] {
      BuildContext again = context();
      again.again = true;
      build_engine(model_, plugin_options(), {}, 0, again);
    });
    write_plan(timing_, {"timing\n", std::vector<std::byte>(1000, std::byte{7})});
    good("senseless timing cache", 0, [&] {
      BuildContext again = context();
      again.again = true;
      build_engine(model_, plugin_options(), {}, 0, again);
    });
  }
  static fs::path later(const fs::path& a, const fs::path& b) {
    return a.empty() || fs::last_write_time(a) < fs::last_write_time(b) ? b : a;
  }

  Model model_, other_;
  fs::path folder_, plan_, newest_, timing_;
  std::vector<std::string> warnings_;
  int failed_ = 0;
};

// Largest difference to the reflection by which we pad: to multiples of 16, right and below.
double padding_error(RunningEngine& engine, const PictureSize& size) {
  const PictureSize padded{(size.width + 15) / 16 * 16, (size.height + 15) / 16 * 16};
  std::vector<float> in, out(std::size_t{3} * padded.width * padded.height);
  for (int i = 0; i < 3 * size.width * size.height; ++i) in.push_back(static_cast<float>(i));
  cuda::DeviceBuffer from, to;
  from.reserve(in.size() * sizeof(float));
  to.reserve(out.size() * sizeof(float));
  const cuda::Stream stream;
  ELAN_CUDA(cudaMemcpy(from.data(), in.data(), in.size() * sizeof(float), cudaMemcpyDefault));
  engine.enqueue(reinterpret_cast<const float*>(from.data()), reinterpret_cast<float*>(to.data()),
                 1, size.height, size.width, stream.get());
  ELAN_CUDA(cudaStreamSynchronize(stream.get()));
  ELAN_CUDA(cudaMemcpy(out.data(), to.data(), out.size() * sizeof(float), cudaMemcpyDefault));
  double worst = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int row = static_cast<int>(i) / padded.width;
    const int x = reflect(static_cast<int>(i) % padded.width, size.width);
    const int y = reflect(row % padded.height, size.height);
    const int wanted = (row / padded.height * size.height + y) * size.width + x;
    worst = std::max(worst, std::abs(out[i] - static_cast<double>(wanted)));
  }
  return worst;
}

}  // namespace

int check_faults(const std::string& model, const std::string& other, const std::string& folder) {
  // Caches get damaged: those of a folder of its own, not the user's.
  const fs::path own = fs::path(folder) / "faults-cache";
  fs::remove_all(own);
  setenv("XDG_CACHE_HOME", fs::absolute(own).c_str(), 1);
  return Faults(model, other, folder).check();
}

void check_graphs(const std::vector<std::string>& files) {
  const std::unique_ptr<Flavour> flavour = make_flavour(open_library(compiled_flavours()));
  for (const std::string& name : files) {
    std::ifstream in(name, std::ios::binary);
    BuildInput input;
    input.onnx.assign(std::istreambuf_iterator<char>(in), {});
    input.options.precision = Precision::fp32;
    input.options.profile = {{1, 1}, {304, 208}, {512, 512}, 1};
    std::vector<PictureSize> sizes{{30, 17}, {1, 1}, {100, 33}};
    if (input.onnx.find("height") == std::string::npos) {
      sizes = {{1, 1}};
      if (name.find("30x17") != std::string::npos) sizes = {{30, 17}};
      input.options.profile = {sizes[0], sizes[0], sizes[0], 1};
    }
    try {
      const std::vector<std::byte> plan = flavour->build(input);
      const std::unique_ptr<RunningEngine> engine = flavour->load(plan, {});
      std::printf("%-40s builds;", name.c_str());
      for (const PictureSize& size : sizes) {
        std::printf(" %dx%d off by %g;", size.width, size.height, padding_error(*engine, size));
        std::fflush(stdout);
      }
      std::printf("\n");
    } catch (const Error& error) {
      std::printf("%-40s %s\n", name.c_str(), error.what());
    }
    std::fflush(stdout);
  }
}

}  // namespace elan
