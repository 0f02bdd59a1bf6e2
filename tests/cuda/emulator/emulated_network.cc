#include "emulated_network.h"

#include <algorithm>
#include <utility>

#include "cuda/device.h"
#include "cuda/forward.h"

namespace elan::cuda {
// The runtime's calls do nothing here, and cannot fail.
void check(cudaError_t, const char*, const char*, int) {}
}  // namespace elan::cuda

namespace elan::emulator {

using namespace cuda;

EmulatedNetwork::EmulatedNetwork(const Network& net, NetworkShape shape, const DeviceLimits& device)
    : net_(net), shape_(std::move(shape)), device_(device), packed_(pack_network(net, shape_)) {
  // Every part of the packed weights in memory of its own, whose ends are watched.
  std::vector<std::pair<std::string, std::size_t*>> parts{
      {"weights of the head", &packed_.head_weights},
      {"bias of the head", &packed_.head_bias},
      {"slabs of the head", &packed_.head_slabs},
      {"bias of the head's columns", &packed_.head_column_bias},
      {"weights of the tail", &packed_.tail.weights},
      {"bias of the tail", &packed_.tail.bias}};
  if (shape_.skip_in_tail()) parts.emplace_back("weights of the skip", &packed_.skip.weights);
  for (auto& elab : packed_.body) {
    for (PackedPair& pair : elab) {
      for (const auto& [name, offset] : {std::pair{"weights of an LFE", &pair.lfe.weights},
                                         {"bias0 of an LFE", &pair.lfe.bias0},
                                         {"bias1 of an LFE", &pair.lfe.bias1},
                                         {"bias of project_inp", &pair.lfe.bias_project},
                                         {"scale0 of an LFE", &pair.lfe.scale0},
                                         {"scale1 of an LFE", &pair.lfe.scale1},
                                         {"scale of project_inp", &pair.lfe.scale_project},
                                         {"columns of an LFE", &pair.lfe.columns},
                                         {"weights of project_out", &pair.out.weights},
                                         {"bias of project_out", &pair.out.bias},
                                         {"scale of project_out", &pair.out.scale},
                                         {"columns of project_out", &pair.out.columns}}) {
        if (*offset != 0) parts.emplace_back(name, offset);  // not all operands have all of them
      }
    }
  }
  std::sort(parts.begin(), parts.end(),
            [](const auto& a, const auto& b) { return *a.second < *b.second; });
  base_ = packed_.data.data();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    std::size_t& offset = *parts[i].second;
    const std::size_t end = i + 1 < parts.size() ? *parts[i + 1].second : packed_.data.size();
    weights_.push_back(std::make_unique<Memory>(parts[i].first, end - offset));
    weights_.back()->fill(base_ + offset, end - offset);
    offset = reinterpret_cast<std::size_t>(weights_.back()->data()) -
             reinterpret_cast<std::size_t>(base_);
  }
}

// The same with the arena's parts.
Plan EmulatedNetwork::plan_with_memory(int width, int height) {
  Plan plan = make_plan(shape_, device_, width, height, 1);
  const std::size_t ends[] = {plan.arena.y, plan.arena.q, plan.arena.v, plan.arena.integers,
                              plan.arena.bytes};
  const char* const names[] = {"stream x", "stream y", "q", "v", "integers"};
  std::size_t* const parts[] = {&plan.arena.x, &plan.arena.y, &plan.arena.q, &plan.arena.v,
                                &plan.arena.integers};
  arena_.clear();
  for (int i = 0; i < 5; ++i) {
    arena_.push_back(std::make_unique<Memory>(names[i], ends[i] - *parts[i]));
    *parts[i] = reinterpret_cast<std::size_t>(arena_.back()->data()) -
                reinterpret_cast<std::size_t>(arena_.front()->data());
  }
  return plan;
}

std::vector<float> EmulatedNetwork::run(const ConstImageView& in, const StageObserver& observer,
                                        bool every_stage) {
  const Plan plan = plan_with_memory(in.width, in.height);
  const Grid& grid = plan.grid;
  const std::size_t row = static_cast<std::size_t>(in.width) * 3;
  Memory input("input picture", row * in.height, 1), flag("flag", sizeof(unsigned));
  const std::size_t samples = row * in.height * shape_.scale * shape_.scale;
  Memory output("output picture", samples * sizeof(float));
  std::vector<std::byte> dense(input.size());
  for (int y = 0; y < in.height; ++y) {
    std::copy_n(in.data + y * in.row_bytes, row, dense.data() + y * row);
  }
  input.fill(dense.data(), dense.size());
  const unsigned finite = 0;
  flag.fill(&finite, sizeof finite);

  DevicePictures pictures;
  pictures.input = input.data();
  pictures.output = output.data();
  pictures.output_type = SampleType::f32;
  pictures.width = in.width;
  pictures.height = in.height;
  const ForwardArgs args{net_,
                         packed_,
                         shape_,
                         plan,
                         base_,
                         arena_.front()->data(),
                         reinterpret_cast<unsigned*>(flag.data()),
                         every_stage};
  const std::size_t pixels = grid.pixels(), stride = packed_.order.size();
  forward(args, pictures, nullptr, [&](const std::string& name, const StageStream& stream) {
    if (!observer) return;
    std::vector<float> planar(pixels * shape_.channels);
    for (std::size_t i = 0; i < stride; ++i) {
      const int channel = packed_.order[i];
      if (channel < 0) continue;
      for (std::size_t p = 0; p < pixels; ++p) {
        planar[channel * pixels + p] =
            stream_number(stream.data, stream.format, static_cast<int>(stride / 8), pixels, p,
                          static_cast<int>(i));
      }
    }
    observer({name, shape_.channels, grid.height, grid.width, planar.data(), nullptr});
  });
  const auto* values = reinterpret_cast<const float*>(output.data());
  return {values, values + samples};
}

void EmulatedNetwork::check_launches(int width, int height, int batch) {
  const Plan plan = make_plan(shape_, device_, width, height, batch);
  DevicePictures pictures;
  pictures.width = width;
  pictures.height = height;
  pictures.batch = batch;
  std::byte nowhere{};
  const NoLaunches checked_only;
  for (const bool every_stage : {false, true}) {
    forward({net_, packed_, shape_, plan, &nowhere, &nowhere, nullptr, every_stage}, pictures,
            nullptr);
  }
}

}  // namespace elan::emulator
