#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "elan/error.h"
#include "picture/alpha.h"
#include "picture/colour.h"
#include "picture/metadata.h"
#include "picture/picture_state.h"
#include "picture/pnm.h"

namespace elan::picture {
namespace {

[[noreturn]] void fail(const std::string& name, const std::string& what) {
  throw Error(ErrorKind::input, name + ": " + what);
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

Descriptor open_input(const Input& input, const std::string& name) {
  Descriptor fd(input.descriptor >= 0 ? ::fcntl(input.descriptor, F_DUPFD_CLOEXEC, 0)
                                      : ::open(input.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) fail(name, std::string("cannot be read: ") + std::strerror(errno));
  struct stat status{};
  if (::fstat(fd.get(), &status) == 0 && S_ISDIR(status.st_mode))
    fail(name, "expected a picture, found a folder");
  return fd;
}

vips::VSource open_source(const Descriptor& fd) {
  VipsSource* source = vips_source_new_from_descriptor(fd.get());
  if (source == nullptr) throw vips::VError();
  return vips::VSource(source);
}

std::span<const unsigned char> beginning_of(const vips::VSource& source, std::size_t bytes) {
  unsigned char* head = nullptr;
  const gint64 size = vips_source_sniff_at_most(source.get_source(), &head, bytes);
  if (size < 0) throw vips::VError();
  return {head, static_cast<std::size_t>(size)};
}

Format recognise(const vips::VSource& source, const std::string& name) {
  const auto head = beginning_of(source, kSniffBytes);
  if (head.empty()) fail(name, "expected a picture, found an empty file");
  const auto format = format_of_content(head);
  if (!format)
    fail(name, "expected a picture in one of the formats " + readable_formats() +
                   ", found something else");
  if (!can_read(*format))
    fail(name, "found a " + std::string(to_string(*format)) +
                   " picture, which the libvips here cannot read");
  return *format;
}

void check_sides(std::uint64_t width, std::uint64_t height, const std::string& name) {
  if (width >= 1 && width <= VIPS_MAX_COORD && height >= 1 && height <= VIPS_MAX_COORD) return;
  fail(name, "expected a picture of 1 to " + std::to_string(VIPS_MAX_COORD) +
                 " pixels a side, found " + std::to_string(width) + "x" + std::to_string(height));
}

// What libvips would believe, and take memory for, before it looks at the samples.
void check_pnm(const vips::VSource& source, const Descriptor& fd, const std::string& name) {
  const auto header = parse_pnm_header(beginning_of(source, kPnmHeaderBytes));
  if (!header) fail(name, "expected a PNM picture, found one whose header is damaged or cut off");
  check_sides(header->width, header->height, name);
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) return;
  const auto found = static_cast<std::uint64_t>(status.st_size);
  if (found < header->file_bytes())
    fail(name, "expected a PNM picture of " + std::to_string(header->file_bytes()) +
                   " bytes at least for " + std::to_string(header->width) + "x" +
                   std::to_string(header->height) + " pixels, found one truncated to " +
                   std::to_string(found));
}

VImage open_image(const vips::VSource& source, Format format, VipsAccess access) {
  VImage image;
  VImage::call(traits(format).loader, VImage::option()
                                          ->set("source", source)
                                          ->set("out", &image)
                                          ->set("access", access)
                                          ->set("fail_on", VIPS_FAIL_ON_TRUNCATED));
  return image;
}

int orientation_of(const VImage& image) {
  return vips_image_get_orientation(image.get_image());
}

int int_field(const VImage& image, const char* field, int otherwise) {
  return image.get_typeof(field) == 0 ? otherwise : image.get_int(field);
}

// Bytes a pixel that the decoder holds for the whole picture while it decodes.
std::size_t decoder_bytes(const VImage& header, Format format) {
  const auto bands = static_cast<std::size_t>(header.bands());
  switch (format) {
    case Format::png:
      return int_field(header, "interlaced", 0) != 0 ? bands * vips_format_sizeof(header.format())
                                                     : 0;
    case Format::jpeg:
      return int_field(header, "interlaced", 0) != 0 ? bands * sizeof(std::int16_t) : 0;
    case Format::tiff:
    case Format::pnm:
      return 0;
    default:
      return 4 * vips_format_sizeof(header.format());
  }
}

// Bytes at the same time while loading: the decoder's, the samples as stored where they are needed
// in another order than the file's or more than once, and our planes made from them.
std::size_t decoded_bytes(const VImage& header, Format format) {
  const std::size_t pixels =
      static_cast<std::size_t>(header.width()) * static_cast<std::size_t>(header.height());
  const std::size_t sample = vips_format_sizeof(header.format());
  const bool alpha = header.has_alpha();
  const bool whole = alpha || orientation_of(header) > 1;
  const std::size_t stored = whole ? static_cast<std::size_t>(header.bands()) * sample : 0;
  const std::size_t fill = alpha ? sizeof(std::int32_t) : 0;
  const std::size_t planes = 3 * sample * (alpha ? 2 : 1);
  return pixels * (decoder_bytes(header, format) + stored + planes + fill);
}

void check_size(const VImage& header, Format format, const LoadOptions& options,
                const std::string& name) {
  const std::size_t needed = decoded_bytes(header, format);
  if (options.max_memory == 0 || needed <= options.max_memory) return;
  fail(name, "a picture of " + std::to_string(header.width()) + "x" +
                 std::to_string(header.height()) + " pixels needs " + bytes_in_words(needed) +
                 " to decode, more than the " + bytes_in_words(options.max_memory) + " allowed");
}

void note_pages(const VImage& header, std::vector<std::string>& warnings) {
  if (header.get_typeof(VIPS_META_N_PAGES) == 0) return;
  const int pages = header.get_int(VIPS_META_N_PAGES);
  if (pages > 1)
    warnings.push_back("only the first of its " + std::to_string(pages) + " pages is used");
}

// Stretches samples that do not use the full range of their type: PNM with any largest value,
// 10- and 12-bit HEIF samples that arrive shifted up with zeros below.
VImage to_full_range(const VImage& image, Format format, int significant_bits) {
  const bool deep = image.format() == VIPS_FORMAT_USHORT;
  const double full = deep ? 65535 : 255;
  double found = full;
  if (format == Format::pnm && int_field(image, "ppm-max-value", 0) > 1)
    found = int_field(image, "ppm-max-value", 0);
  else if ((format == Format::avif || format == Format::heic) && deep)
    found = ((1 << significant_bits) - 1) << (16 - significant_bits);
  if (found == full) return image;
  return image.linear(full / found, 0.5).cast(image.format());  // the cast cuts; 0.5 rounds
}

int significant_bits_of(const VImage& image, Format format) {
  if (image.format() != VIPS_FORMAT_USHORT) return 8;
  return format == Format::avif || format == Format::heic ? int_field(image, "heif-bitdepth", 16)
                                                          : 16;
}

Plane take_plane(const VImage& image) {
  Plane plane;
  void* data = samples_in_memory(image, plane.bytes);
  plane.data = {static_cast<std::byte*>(data), g_free};
  return plane;
}

VImage replicated(const VImage& band) {
  return VImage::bandjoin({band, band, band});
}

bool is_opaque(const VImage& alpha) {
  return alpha.min() >= (alpha.format() == VIPS_FORMAT_USHORT ? 65535 : 255);
}

void decode(Picture::State& state, VImage image, const std::string& name) {
  image = to_full_range(image, state.format, state.significant_bits);
  image = to_rgb_or_grey(image, name, state.warnings);
  state.gray = is_grey(image);
  state.type = image.format() == VIPS_FORMAT_USHORT ? SampleType::u16 : SampleType::u8;
  if (state.format == Format::tiff && image.get_typeof(VIPS_META_IPTC_NAME) != 0) {
    // libvips 8.14 takes the number of words for the number of bytes.
    image = image.copy();
    image.remove(VIPS_META_IPTC_NAME);
    state.warnings.emplace_back("metadata dropped: IPTC (cannot be read from TIFF here)");
  }
  state.metadata = keep_metadata(image);
  const int colours = state.gray ? 1 : 3;
  state.has_alpha = image.bands() > colours;
  if (state.has_alpha) image = in_memory(image);  // read three times below
  const VImage colour = image.extract_band(0, VImage::option()->set("n", colours));
  state.rgb = take_plane(state.gray ? replicated(colour) : colour);
  if (!state.has_alpha) return;
  const VImage alpha = image.extract_band(colours);
  if (is_opaque(alpha)) return;
  state.alpha = take_plane(replicated(alpha));
  const ImageView rgb{state.rgb.data.get(), state.width, state.height, state.type,
                      state.row_bytes()};
  fill_transparent(rgb, ImageView{state.alpha.data.get(), state.width, state.height, state.type,
                                  state.row_bytes()});
}

}  // namespace

Picture load(const Input& input, const LoadOptions& options) {
  const std::string name = quoted_name(input.path);
  const Descriptor fd = open_input(input, name);
  VipsMessages messages;
  auto state = std::make_unique<Picture::State>();
  std::string expected = "cannot be read";
  try {
    const vips::VSource source = open_source(fd);
    state->format = recognise(source, name);
    expected = "expected a " + std::string(to_string(state->format)) +
               " picture, found one that is damaged, truncated or of an unsupported kind";
    if (state->format == Format::pnm) check_pnm(source, fd, name);
    VImage image = with_own_blobs(open_image(source, state->format, VIPS_ACCESS_SEQUENTIAL));
    check_sides(static_cast<std::uint64_t>(image.width()),
                static_cast<std::uint64_t>(image.height()), name);
    check_samples(image, name);
    check_size(image, state->format, options, name);
    note_pages(image, state->warnings);
    state->significant_bits = significant_bits_of(image, state->format);
    // Turning needs rows in another order than the file has them.
    if (orientation_of(image) > 1) image = in_memory(image).autorot();
    state->width = image.width();
    state->height = image.height();
    decode(*state, image, name);
  } catch (const vips::VError&) {
    fail(name, expected + messages.take());
  } catch (const std::bad_alloc&) {
    fail(name, "not enough memory to decode it");
  }
  return Picture(std::move(state));
}

}  // namespace elan::picture
