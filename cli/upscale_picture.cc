#include "upscale_picture.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <mutex>
#include <set>
#include <utility>

#include "tta.h"

namespace elan::cli {
namespace {

std::string size_text(PictureSize size) {
  return std::to_string(size.width) + "x" + std::to_string(size.height);
}

// What is held beside the engine while the picture is computed and encoded, and what of it the
// engine cannot know.
struct Reserve {
  PictureSize computed;
  picture::SaveOptions save;
  std::size_t bytes = 0;
  std::size_t engine = 0;  // by plan, for one of the streams
};

std::size_t plan_memory(const Engine& engine, const picture::Picture& picture,
                        const UpscaleOptions& options, std::size_t reserved) {
  if (options.tta) {
    return plan_tta(engine, picture.width(), picture.height(), picture.type(), options.tile,
                    reserved)
        .memory;
  }
  return engine.plan(picture.width(), picture.height(), reserved).memory;
}

Reserve reserve(const Engine& engine, const picture::Picture& picture,
                const UpscaleOptions& options) {
  const int scale = engine.model().scale();
  Reserve r;
  r.computed = {picture.width() * scale, picture.height() * scale};
  r.save = options.save;
  const PictureSize wanted =
      wanted_size({picture.width(), picture.height()}, scale, options.width, options.height);
  if (wanted.width != r.computed.width || wanted.height != r.computed.height) {
    if (wanted.width > r.computed.width || wanted.height > r.computed.height) {
      throw Error(ErrorKind::input, "size: expected at most " + size_text(r.computed) +
                                        " at scale " + std::to_string(scale) + ", found " +
                                        size_text(wanted));
    }
    r.save.width = wanted.width;
    r.save.height = wanted.height;
  }
  r.bytes =
      picture.memory() + picture::save_memory(picture, r.computed.width, r.computed.height, r.save);
  r.engine = plan_memory(engine, picture, options, r.bytes);
  if (picture.alpha()) {
    // The stream of alpha holds a band of its own beside that of the colours; where the computing
    // memory is shared this counts too much, never too little.
    const TilePlan plan =
        options.tta ? TilePlan{} : engine.plan(picture.width(), picture.height(), r.bytes);
    const int band = options.tta ? picture.height() : plan.tile_height;
    r.bytes += static_cast<std::size_t>(r.computed.width) * static_cast<std::size_t>(band) *
               static_cast<std::size_t>(scale) * 3 * size_of(picture.type());
    r.engine = plan_memory(engine, picture, options, r.bytes);
  }
  return r;
}

// Makes one rising share of the picture from the shares of its colours and its alpha, which take
// turns.
class SharedProgress {
 public:
  SharedProgress(std::function<void(double)> report, int parts)
      : report_(std::move(report)), done_(static_cast<std::size_t>(parts), 0.0) {}

  std::function<void(double)> part(std::size_t index) {
    if (!report_) return {};
    return [this, index](double share) {
      const std::lock_guard lock(mutex_);
      done_[index] = std::max(done_[index], share);
      double sum = 0;
      for (const double d : done_) sum += d;
      report_(sum / static_cast<double>(done_.size()));
    };
  }

 private:
  std::function<void(double)> report_;
  std::mutex mutex_;
  std::vector<double> done_;
};

// What the engine says about a picture, each once; its colours and its alpha may both say it.
class Notes {
 public:
  void add(const std::string& text) {
    const std::lock_guard lock(mutex_);
    texts_.insert(text);
  }
  std::set<std::string> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(texts_, {});
  }

 private:
  std::mutex mutex_;
  std::set<std::string> texts_;
};

picture::RowReader rows_of(RowSource& source) {
  return [&source](int y, const ImageView& out) { source.read(y, out); };
}

}  // namespace

PictureSize wanted_size(PictureSize in, int scale, int width, int height) {
  const auto follow = [](int given, int of, int other) {
    const double side = static_cast<double>(given) * other / of;
    return std::max(1, static_cast<int>(std::lround(side)));
  };
  if (width == 0 && height == 0) return {in.width * scale, in.height * scale};
  if (height == 0) return {width, follow(width, in.width, in.height)};
  if (width == 0) return {follow(height, in.height, in.width), height};
  return {width, height};
}

int scale_for(PictureSize in, PictureSize wanted, const std::vector<int>& scales) {
  for (const int scale : scales) {
    if (in.width * scale >= wanted.width && in.height * scale >= wanted.height) return scale;
  }
  const int largest = scales.back();
  throw Error(ErrorKind::input, "size: expected at most " +
                                    size_text({in.width * largest, in.height * largest}) +
                                    " from " + size_text(in) + " at scale " +
                                    std::to_string(largest) + ", found " + size_text(wanted));
}

std::size_t memory_needed(const Engine& engine, const picture::Picture& picture,
                          const UpscaleOptions& options) {
  const Reserve r = reserve(engine, picture, options);
  return r.bytes + r.engine;
}

UpscaleResult write_enlarged(Engine& engine, const picture::Picture& picture,
                             const picture::Output& output, const UpscaleOptions& options) {
  const Reserve r = reserve(engine, picture, options);
  picture::check_output(picture, r.computed.width, r.computed.height, r.save);

  Notes notes;
  const auto stream = [&](const ConstImageView& in, std::function<void(double)> progress) {
    RunOptions run;
    run.stop = options.stop;
    run.progress = std::move(progress);
    run.warning = [&](const std::string& text) { notes.add(text); };
    return options.tta ? stream_tta(engine, in, picture.type(), run, options.tile, r.bytes)
                       : engine.stream(in, picture.type(), run, r.bytes);
  };
  const std::optional<ConstImageView> alpha = picture.alpha();
  SharedProgress progress(options.progress, alpha ? 2 : 1);
  const std::unique_ptr<RowSource> colours = stream(picture.rgb(), progress.part(0));
  std::unique_ptr<RowSource> alphas;
  picture::RowReader alpha_reader;
  if (alpha) {
    alphas = stream(*alpha, progress.part(1));
    alpha_reader = rows_of(*alphas);
  }

  UpscaleResult result;
  result.in_width = picture.width();
  result.in_height = picture.height();
  result.out_width = r.save.width != 0 ? r.save.width : r.computed.width;
  result.out_height = r.save.height != 0 ? r.save.height : r.computed.height;
  result.warnings = picture.warnings();
  const std::vector<std::string> saved =
      picture::save(picture, rows_of(*colours), alpha_reader, r.computed.width, r.computed.height,
                    output, r.save, options.stop);
  result.warnings.insert(result.warnings.end(), saved.begin(), saved.end());
  for (const std::string& text : notes.take()) result.warnings.push_back(text);
  return result;
}

UpscaleResult upscale_picture(Engine& engine, const picture::Input& input,
                              const picture::Output& output, const UpscaleOptions& options) {
  const picture::Picture picture = picture::load(input, {engine.max_memory()});
  return write_enlarged(engine, picture, output, options);
}

}  // namespace elan::cli
