#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <exception>
#include <utility>

#include "elan/error.h"
#include "picture/alpha.h"
#include "picture/encode.h"
#include "picture/metadata.h"
#include "picture/output_file.h"
#include "picture/picture_state.h"

namespace elan::picture {
namespace {

// Rows held at once: enough for long runs of the network, small against the pictures that matter.
constexpr std::size_t kBandBytes = std::size_t{32} << 20;
constexpr int kMinBandRows = 32;
constexpr int kMaxBandRows = 1024;

struct Size {
  int width, height;
};

// One side given keeps the proportions.
Size written_size(int width, int height, const SaveOptions& options) {
  const auto along = [](int side, int wanted, int whole) {
    return std::max(1, static_cast<int>(std::lround(double{1} * side * wanted / whole)));
  };
  if (options.width > 0 && options.height > 0) return {options.width, options.height};
  if (options.width > 0) return {options.width, along(height, options.width, width)};
  if (options.height > 0) return {along(width, options.height, height), options.height};
  return {width, height};
}

int band_rows(int width, int height, std::size_t pixel_bytes) {
  const auto rows = static_cast<int>(kBandBytes / (static_cast<std::size_t>(width) * pixel_bytes));
  return std::min(height, std::clamp(rows, kMinBandRows, kMaxBandRows));
}

// Hands the enlarged picture to libvips row by row: R, G, B or grey, then alpha where there is one.
class RowImage {
 public:
  RowImage(const Picture& picture, const RowReader& rgb, const RowReader& alpha, int width,
           int height, Format format, std::stop_token stop)
      : state_(picture.state()),
        rgb_(rgb),
        alpha_(alpha),
        width_(width),
        height_(height),
        format_(format),
        colours_(state_.gray ? 1 : 3),
        bands_(colours_ + (state_.has_alpha ? 1 : 0)),
        stop_(std::move(stop)) {
    if (const auto source = picture.alpha()) limits_.emplace(*source, width, height);
  }

  // Every row is asked of the readers once, in order. `this` must outlive the image.
  VImage image() {
    VipsImage* raw = vips_image_new();
    VImage out(raw);
    const bool deep = state_.type == SampleType::u16;
    vips_image_init_fields(raw, width_, height_, bands_,
                           deep ? VIPS_FORMAT_USHORT : VIPS_FORMAT_UCHAR, VIPS_CODING_NONE,
                           state_.gray
                               ? (deep ? VIPS_INTERPRETATION_GREY16 : VIPS_INTERPRETATION_B_W)
                               : (deep ? VIPS_INTERPRETATION_RGB16 : VIPS_INTERPRETATION_sRGB),
                           state_.metadata.xres(), state_.metadata.yres());
    put_metadata(out, state_.metadata, format_);
    vips_image_set_int(raw, VIPS_META_SEQUENTIAL, 1);
    if (vips_image_pipelinev(raw, VIPS_DEMAND_STYLE_THINSTRIP, nullptr) != 0 ||
        vips_image_generate(raw, nullptr, &RowImage::generate, nullptr, this, nullptr) != 0)
      throw vips::VError();
    VImage cached;
    VImage::call("linecache", VImage::option()
                                  ->set("in", out)
                                  ->set("out", &cached)
                                  ->set("tile_height", band_rows(width_, height_, pixel_bytes()))
                                  ->set("access", VIPS_ACCESS_SEQUENTIAL)
                                  ->set("threaded", true));
    return cached;
  }

  // What a reader threw, if one did.
  [[nodiscard]] std::exception_ptr error() const { return error_; }

 private:
  [[nodiscard]] std::size_t pixel_bytes() const {
    return static_cast<std::size_t>(bands_) * size_of(state_.type);
  }

  static int generate(VipsRegion* region, void*, void* self, void*, gboolean*) {
    return static_cast<RowImage*>(self)->fill(region) ? 0 : -1;
  }

