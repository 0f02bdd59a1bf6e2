#include <algorithm>
#include <cmath>

#include "cuda/check/check.h"
#include "elan/engine.h"

namespace elan::check {
namespace {

// The network with a stream of about a hundred thousand: too much for operands in FP16, not for
// tf32.
Model overflowing(const Model& model) {
  auto network = std::make_shared<Network>(model.network());
  for (float& v : network->head.bias) v += 1e5F;
  return Model(network);
}

void check_rerun(const Options& options, Results& results) {
  const Model model = overflowing(Model::load(options.models + "/elan_light_x4.safetensors"));
  const auto backend = make_cuda_backend(model.shared_network(), Precision::fp16, 0);
  const auto exact = make_cuda_backend(model.shared_network(), Precision::tf32, 0);
  const Picture p = noise(24, 20, 9);
  std::string told;
  RunContext context;
  context.warning = [&](const std::string& text) { told = text; };
  const auto out = run(*backend, p.view(), model.scale(), context);
  const auto wanted = run(*exact, p.view(), model.scale());
  results.note("overflow: again in tf32",
               compare(out, wanted).largest == 0 && backend->reruns() == 1, told);
  results.note("overflow: a warning", told.find("tf32") != std::string::npos, told);
}

// A picture that exceeds the memory granted is computed in tiles, the same each time.
void check_tiles(const Options& options, Results& results) {
  EngineOptions engine_options;
  engine_options.device = "cuda";
  engine_options.max_memory = std::size_t{120} << 20;
  Engine engine(Model::load(options.models + "/elan_light_x4.safetensors"), engine_options);
  const Picture p = drawn(700, 500, 4);
  const TilePlan plan = engine.plan(p.width, p.height);
  std::vector<std::uint8_t> a(p.rgb.size() * 16), b(a.size());
  engine.upscale(p.view(), view_of(a.data(), p.width * 4, p.height * 4));
  engine.upscale(p.view(), view_of(b.data(), p.width * 4, p.height * 4));
  const auto& backend = dynamic_cast<CudaBackend&>(engine.backend());
  results.note("tiles within a budget",
               !plan.whole() && a == b && backend.arena_bytes() <= engine_options.max_memory,
               std::to_string(plan.columns) + "x" + std::to_string(plan.rows) + " tiles, " +
                   std::to_string(backend.arena_bytes() >> 20) + " MiB held");
}

// More rows than y of a grid may count. The picture repeats itself every 16 rows, as windows do, so
// what is far from its ends does, too.
void check_tall(const Options& options, Results& results) {
  const Model model = Model::load(options.models + "/elan_light_x4.safetensors");
  const auto backend = make_cuda_backend(model.shared_network(), Precision::fp32, 0);
  const int w = 3, h = 70000, scale = model.scale();
  Picture p = noise(w, h, 17);
  const std::size_t period = 16 * w * 3;
  for (std::size_t i = period; i < p.rgb.size(); ++i) p.rgb[i] = p.rgb[i - period];
  const auto out = run(*backend, p.view(), scale);
  const auto rows = [&](int y) { return out.begin() + std::ptrdiff_t{y} * scale * scale * w * 3; };
  results.note("70,000 rows", std::equal(rows(16 * 125), rows(16 * 126), rows(16 * 4250)));
}

// More than the device has: an error that says so, and the next picture works.
void check_out_of_memory(const Options& options, Results& results) {
  const Model model = Model::load(options.models + "/elan_light_x4.safetensors");
  const auto backend = make_cuda_backend(model.shared_network(), Precision::fp16, 0);
  std::string said;
  bool memory = false;
  try {
    backend->reserve(60000, 60000, 1);
  } catch (const Error& error) {
    memory = error.kind() == ErrorKind::memory;
    said = error.what();
  }
  const Picture p = noise(16, 16, 3);
  const auto out = run(*backend, p.view(), model.scale());
  const bool works = std::all_of(out.begin(), out.end(), [](float v) { return std::isfinite(v); });
  results.note("out of memory: an error", memory && said.find("src/cuda/") != std::string::npos,
               said);
  results.note("out of memory: goes on", works);
}

void check_no_such_device(const Options& options, Results& results) {
  const Model model = Model::load(options.models + "/elan_light_x4.safetensors");
  std::string said;
  bool device = false;
  try {
    make_cuda_backend(model.shared_network(), Precision::fp16, 999);
  } catch (const Error& error) {
    device = error.kind() == ErrorKind::device;
    said = error.what();
  }
  results.note("no such device", device && said.find("cuda:999") != std::string::npos, said);
}

}  // namespace

void check_robustness(const Options& options, Results& results) {
  check_rerun(options, results);
  check_out_of_memory(options, results);
  check_no_such_device(options, results);
  if (options.quick) return;
  check_tiles(options, results);
  check_tall(options, results);
}

}  // namespace elan::check
