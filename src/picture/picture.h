// Picture files: decoding, colour, alpha, metadata, encoding. The only code that sees libvips, and
// only in the .cc files of this folder.
//
//   Picture picture = load({"in.png"}, {});
//   check_output(picture, 4 * picture.width(), 4 * picture.height(), save_options);
//   save(picture, colour_rows, alpha_rows, 4 * w, 4 * h, out, save_options);
//
// Functions are safe to call from several threads on different pictures.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "elan/image.h"

namespace elan::picture {

// Formats on the allow-list; those this libvips cannot read or write are reported as such.
enum class Format { png, jpeg, webp, tiff, avif, heic, gif, pnm, jxl };

std::string_view to_string(Format format);
std::optional<Format> format_of_extension(std::string_view extension);  // ".JPG", "jpg"
std::string_view extension_of(Format format);                           // "jpg", no dot
bool can_read(Format format);
bool can_write(Format format);

// Must be called once, before anything else here, from the main thread. `threads`: how many
// libvips may use for its own work.
void initialise(int threads);

// Where bytes come from: a file (any name, never parsed for options) or an open descriptor such
// as standard input.
struct Input {
  std::filesystem::path path;  // for messages too
  int descriptor = -1;         // >= 0: read from here; `path` is then just a name to print
};

struct LoadOptions {
  std::size_t max_memory = 0;  // bytes this picture may take decoded; 0: no limit
};

// A decoded picture as the network wants it, with everything needed to write its enlargement:
// upright, in its own colour space (RGB, or grey replicated to RGB), 8 or 16 bits; where it has
// alpha, the colour under transparent pixels is filled from the nearest opaque one.
// Move-only; immutable after loading.
class Picture {
 public:
  Picture(Picture&&) noexcept;
  Picture& operator=(Picture&&) noexcept;
  ~Picture();

  [[nodiscard]] int width() const;  // pixels, after orientation
  [[nodiscard]] int height() const;
  [[nodiscard]] SampleType type() const;  // u8 or u16
  [[nodiscard]] bool gray() const;        // stored as grey: written as grey again
  [[nodiscard]] Format format() const;
  [[nodiscard]] ConstImageView rgb() const;
  // Alpha replicated to RGB; no value when the picture has none or is fully opaque.
  [[nodiscard]] std::optional<ConstImageView> alpha() const;
  [[nodiscard]] const std::vector<std::string>& warnings() const;  // "first of 12 pages used"
  [[nodiscard]] std::size_t memory() const;                        // bytes held

  struct State;
  explicit Picture(std::unique_ptr<State> state);
  [[nodiscard]] const State& state() const { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

// Throws Error (input): missing, unreadable, not a picture, not on the allow-list, truncated, float
// samples, too large. One line, with the name, what was expected and what was found.
Picture load(const Input& input, const LoadOptions& options);

struct SaveOptions {
  Format format = Format::png;
  std::optional<int> quality = {};  // 1..100; none: the format's default for enlargements
  bool lossless = false;
  int width = 0, height = 0;  // written size in pixels when it is smaller than the computed one
                              // (Lanczos3); one of them 0: keeps the proportions; both: as computed
};

// Writes rows [y, y + out.height) of the enlarged picture (RGB, or alpha replicated to RGB), asked
// for from top to bottom, in the type of the picture (u8 or u16). From any one thread at a time.
using RowReader = std::function<void(int y, const ImageView& out)>;

// Where bytes go. Writing to a path goes through a temporary name beside it that is renamed when
// complete and removed on any error; a descriptor (standard output), a device or a FIFO is written
// directly.
struct Output {
  std::filesystem::path path;
  int descriptor = -1;
};

// Everything that can be refused before computing: options that do not fit the format, limits of
// the format (WebP 16383, JPEG 65500 pixels a side), formats this build cannot write.
// width, height: the computed size. Throws Error (input for limits, usage for options).
void check_output(const Picture& picture, int width, int height, const SaveOptions& options);

// Bytes save() will hold at most, besides the rows it is being given (formats that keep the whole
// picture: width * height * bands * bytes and more; streamed ones: some bands).
std::size_t save_memory(const Picture& picture, int width, int height, const SaveOptions& options);

// True when save() asks for rows as it writes them instead of collecting the whole picture.
bool streams(Format format);

// Writes the enlargement of `picture`, width x height as computed, with its metadata. `alpha` is
// empty when picture.alpha() has no value. Returns warnings ("the IPTC data was dropped: ...").
// Throws Error (input) when writing fails, whatever a reader throws, Error (cancelled) when stop
// is set. No partial file is left at or beside a path.
std::vector<std::string> save(const Picture& picture, const RowReader& rgb, const RowReader& alpha,
                              int width, int height, const Output& output,
                              const SaveOptions& options, std::stop_token stop = {});

// Removes the temporary files of saves now under way; async-signal-safe, for signal handlers.
void remove_temporary_files() noexcept;

}  // namespace elan::picture
