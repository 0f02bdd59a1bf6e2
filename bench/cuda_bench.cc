// Times the CUDA backend: device to device by events, host to host by the clock.
//
//   cuda-bench [--json FILE] [--models DIR] [--repeats N] [--only TEXT] [--profile]
//              [--plan MODEL=FILE]... [--picture FILE]
//
// A line per model, precision or plan, size and batch; medians. TFLOP/s count the network's own
// work. Pictures are noise, or a binary PPM file repeated until they are full: noise spreads
// attention's logits wider than pictures do, so the 16-bit softmax raises its references far more
// often. What is compared with one another takes turns.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "cuda/cuda_backend.h"
#include "cuda/device.h"
#include "elan/error.h"
#include "elan/version.h"
#include "model/describe.h"
#include "support/ppm.h"

namespace elan {
namespace {

struct Job {
  std::string model;
  Precision precision;
  int width, height, batch;
  std::string plan = {};  // a file; empty: all in one precision

  [[nodiscard]] std::string arithmetic() const {
    return plan.empty() ? std::string(to_string(precision))
                        : std::filesystem::path(plan).stem().string();
  }
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[v.size() / 2];
}

class Bench {
 public:
  Bench(std::string models, int repeats, const std::string& picture)
      : models_(std::move(models)), repeats_(repeats) {
    if (!picture.empty()) picture_ = test::read_ppm(picture);
  }

  void run(const Job& job, bool show_profile) {
    if (model_name_ != job.model || backend_ == nullptr || arithmetic_ != job.arithmetic()) {
      backend_.reset();
      if (model_name_ != job.model) {
        model_.emplace_back(Model::load(models_ + "/" + job.model + ".safetensors"));
      }
      model_name_ = job.model;
      arithmetic_ = job.arithmetic();
      PrecisionPlan plan(job.precision);
      if (!job.plan.empty()) plan = PrecisionPlan::read(job.plan, job.precision);
      plan.check(model_.back().architecture());
      backend_ = make_cuda_backend(model_.back().shared_network(), plan, 0);
    }
    const int s = model_.back().scale();
    const std::size_t in_bytes = static_cast<std::size_t>(job.width) * job.height * 3 * job.batch;
    std::vector<std::uint8_t> in(in_bytes), out(in_bytes * s * s);
    draw(job, in);
    cuda::DeviceBuffer device_in(in.size()), device_out(out.size());
    ELAN_CUDA(cudaMemcpy(device_in.data(), in.data(), in.size(), cudaMemcpyHostToDevice));
    ELAN_CUDA(cudaDeviceSynchronize());  // streams do not wait for the default one
    DevicePictures p;
    p.input = device_in.data();
    p.output = device_out.data();
    p.width = job.width;
    p.height = job.height;
    p.batch = job.batch;

    const bool main_size = job.batch == 1 && job.width == 206;
    // A hundred passes of what is reported first.
    const double most_ms = main_size || job.width == 1920 ? 2700 : 500;
    Series series[] = {{device_pass(p, Launch::graph), most_ms, 2},
                       {device_pass(p, Launch::plain), most_ms, 2},
                       {host_pass(job, in, out), 700, 1}};
    take_turns(series);
    const double graph = median(series[0].times), plain = median(series[1].times);
    const double host = median(series[2].times);
    const double pixels =
        static_cast<double>((job.width + 15) / 16 * 16) * ((job.height + 15) / 16 * 16) * job.batch;
    const double tflops =
        2 * multiply_adds_per_pixel(model_.back().architecture()) * pixels / graph / 1e9;
    const double pictures = 1000 * job.batch / graph;
    const double in_flight = main_size ? time_in_flight(job, in) : 0;
    const FirstRuns first = main_size ? time_first_runs(job, in, out) : FirstRuns{};
    char line[720];
    std::snprintf(
        line, sizeof line,
        R"({"model": "%s", "precision": "%s", "path": "%s", "width": %d, "height": %d, "batch": %d, "graph_ms": %.4f, "plain_ms": %.4f, "host_ms": %.4f, "in_flight_ms": %.4f, "new_shape_ms": [%.4f, %.4f, %.4f], "tflops": %.1f, "ns_per_pixel": %.2f, "pictures_per_second": %.2f, "arena_mb": %.1f)",
        job.model.c_str(), job.arithmetic().c_str(),
        backend_->description().find("hopper") == std::string::npos ? "portable" : "hopper",
        job.width, job.height, job.batch, graph, plain, host, in_flight, first.ms[0], first.ms[1],
        first.ms[2], tflops,
        graph * 1e6 / (static_cast<double>(job.width) * job.height * job.batch), pictures,
        static_cast<double>(backend_->arena_bytes()) / 1e6);
    std::printf(
        "%-14s %-5s %4dx%-4d b%d  graph %8.3f ms  plain %8.3f  host %8.3f  %6.1f TFLOP/s  %7.2f "
        "ns/px  %7.1f pictures/s  arena %.1f MB\n",
        job.model.c_str(), job.arithmetic().c_str(), job.width, job.height, job.batch, graph, plain,
        host, tflops, graph * 1e6 / (static_cast<double>(job.width) * job.height * job.batch),
        pictures, static_cast<double>(backend_->arena_bytes()) / 1e6);
    if (in_flight > 0) {
      std::printf("    host to host with three in flight: %.3f ms a picture, device busy %.0f %%\n",
                  in_flight, 100 * graph / in_flight);
      std::printf("    a new shape, host to host: first %.3f ms, second %.3f, third %.3f\n",
                  first.ms[0], first.ms[1], first.ms[2]);
    }
    std::fflush(stdout);
    lines_.emplace_back(line);
    lines_.back() += show_profile ? R"(, "operations": [)" + profile(p) + "]}" : "}";
  }

