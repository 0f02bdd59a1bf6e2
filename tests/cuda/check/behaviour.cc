#include <algorithm>
#include <cmath>
#include <thread>

#include "cuda/check/check.h"
#include "cuda/device.h"

namespace elan::check {
namespace {

struct OnDevice {
  explicit OnDevice(const Picture& p, int scale)
      : size(p.rgb.size() * scale * scale),
        input(p.rgb.size()),
        output(size * sizeof(float)),
        flag(sizeof(unsigned)) {
    ELAN_CUDA(cudaMemcpy(input.data(), p.rgb.data(), p.rgb.size(), cudaMemcpyHostToDevice));
    ELAN_CUDA(cudaMemset(flag.data(), 0, sizeof(unsigned)));
    spoil();
    pictures.input = input.data();
    pictures.output = output.data();
    pictures.output_type = SampleType::f32;
    pictures.width = p.width;
    pictures.height = p.height;
    pictures.not_finite = reinterpret_cast<unsigned*>(flag.data());
  }
  // Leaves no result of a run before; the streams do not wait for the default one.
  void spoil() const {
    ELAN_CUDA(cudaMemset(output.data(), 0xFF, output.size()));
    ELAN_CUDA(cudaDeviceSynchronize());
  }
  std::vector<float> fetch() const {
    std::vector<float> values(size);
    ELAN_CUDA(
        cudaMemcpy(values.data(), output.data(), size * sizeof(float), cudaMemcpyDeviceToHost));
    return values;
  }
  std::size_t size;
  cuda::DeviceBuffer input, output, flag;
  DevicePictures pictures;
};

// Kernel by kernel, captured, replayed, on other streams, and after more shapes than are kept.
void check_graphs(const Subject& s) {
  const int scale = s.model.scale();
  const Picture p = noise(37, s.options.quick ? 18 : 61, 5);
  const OnDevice first(p, scale), second(p, scale);
  cuda::Stream a, b;
  const auto pass = [&](const OnDevice& d, const cuda::Stream& on, Launch launch) {
    d.spoil();
    s.gpu.enqueue(d.pictures, on.get(), launch);
    on.wait();
    return d.fetch();
  };
  const std::vector<float> plain = pass(first, a, Launch::plain);
  Difference e;
  const auto same = [&](const std::vector<float>& other) {
    e.largest = std::max(e.largest, compare(other, plain).largest);
  };
  for (int i = 0; i < 3; ++i) same(pass(first, a, Launch::graph));
  for (int i = 0; i < 3; ++i) same(pass(second, b, Launch::automatic));
  // Two streams at once: the working memory is one.
  first.spoil();
  second.spoil();
  for (int i = 0; i < 4; ++i) {
    s.gpu.enqueue(first.pictures, a.get(), Launch::graph);
    s.gpu.enqueue(second.pictures, b.get(), Launch::plain);
  }
  a.wait();
  b.wait();
  same(first.fetch());
  same(second.fetch());
  if (!s.options.quick) {
    for (int i = 0; i < 40; ++i) {  // more shapes than are kept
      const OnDevice other(noise(8 + i, 9, 1), scale);
      s.gpu.enqueue(other.pictures, a.get(), Launch::graph);
      a.wait();
    }
    same(pass(first, a, Launch::graph));
  }
  s.note("graph, plain, streams: same bits", e, e.largest == 0 && s.gpu.finish());
}

// Bit for bit the same: again, in a batch, after other sizes, and from several threads at once.
void check_repeats(const Subject& s) {
  const int w = 41, h = s.options.quick ? 19 : 83, scale = s.model.scale();
  std::vector<Picture> pictures;
  std::vector<ConstImageView> views;
  for (std::uint32_t i = 0; i < 3; ++i) pictures.push_back(noise(w, h, 70 + i));
  for (const Picture& p : pictures) views.push_back(p.view());
  std::vector<std::vector<float>> alone;
  for (const Picture& p : pictures) alone.push_back(run(s.gpu, p.view(), scale));
  Difference e = compare(run(s.gpu, views[0], scale), alone[0]);
  for (int again = 0; again < 3; ++again) {
    std::vector<std::vector<float>> out(3, std::vector<float>(alone[0].size(), NAN));
    std::vector<ImageView> to;
    for (auto& o : out) to.push_back(view_of(o.data(), w * scale, h * scale));
    s.gpu.run(views, to, {});
    for (std::size_t i = 0; i < 3; ++i) {
      e.largest = std::max(e.largest, compare(out[i], alone[i]).largest);
    }
  }
  s.note("repeats, batch 3: same bits", e, e.largest == 0);

  Difference threads;
  std::vector<Difference> each(6);
  {
    std::vector<std::jthread> workers;
    for (std::size_t t = 0; t < each.size(); ++t) {
      workers.emplace_back([&, t] {
        const Picture odd = noise(9 + static_cast<int>(t), 14, 3);
        for (int i = 0; i < 5; ++i) {
          const std::size_t which = (t + static_cast<std::size_t>(i)) % 3;
          const double d = compare(run(s.gpu, views[which], scale), alone[which]).largest;
          each[t].largest = std::max(each[t].largest, d);
          run(s.gpu, odd.view(), scale);
        }
      });
    }
  }
  for (const Difference& d : each) threads.largest = std::max(threads.largest, d.largest);
  s.note("six threads: same bits", threads, threads.largest == 0);
}

// u8 and u16 output are the rounded float output; u16 input is 257 times u8.
void check_samples(const Subject& s) {
  const int w = 21, h = 18, scale = s.model.scale();
  const Picture p = noise(w, h, 11);
  const std::size_t in_size = p.rgb.size(), out_size = in_size * scale * scale;
  std::vector<std::uint8_t> out8(out_size);
  std::vector<std::uint16_t> in16(in_size), out16(out_size);
  std::vector<float> in32(in_size);
  for (std::size_t i = 0; i < in_size; ++i) {
    in16[i] = static_cast<std::uint16_t>(p.rgb[i] * 257);
    in32[i] = p.rgb[i];
  }
  const auto once = [&](const ConstImageView& in, const ImageView& out) {
    s.gpu.run({&in, 1}, {&out, 1}, {});
  };
  const std::vector<float> out32 = run(s.gpu, view_of(std::as_const(in32).data(), w, h), scale);
  Difference e = compare(out32, run(s.gpu, view_of(std::as_const(in16).data(), w, h), scale));
  once(p.view(), view_of(out8.data(), w * scale, h * scale));
  once(p.view(), view_of(out16.data(), w * scale, h * scale));
  for (std::size_t i = 0; i < out_size; ++i) {
    const float r8 = std::clamp(std::nearbyint(out32[i]), 0.F, 255.F);
    const float r16 = std::clamp(std::nearbyint(out32[i] * 257.F), 0.F, 65535.F);
    e.largest =
        std::max({e.largest, double(std::abs(r8 - out8[i])), double(std::abs(r16 - out16[i]))});
  }
  s.note("sample types", e, e.largest <= 1e-4);
}

// Kernels that compute several stages at once, where a picture is large enough for them, come to
// what one kernel a stage does, which an observer sees.
void check_whole_pairs(const Subject& s) {
  const Picture p = noise(250, 230, 19);
  RunContext observed;
  observed.observer = [](const StageView&) {};
  const Difference e = compare(run(s.gpu, p.view(), s.model.scale()),
                               run(s.gpu, p.view(), s.model.scale(), observed));
  s.note("stages apart: same bits", e, e.largest == 0);
}

// Times and costs of each operation, as `elan-sr bench --profile` shows them.
void check_profile(const Subject& s) {
  const Picture p = noise(48, 32, 2);
  std::vector<OperationTime> operations;
  RunContext context;
  context.profile = &operations;
  const Difference e = compare(run(s.gpu, p.view(), s.model.scale(), context),
                               run(s.gpu, p.view(), s.model.scale()));
  bool complete = operations.size() >= 5;
  for (const OperationTime& o : operations) complete = complete && o.seconds > 0 && o.bytes > 0;
  s.note("profile", e, e.largest == 0 && complete);
}

}  // namespace

void check_behaviour(const Subject& s) {
  check_repeats(s);
  check_graphs(s);
  check_samples(s);
  check_profile(s);
  if (s.model.architecture().channels == 60) check_whole_pairs(s);
  // A result that was no finite number would have been computed again, unnoticed above.
  const auto reruns = static_cast<double>(s.gpu.reruns());
  s.note("no reruns", {reruns, 0}, reruns == 0);
}

}  // namespace elan::check
