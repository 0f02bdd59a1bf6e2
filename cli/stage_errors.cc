#include "stage_errors.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "elan/error.h"

namespace elan::cli {
namespace {

struct Stage {
  std::string name;
  std::vector<double> values;
};

// Hands stages from one thread to another, one at a time.
class Channel {
 public:
  // False when the reader has gone.
  bool put(Stage stage) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !stage_ || closed_; });
    if (closed_) return false;
    stage_ = std::move(stage);
    changed_.notify_all();
    return true;
  }
  // None after the writer has closed.
  std::optional<Stage> take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stage_ || closed_; });
    std::optional<Stage> taken = std::move(stage_);
    stage_.reset();
    changed_.notify_all();
    return taken;
  }
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Stage> stage_;
  bool closed_ = false;
};

void observe(Backend& backend, int scale, const TestPicture& picture,
             const StageObserver& observer) {
  std::vector<float> out(picture.rgb.size() * static_cast<std::size_t>(scale * scale));
  const ConstImageView in = picture.view();
  const ImageView to = view_of(out.data(), picture.width * scale, picture.height * scale);
  RunContext context;
  context.observer = observer;
  backend.run({&in, 1}, {&to, 1}, context);
}

template <typename At>
void add(const StageView& view, std::size_t count, At&& reference,
         std::vector<StageErrors>& stages) {
  if (count != view.size()) {
    throw Error(ErrorKind::model, "stage " + std::string(view.name) + ": expected " +
                                      std::to_string(view.size()) + " values, found " +
                                      std::to_string(count));
  }
  auto at = std::find_if(stages.begin(), stages.end(),
                         [&](const StageErrors& s) { return s.stage == view.name; });
  if (at == stages.end()) at = stages.insert(at, {std::string(view.name), {}, 0, 0});
  for (std::size_t i = 0; i < count; ++i) {
    const double a = view.at(i), b = reference(i);
    at->values.add(a, b);
    at->square_error += (a - b) * (a - b);
    at->square_reference += b * b;
  }
}

}  // namespace

void add_stage_errors(Backend& run, Backend& reference, int scale, const TestPicture& picture,
                      std::vector<StageErrors>& stages) {
  const std::vector<std::string> names = run.stages(), others = reference.stages();
  std::set<std::string> shared;
  for (const std::string& name : names) {
    if (std::find(others.begin(), others.end(), name) != others.end()) shared.insert(name);
  }
  Channel channel;
  std::exception_ptr failure;  // of the reference; read after it has been joined
  bool starved = false;
  std::jthread other([&] {
    try {
      observe(reference, scale, picture, [&](const StageView& view) {
        if (!shared.contains(std::string(view.name))) return;
        Stage stage{std::string(view.name), {}};
        stage.values.reserve(view.size());
        for (std::size_t i = 0; i < view.size(); ++i) stage.values.push_back(view.at(i));
        if (!channel.put(std::move(stage))) throw Error(ErrorKind::cancelled, "cancelled");
      });
    } catch (...) {
      failure = std::current_exception();
    }
    channel.close();
  });
  try {
    observe(run, scale, picture, [&](const StageView& view) {
      if (!shared.contains(std::string(view.name))) return;
      const std::optional<Stage> stage = channel.take();
      starved = !stage;
      if (starved) throw Error(ErrorKind::internal, "stages: the reference ended early");
      if (stage->name != view.name) {
        throw Error(ErrorKind::internal,
                    "stage " + std::string(view.name) + ": expected now, found " + stage->name);
      }
      add(view, stage->values.size(), [&](std::size_t i) { return stage->values[i]; }, stages);
    });
  } catch (...) {
    channel.close();
    other.join();
    if (starved && failure) std::rethrow_exception(failure);
    throw;
  }
  channel.close();
  other.join();
  if (failure) std::rethrow_exception(failure);
}

void add_stage_errors(Backend& run, const StoredStages& reference, int scale,
                      const TestPicture& picture, std::vector<StageErrors>& stages) {
  observe(run, scale, picture, [&](const StageView& view) {
    const auto stored = reference.find(std::string(view.name));
    if (stored == reference.end()) return;
    const std::vector<float>& values = stored->second;
    add(view, values.size(), [&](std::size_t i) { return values[i]; }, stages);
  });
}

}  // namespace elan::cli