  void write(const std::string& path) const {
    std::ofstream file(path);
    file << "{\"device\": \"" << cuda_status() << "\", \"version\": \"" << version()
         << "\", \"commit\": \"" << commit() << "\", \"times\": [\n";
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      file << lines_[i] << (i + 1 < lines_.size() ? ",\n" : "\n");
    }
    file << "]}\n";
  }

 private:
  void draw(const Job& job, std::vector<std::uint8_t>& to) const {
    if (picture_.rgb.empty()) {
      std::mt19937 random(3);
      for (auto& v : to) v = static_cast<std::uint8_t>(random());
      return;
    }
    for (std::size_t i = 0; i < to.size(); ++i) {
      const auto pixel =
          static_cast<int>(i / 3 % (static_cast<std::size_t>(job.width) * job.height));
      const int x = pixel % job.width % picture_.width, y = pixel / job.width % picture_.height;
      to[i] = picture_.rgb[(static_cast<std::size_t>(y) * picture_.width + x) * 3 + i % 3];
    }
  }

  // Things to time, a few passes of each in turn: a clock that drifts changes all alike.
  struct Series {
    std::function<double()> pass;  // returns its milliseconds
    double most_ms;                // in all
    int least;                     // passes in a round, however long they take
    std::vector<double> times = {};
  };
  void take_turns(std::span<Series> all) const {
    constexpr int kRounds = 5;
    const int most = (repeats_ + kRounds - 1) / kRounds;
    for (int round = 0; round < kRounds; ++round) {
      for (Series& series : all) {
        pass_times(series, round == 0 ? 10 : 1, 100);  // for clocks and caches: these do not count
        const std::vector<double> times = pass_times(series, most, series.most_ms / kRounds);
        series.times.insert(series.times.end(), times.begin(), times.end());
      }
    }
  }
  // Of at most so many passes, none of which but the series' least begins after so long.
  static std::vector<double> pass_times(const Series& series, int most, double most_ms) {
    std::vector<double> times;
    double spent = 0;
    for (int i = 0; i < most && (i < series.least || spent < most_ms); ++i) {
      times.push_back(series.pass());
      spent += times.back();
    }
    return times;
  }