  bool fill(VipsRegion* region) noexcept {
    try {
      if (error_) return false;  // libvips may ask again after a failure
      if (stop_.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled while writing");
      const VipsRect& area = region->valid;
      if (area.top != next_row_ || area.left != 0 || area.width != width_)
        throw Error(ErrorKind::internal, "rows are asked for out of order while writing: row " +
                                             std::to_string(area.top) + " after row " +
                                             std::to_string(next_row_));
      if (state_.type == SampleType::u8)
        fill_rows<std::uint8_t>(region);
      else
        fill_rows<std::uint16_t>(region);
      next_row_ = area.top + area.height;
      return true;
    } catch (...) {
      if (!error_) error_ = std::current_exception();
      return false;
    }
  }

  template <typename T>
  void fill_rows(VipsRegion* region) {
    const VipsRect& area = region->valid;
    if (bands_ == 3) {  // as the readers give them
      rgb_(area.top, ImageView{reinterpret_cast<std::byte*>(VIPS_REGION_ADDR(region, 0, area.top)),
                               width_, area.height, state_.type,
                               static_cast<std::size_t>(VIPS_REGION_LSKIP(region))});
      return;
    }
    const std::size_t row_samples = static_cast<std::size_t>(width_) * 3;
    std::vector<T> rows(row_samples * static_cast<std::size_t>(area.height));
    const ImageView view{reinterpret_cast<std::byte*>(rows.data()), width_, area.height,
                         state_.type, row_samples * sizeof(T)};
    const auto read_row = [&](int y) {
      return rows.data() + static_cast<std::size_t>(y) * row_samples;
    };
    const auto out_row = [&](int y) {
      return reinterpret_cast<T*>(VIPS_REGION_ADDR(region, 0, area.top + y));
    };
    rgb_(area.top, view);
    for (int y = 0; y < area.height; ++y) put_colours(read_row(y), out_row(y));
    if (!state_.has_alpha) return;
    if (limits_) alpha_(area.top, view);
    std::vector<T> line(static_cast<std::size_t>(width_), static_cast<T>(~T{0}));
    for (int y = 0; y < area.height; ++y) {
      if (limits_) {
        for (std::size_t x = 0; x < line.size(); ++x) line[x] = mean(read_row(y) + 3 * x);
        limits_->apply(area.top + y, line.data());
      }
      T* out = out_row(y) + colours_;
      for (std::size_t x = 0; x < line.size(); ++x)
        out[x * static_cast<std::size_t>(bands_)] = line[x];
    }
  }

  // The three channels come from one and the same grey; what differs between them is noise.
  template <typename T>
  static T mean(const T* rgb) {
    return static_cast<T>((std::uint32_t{rgb[0]} + rgb[1] + rgb[2] + 1) / 3);
  }

  template <typename T>
  void put_colours(const T* rgb, T* out) const {
    for (int x = 0; x < width_; ++x, rgb += 3, out += bands_) {
      if (colours_ == 1)
        out[0] = mean(rgb);
      else
        std::copy_n(rgb, 3, out);
    }
  }

  const Picture::State& state_;
  const RowReader& rgb_;
  const RowReader& alpha_;
  int width_, height_;
  Format format_;
  int colours_, bands_;
  std::stop_token stop_;
  std::optional<AlphaLimits> limits_;
  int next_row_ = 0;
  std::exception_ptr error_;
};

double full_of(const VImage& image) {
  return image.format() == VIPS_FORMAT_USHORT ? 65535 : 255;
}

VImage rounded(const VImage& image, VipsBandFormat format) {
  return image.rint().cast(format);
}

// Lanczos3, with colours weighted by their alpha.
VImage resized(const VImage& image, Size size) {
  if (image.width() == size.width && image.height() == size.height) return image;
  const auto resize = [&](const VImage& in) {
    return in.resize(static_cast<double>(size.width) / in.width(),
                     VImage::option()
                         ->set("vscale", static_cast<double>(size.height) / in.height())
                         ->set("kernel", VIPS_KERNEL_LANCZOS3));
  };
  if (!image.has_alpha()) return resize(image);
  const auto max_alpha = [&] { return VImage::option()->set("max_alpha", full_of(image)); };
  const VImage small = resize(image.premultiply(max_alpha()));
  return rounded(small.unpremultiply(max_alpha()), image.format());
}

// A profile that cannot go along has to be applied.
bool needs_srgb(const VImage& metadata, bool grey, Format format) {
  const FormatTraits& can = traits(format);
  return metadata.get_typeof(VIPS_META_ICC_NAME) != 0 && (!can.icc || (grey && !can.grey));
}

VImage in_srgb(const VImage& image, bool keep_grey) {
  const int depth = image.format() == VIPS_FORMAT_USHORT ? 16 : 8;
  VImage rgb =
      image.icc_transform("srgb", VImage::option()->set("embedded", true)->set("depth", depth));
  if (image.bands() >= 3 || !keep_grey) return rgb;
  // Neutral: the three bands are one.
  const VImage grey =
      rgb.extract_band(1).copy(VImage::option()->set("interpretation", image.interpretation()));
  return image.bands() == 1 ? grey : grey.bandjoin(rgb.extract_band(3));
}

// What `format` cannot hold: transparency, deep samples, a profile.
VImage fitted(VImage image, Format format) {
  const FormatTraits& can = traits(format);
  if (needs_srgb(image, image.bands() < 3, format)) image = in_srgb(image, can.grey);
  if (image.has_alpha() && !can.alpha)
    image = rounded(
        image.flatten(
            VImage::option()->set("background", full_of(image))->set("max_alpha", full_of(image))),
        image.format());
  if (image.format() == VIPS_FORMAT_USHORT && !can.deep) {
    image = rounded(image.linear(1 / 257.0, 0), VIPS_FORMAT_UCHAR)
                .copy(VImage::option()->set("interpretation", image.bands() < 3
                                                                  ? VIPS_INTERPRETATION_B_W
                                                                  : VIPS_INTERPRETATION_sRGB));
  }
  return image;
}

std::vector<std::string> warnings_of(const Picture& picture, const SaveOptions& options) {
  const FormatTraits& can = traits(options.format);
  const std::string name = can.name;
  std::vector<std::string> warnings;
  if (picture.alpha() && !can.alpha)
    warnings.push_back("flattened on white: " + name + " has no transparency");
  if (picture.type() == SampleType::u16 && !can.deep)
    warnings.push_back("16-bit samples reduced to 8: " + name + " has no more");
  if (options.format == Format::gif)
    warnings.push_back("reduced to at most 256 colours" +
                       std::string(picture.alpha() ? ", transparency to all or nothing" : "") +
                       ": GIF has no more");
  if (needs_srgb(picture.state().metadata, picture.gray(), options.format))
    warnings.push_back("converted from its own colour profile to sRGB: " + name +
                       " cannot hold that profile");
  if (options.quality && !can.lossy)
    warnings.push_back("the quality has no effect: " + name + " is lossless");
  const auto dropped = dropped_by(picture.state().metadata, options.format);
  if (!dropped.empty()) {
    std::string list;
    for (const auto& item : dropped) list += (list.empty() ? "" : ", ") + item;
    warnings.push_back("metadata dropped: " + list + " (cannot be written to " + name + " here)");
  }
  return warnings;
}

// Bytes a pixel that encoders hold which take the whole picture; the rows of docs/formats.md with
// some margin.
std::size_t encoder_bytes(const Picture::State& state, const SaveOptions& options) {
  const auto sum = [&](std::size_t plain, std::size_t deep, std::size_t alpha,
                       std::size_t lossless) {
    return plain + (state.type == SampleType::u16 ? deep : 0) + (state.has_alpha ? alpha : 0) +
           (options.lossless ? lossless : 0);
  };
  switch (options.format) {
    case Format::webp:
      return sum(26, 0, 36, 16);
    case Format::gif:
      return sum(40, 0, 6, 0);
    case Format::jxl:
      return sum(60, 4, 40, 48);
    case Format::avif:
      return sum(96, 0, 8, 0);
    case Format::heic:
      return sum(44, 20, 14, 0);
    default:
      return 0;
  }
}

void check_sides(const Picture& picture, Size size, Format format) {
  const int limit = traits(format).max_side;
  if (size.width <= limit && size.height <= limit) return;
  throw Error(ErrorKind::input,
              std::string(traits(format).name) + " output of a " + std::to_string(picture.width()) +
                  "x" + std::to_string(picture.height()) + " picture: expected at most " +
                  std::to_string(limit) + " pixels a side, found " + std::to_string(size.width) +
                  "x" + std::to_string(size.height));
}

}  // namespace

void check_output(const Picture& picture, int width, int height, const SaveOptions& options) {
  const FormatTraits& can = traits(options.format);
  const std::string name = can.name;
  if (!can_write(options.format))
    throw Error(ErrorKind::input, "the libvips here cannot write " + name + " pictures");
  if (options.lossless && !can.lossless)
    throw Error(ErrorKind::usage, name + " cannot be written without loss");
  if (options.lossless && options.quality)
    throw Error(ErrorKind::usage, "a quality and lossless writing exclude each other");
  if (options.quality && (*options.quality < 1 || *options.quality > 100))
    throw Error(ErrorKind::usage,
                "expected a quality of 1 to 100, found " + std::to_string(*options.quality));
  const Size size = written_size(width, height, options);
  if (options.width < 0 || options.height < 0 || size.width > width || size.height > height)
    throw Error(ErrorKind::usage, "expected a written size of at most the computed " +
                                      std::to_string(width) + "x" + std::to_string(height) +
                                      " pixels, found " + std::to_string(size.width) + "x" +
                                      std::to_string(size.height));
  check_sides(picture, size, options.format);
}

std::size_t save_memory(const Picture& picture, int width, int height, const SaveOptions& options) {
  const auto& state = picture.state();
  const std::size_t pixel = (state.gray ? 1U : 3U) * size_of(state.type) + size_of(state.type);
  const std::size_t band = static_cast<std::size_t>(width) * pixel *
                           static_cast<std::size_t>(band_rows(width, height, pixel));
  const Size size = written_size(width, height, options);
  const std::size_t pixels =
      static_cast<std::size_t>(size.width) * static_cast<std::size_t>(size.height);
  return 4 * band + pixels * encoder_bytes(state, options);
}

std::vector<std::string> save(const Picture& picture, const RowReader& rgb, const RowReader& alpha,
                              int width, int height, const Output& output,
                              const SaveOptions& options, std::stop_token stop) {
  check_output(picture, width, height, options);
  if (picture.alpha() && !alpha)
    throw Error(ErrorKind::internal, "a picture with alpha is saved without rows of alpha");
  VipsMessages messages;
  OutputFile file(output, needs_file(options.format));
  RowImage rows(picture, rgb, alpha, width, height, options.format, stop);
  Watch watch;
  bool encoded = true;
  std::string refusal;
  try {
    const VImage image = resized(rows.image(), written_size(width, height, options));
    refusal = encode(watch.over(fitted(image, options.format)), options,
                     picture.state().significant_bits, file);
    encoded = refusal.empty();
  } catch (const vips::VError&) {
    encoded = false;
  }
  // Also where the encoder claims success: some go on with black rows after a failure.
  if (rows.error()) std::rethrow_exception(rows.error());
  if (stop.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled while writing");
  if (!file.failure().empty()) throw Error(ErrorKind::input, file.failure());
  if (!encoded || watch.failed())
    throw Error(ErrorKind::input, quoted_name(output.path) + ": cannot be encoded as " +
                                      std::string(to_string(options.format)) +
                                      (refusal.empty() ? messages.take() : " (" + refusal + ")"));
  file.finish();
  return warnings_of(picture, options);
}

}  // namespace elan::picture
