// Times the CUDA backend: device to device by events, host to host by the clock.
//
//   cuda-bench [--json FILE] [--models DIR] [--repeats N] [--only TEXT] [--profile]
//
// A line per model, precision, size and batch; medians. TFLOP/s count the network's own work.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "cuda/cuda_backend.h"
#include "cuda/device.h"
#include "elan/error.h"
#include "model/network.h"

namespace elan {
namespace {

struct Job {
  const char* model;
  Precision precision;
  int width, height, batch;
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[v.size() / 2];
}

// Multiply-adds of the network for one padded pixel.
double work_per_pixel(const Network& net) {
  const double c = net.arch.channels, s = net.arch.scale;
  double n = 27 * c + 27 * s * s * c;
  for (const Elab& elab : net.body) {
    for (std::size_t j = 0; j < elab.lfe.size(); ++j) {
      n += 2.0 * elab.lfe[j].conv0.in * elab.lfe[j].conv0.out;
      n += static_cast<double>(elab.gmsa[j].project_inp.in) * elab.gmsa[j].project_inp.out + c * c;
      n += (elab.gmsa[j].computes_attention ? 2 : 1) * 336 * c / 3;
    }
  }
  return n;
}

class Bench {
 public:
  Bench(std::string models, int repeats) : models_(std::move(models)), repeats_(repeats) {}

  void run(const Job& job, bool profile) {
    if (model_name_ != job.model || backend_ == nullptr || backend_->precision() != job.precision) {
      backend_.reset();
      if (model_name_ != job.model) {
        model_.emplace_back(Model::load(models_ + "/" + job.model + ".safetensors"));
      }
      model_name_ = job.model;
      backend_ = make_cuda_backend(model_.back().shared_network(), job.precision, 0);
    }
    const int s = model_.back().scale();
    const std::size_t in_bytes = static_cast<std::size_t>(job.width) * job.height * 3 * job.batch;
    std::vector<std::uint8_t> in(in_bytes), out(in_bytes * s * s);
    std::mt19937 random(3);
    for (auto& v : in) v = static_cast<std::uint8_t>(random());
    cuda::DeviceBuffer device_in(in.size()), device_out(out.size());
    ELAN_CUDA(cudaMemcpy(device_in.data(), in.data(), in.size(), cudaMemcpyHostToDevice));
    DevicePictures p;
    p.input = device_in.data();
    p.output = device_out.data();
    p.width = job.width;
    p.height = job.height;
    p.batch = job.batch;

    const double graph = time_device(p, true), plain = time_device(p, false);
    const double host = time_host(job, in, out);
    const double pixels =
        static_cast<double>((job.width + 15) / 16 * 16) * ((job.height + 15) / 16 * 16) * job.batch;
    const double tflops = 2 * work_per_pixel(model_.back().network()) * pixels / graph / 1e9;
    char line[512];
    std::snprintf(
        line, sizeof line,
        R"({"model": "%s", "precision": "%s", "width": %d, "height": %d, "batch": %d, "graph_ms": %.4f, "plain_ms": %.4f, "host_ms": %.4f, "tflops": %.1f, "ns_per_pixel": %.2f, "arena_mb": %.1f})",
        job.model, std::string(to_string(job.precision)).c_str(), job.width, job.height, job.batch,
        graph, plain, host, tflops,
        graph * 1e6 / (static_cast<double>(job.width) * job.height * job.batch),
        static_cast<double>(backend_->arena_bytes()) / 1e6);
    std::printf(
        "%-14s %-5s %4dx%-4d b%d  graph %8.3f ms  plain %8.3f  host %8.3f  %6.1f TFLOP/s  %7.2f "
        "ns/px  arena %.1f MB\n",
        job.model, std::string(to_string(job.precision)).c_str(), job.width, job.height, job.batch,
        graph, plain, host, tflops,
        graph * 1e6 / (static_cast<double>(job.width) * job.height * job.batch),
        static_cast<double>(backend_->arena_bytes()) / 1e6);
    std::fflush(stdout);
    lines_.emplace_back(line);
    if (profile) show_profile(p);
  }

  void write(const std::string& path) const {
    std::ofstream file(path);
    file << "{\"device\": \"" << cuda_status() << "\", \"times\": [\n";
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      file << lines_[i] << (i + 1 < lines_.size() ? ",\n" : "\n");
    }
    file << "]}\n";
  }