  // Device to device.
  std::function<double()> device_pass(const DevicePictures& p, Launch launch) {
    return [this, p, launch] {
      from_.record(stream_.get());
      backend_->enqueue(p, stream_.get(), launch);
      to_.record(stream_.get());
      stream_.wait();
      return to_.since(from_);
    };
  }

  // Host to host.
  std::function<double()> host_pass(const Job& job, const std::vector<std::uint8_t>& in,
                                    std::vector<std::uint8_t>& out) {
    const int s = model_.back().scale();
    const std::size_t one = in.size() / job.batch;
    std::vector<ConstImageView> from;
    std::vector<ImageView> to;
    for (int i = 0; i < job.batch; ++i) {
      from.push_back(view_of(in.data() + one * i, job.width, job.height));
      to.push_back(view_of(out.data() + one * s * s * i, job.width * s, job.height * s));
    }
    return [this, from, to] {
      const auto start = std::chrono::steady_clock::now();
      backend_->run(from, to, {});
      return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
          .count();
    };
  }

  // Medians over shapes that were not seen before, host to host: the first picture is launched
  // kernel by kernel, the second captured, the third replayed. All are padded to the same size.
  struct FirstRuns {
    double ms[3] = {};
  };
  FirstRuns time_first_runs(const Job& job, const std::vector<std::uint8_t>& in,
                            std::vector<std::uint8_t>& out) {
    const int s = model_.back().scale();
    std::vector<double> times[3];
    for (int width = job.width - 1; width >= job.width - 9; --width) {
      const ConstImageView from = view_of(in.data(), width, job.height);
      const ImageView to = view_of(out.data(), width * s, job.height * s);
      for (auto& t : times) {
        const auto start = std::chrono::steady_clock::now();
        backend_->run({&from, 1}, {&to, 1}, {});
        t.push_back(
            std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
                .count());
      }
    }
    return {{median(times[0]), median(times[1]), median(times[2])}};
  }

  // Milliseconds a picture, host to host, while three threads hand them in.
  double time_in_flight(const Job& job, const std::vector<std::uint8_t>& in) {
    constexpr int kThreads = 3, kRuns = 40;
    const int s = model_.back().scale();
    std::chrono::steady_clock::time_point start;
    for (const bool warm : {false, true}) {
      start = std::chrono::steady_clock::now();
      std::vector<std::jthread> threads;
      for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([&] {
          std::vector<std::uint8_t> out(in.size() * s * s);
          const ConstImageView from = view_of(in.data(), job.width, job.height);
          const ImageView to = view_of(out.data(), job.width * s, job.height * s);
          for (int i = 0; i < (warm ? kRuns : 4); ++i) backend_->run({&from, 1}, {&to, 1}, {});
        });
      }
    }
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
               .count() /
           (kThreads * kRuns);
  }

  // Each kind of operation, with its share of the time that the hardware's rating allows.
  std::string profile(const DevicePictures& p) {
    const HardwareRating rating = backend_->rating();
    std::string json;
    for (const OperationTime& o : backend_->profile(p)) {
      const double floor = floor_seconds(o, rating.gflops, rating.gbytes_per_second);
      std::printf("    %-14s %8.4f ms  %7.1f TFLOP/s  %7.0f GB/s  %5.1f %% of the floor\n",
                  o.operation.c_str(), o.seconds * 1e3, o.flop / o.seconds / 1e12,
                  o.bytes / o.seconds / 1e9, 100 * floor / o.seconds);
      char line[200];
      std::snprintf(
          line, sizeof line,
          R"({"operation": "%s", "ms": %.5f, "tflops": %.2f, "gbytes_per_second": %.1f, "floor_ms": %.5f})",
          o.operation.c_str(), o.seconds * 1e3, o.flop / o.seconds / 1e12,
          o.bytes / o.seconds / 1e9, floor * 1e3);
      json += (json.empty() ? "" : ", ") + std::string(line);
    }
    return json;
  }

