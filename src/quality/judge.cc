#include "quality/judge.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "backend.h"
#include "elan/error.h"

namespace elan {
namespace {

std::vector<float> interleaved(const Planar<float>& planar) {
  std::vector<float> rgb(3 * planar.pixels());
  for (int c = 0; c < 3; ++c) {
    for (std::size_t i = 0; i < planar.pixels(); ++i) rgb[3 * i + c] = planar.plane(c)[i];
  }
  return rgb;
}

// One thread a picture: several pictures are run at once.
std::unique_ptr<Backend> fastest_backend(const Network& net, const PrecisionPlan& plan) {
  const std::shared_ptr<const Network> shared(std::shared_ptr<const Network>(), &net);
  try {
    return make_cpu_backend(shared, plan, std::make_shared<ThreadPool>(1));
  } catch (const Error& refusal) {
    if (refusal.kind() != ErrorKind::model && refusal.kind() != ErrorKind::usage) throw;
    return make_reference_backend(shared, plan);
  }
}

std::vector<float> enlarge(Backend& backend, const Planar<float>& picture, int scale,
                           const std::stop_token& stop) {
  const int width = picture.width * scale, height = picture.height * scale;
  const std::vector<float> rgb = interleaved(picture);
  std::vector<float> large(static_cast<std::size_t>(width) * height * 3);
  const ConstImageView in = view_of(rgb.data(), picture.width, picture.height);
  const ImageView out = view_of(large.data(), width, height);
  RunContext context;
  context.stop = stop;
  backend.run({&in, 1}, {&out, 1}, context);
  return large;
}

Distance between(std::span<const float> a, std::span<const float> b) {
  Distance d;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(double(a[i]) - b[i]);
    d.squared += difference * difference;
    d.mean += difference;
    d.largest = std::max(d.largest, difference);
  }
  d.squared /= static_cast<double>(a.size());
  d.mean /= static_cast<double>(a.size());
  d.worst_mean = d.mean;
  return d;
}

// Of all pictures, each as much as its size.
Distance together(std::span<const Distance> each, std::span<const std::size_t> sizes) {
  Distance all;
  double total = 0;
  for (std::size_t k = 0; k < each.size(); ++k) {
    const auto size = static_cast<double>(sizes[k]);
    all.squared += each[k].squared * size;
    all.mean += each[k].mean * size;
    all.largest = std::max(all.largest, each[k].largest);
    all.worst_mean = std::max(all.worst_mean, each[k].mean);
    total += size;
  }
  all.squared /= total;
  all.mean /= total;
  return all;
}

}  // namespace

Judge::Judge(std::span<const Planar<float>> pictures, std::span<const Planar<float>> enlarged,
             ThreadPool& pool, std::stop_token stop)
    : pictures_(pictures), pool_(pool), stop_(std::move(stop)) {
  for (const Planar<float>& one : enlarged) expected_.push_back(interleaved(one));
}

Distance Judge::distance(const Network& net, const PrecisionPlan& plan, std::size_t count) const {
  const auto backend = fastest_backend(net, plan);
  std::vector<Distance> each(count);
  std::vector<std::size_t> sizes(count);
  pool_.parallel_for(count, [&](std::size_t k, int) {
    const std::size_t at = k * pictures_.size() / count;
    each[k] = between(enlarge(*backend, pictures_[at], net.arch.scale, stop_), expected_[at]);
    sizes[k] = expected_[at].size();
  });
  return together(each, sizes);
}

Distance Judge::distance_from_exact(const Network& net) const {
  const auto rounded = fastest_backend(net, Precision::int8);
  const auto exact = fastest_backend(net, Precision::fp32);
  std::vector<Distance> each(pictures_.size());
  std::vector<std::size_t> sizes(pictures_.size());
  pool_.parallel_for(pictures_.size(), [&](std::size_t k, int) {
    each[k] = between(enlarge(*rounded, pictures_[k], net.arch.scale, stop_),
                      enlarge(*exact, pictures_[k], net.arch.scale, stop_));
    sizes[k] = expected_[k].size();
  });
  return together(each, sizes);
}

}  // namespace elan