 private:
  double time_device(const DevicePictures& p, bool graph) {
    cuda::Stream stream;
    cudaEvent_t from = nullptr, to = nullptr;
    ELAN_CUDA(cudaEventCreate(&from));
    ELAN_CUDA(cudaEventCreate(&to));
    std::vector<double> times;
    double spent = 0;
    for (int i = -10; i < repeats_ && (i < 10 || spent < 1500); ++i) {
      ELAN_CUDA(cudaEventRecord(from, stream.get()));
      backend_->enqueue(p, stream.get(), graph);
      ELAN_CUDA(cudaEventRecord(to, stream.get()));
      stream.wait();
      float ms = 0;
      ELAN_CUDA(cudaEventElapsedTime(&ms, from, to));
      spent += ms;
      if (i >= 0) times.push_back(ms);
    }
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    return median(times);
  }

  double time_host(const Job& job, const std::vector<std::uint8_t>& in,
                   std::vector<std::uint8_t>& out) {
    const int s = model_.back().scale();
    const std::size_t one = in.size() / job.batch;
    std::vector<ConstImageView> from;
    std::vector<ImageView> to;
    for (int i = 0; i < job.batch; ++i) {
      from.push_back(view_of(in.data() + one * i, job.width, job.height));
      to.push_back(view_of(out.data() + one * s * s * i, job.width * s, job.height * s));
    }
    std::vector<double> times;
    double spent = 0;
    for (int i = -3; i < repeats_ && (i < 5 || spent < 700); ++i) {
      const auto start = std::chrono::steady_clock::now();
      backend_->run(from, to, {});
      const double ms =
          std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
              .count();
      spent += ms;
      if (i >= 0) times.push_back(ms);
    }
    return median(times);
  }

  // Time of each kind of operation: events between the launches of one pass; medians of passes.
  void show_profile(const DevicePictures& p) {
    for (const auto& [name, ms] : backend_->profile(p)) {
      std::printf("    %-8s %8.4f ms\n", name.c_str(), ms);
    }
  }

  std::string models_;
  int repeats_;
  std::string model_name_;
  std::vector<Model> model_;
  std::unique_ptr<CudaBackend> backend_;
  std::vector<std::string> lines_;
};

}  // namespace
}  // namespace elan

int main(int argc, char** argv) {
  using elan::Precision;
  std::string json, models = ELANSR_MODELS, only;
  int repeats = 200;
  bool profile = false;
  for (int i = 1; i < argc; ++i) {
    const std::string key = argv[i];
    const auto value = [&] { return std::string(i + 1 < argc ? argv[++i] : ""); };
    if (key == "--json")
      json = value();
    else if (key == "--models")
      models = value();
    else if (key == "--only")
      only = value();
    else if (key == "--repeats")
      repeats = std::stoi(value());
    else if (key == "--profile")
      profile = true;
    else {
      std::fprintf(stderr, "cuda-bench: unknown option %s\n", key.c_str());
      return 2;
    }
  }
  if (elan::cuda_device_count() == 0) {
    std::fprintf(stderr, "cuda-bench: skipped, %s\n", elan::cuda_status().c_str());
    return 77;
  }
  std::vector<elan::Job> jobs;
  for (const Precision precision :
       {Precision::fp16, Precision::bf16, Precision::tf32, Precision::fp32}) {
    jobs.push_back({"elan_x4", precision, 206, 292, 1});
    jobs.push_back({"elan_light_x4", precision, 206, 292, 1});
    jobs.push_back({"elan_x4", precision, 64, 64, 1});
    jobs.push_back({"elan_light_x4", precision, 64, 64, 1});
  }
  jobs.push_back({"elan_light_x2", Precision::fp16, 1920, 1080, 1});
  for (const int batch : {2, 4, 8}) {
    jobs.push_back({"elan_x4", Precision::fp16, 206, 292, batch});
    jobs.push_back({"elan_light_x4", Precision::fp16, 206, 292, batch});
  }
  for (const int side : {128, 256, 512, 1024, 2048}) {
    jobs.push_back({"elan_x4", Precision::fp16, side, side, 1});
    jobs.push_back({"elan_light_x4", Precision::fp16, side, side, 1});
  }
  std::stable_sort(jobs.begin(), jobs.end(), [](const elan::Job& a, const elan::Job& b) {
    return std::string(a.model) + std::string(to_string(a.precision)) <
           std::string(b.model) + std::string(to_string(b.precision));
  });
  try {
    std::printf("%s\n", elan::cuda_status().c_str());
    elan::Bench bench(models, repeats);
    for (const elan::Job& job : jobs) {
      const std::string text = std::string(job.model) + " " +
                               std::string(to_string(job.precision)) + " " +
                               std::to_string(job.width) + "x" + std::to_string(job.height) + " b" +
                               std::to_string(job.batch);
      if (text.find(only) == std::string::npos) continue;
      bench.run(job, profile);
    }
    if (!json.empty()) bench.write(json);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "cuda-bench: %s\n", e.what());
    return 1;
  }
  return 0;
}