  std::string models_;
  int repeats_;
  test::Ppm picture_;  // none: noise
  std::string model_name_, arithmetic_;
  std::vector<Model> model_;
  std::unique_ptr<CudaBackend> backend_;
  cuda::Stream stream_;
  cuda::Event from_{cuda::EventKind::timed}, to_{cuda::EventKind::timed};
  std::vector<std::string> lines_;
};

}  // namespace
}  // namespace elan

int main(int argc, char** argv) {
  using elan::Precision;
  std::string json, models = ELANSR_MODELS, only, picture;
  int repeats = 200;
  bool profile = false;
  std::vector<elan::Job> jobs;
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    const auto value = [&] { return std::string(i + 1 < argc ? argv[++i] : ""); };
    if (key == "--json")
      json = value();
    else if (key == "--models")
      models = value();
    else if (key == "--only")
      only = value();
    else if (key == "--picture")
      picture = value();
    else if (key == "--repeats")
      repeats = std::max(1, std::stoi(value()));
    else if (key == "--profile")
      profile = true;
    else if (key == "--plan") {
      const std::string text = value();
      const std::size_t at = text.find('=');
      if (at == std::string::npos || at + 1 == text.size()) {
        std::fprintf(stderr, "cuda-bench: --plan: expected MODEL=FILE, found %s\n", text.c_str());
        return 2;
      }
      jobs.push_back({text.substr(0, at), Precision::fp16, 206, 292, 1, text.substr(at + 1)});
    } else {
      std::fprintf(stderr, "cuda-bench: unknown option %s\n", key.c_str());
      return 2;
    }
  }
  if (elan::cuda_device_count() == 0) {
    std::fprintf(stderr, "cuda-bench: skipped, %s\n", elan::cuda_status().c_str());
    return 77;
  }
  for (const Precision precision :
       {Precision::fp16, Precision::bf16, Precision::tf32, Precision::fp32}) {
    jobs.push_back({"elan_x4", precision, 206, 292, 1});
    jobs.push_back({"elan_light_x4", precision, 206, 292, 1});
    jobs.push_back({"elan_x4", precision, 64, 64, 1});
    jobs.push_back({"elan_light_x4", precision, 64, 64, 1});
  }
  for (const char* model : {"elan_x4", "elan_light_x4"}) {
    jobs.push_back({model, Precision::fp8, 206, 292, 1});
    jobs.push_back({model, Precision::fp8, 64, 64, 1});
  }
  for (const char* model : {"elan_int8_x4", "elan_light_int8_x4"}) {
    jobs.push_back({model, Precision::int8, 206, 292, 1});
    jobs.push_back({model, Precision::int8, 64, 64, 1});
  }
  jobs.push_back({"elan_light_x2", Precision::fp16, 1920, 1080, 1});
  jobs.push_back({"elan_light_int8_x2", Precision::int8, 1920, 1080, 1});
  for (const int batch : {2, 4, 8}) {
    jobs.push_back({"elan_x4", Precision::fp16, 206, 292, batch});
    jobs.push_back({"elan_light_x4", Precision::fp16, 206, 292, batch});
  }
  for (const int side : {128, 256, 512, 768, 1024, 1536, 2048}) {
    jobs.push_back({"elan_x4", Precision::fp16, side, side, 1});
    jobs.push_back({"elan_light_x4", Precision::fp16, side, side, 1});
  }
  std::stable_sort(jobs.begin(), jobs.end(), [](const elan::Job& a, const elan::Job& b) {
    return a.model + a.arithmetic() < b.model + b.arithmetic();
  });
  try {
    std::printf("%s\n", elan::cuda_status().c_str());
    elan::Bench bench(models, repeats, picture);
    for (const elan::Job& job : jobs) {
      const std::string text = job.model + " " + job.arithmetic() + " " +
                               std::to_string(job.width) + "x" + std::to_string(job.height) + " b" +
                               std::to_string(job.batch);
      if (text.find(only) == std::string::npos) continue;
      bench.run(job, profile);
      if (!json.empty()) bench.write(json);  // each time: it may be ended before it is done
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "cuda-bench: %s\n", e.what());
    return 1;
  }
  return 0;
}
