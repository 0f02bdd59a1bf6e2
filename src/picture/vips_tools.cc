#include "picture/vips_tools.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <mutex>
#include <string_view>
#include <vector>

#include "elan/error.h"

namespace elan::picture {
namespace {

// Loaders that pass the allow-list, by class name; each takes its subclasses with it.
constexpr std::array kAllowedLoaders = {
    "VipsForeignLoadPng",   "VipsForeignLoadJpeg", "VipsForeignLoadWebp", "VipsForeignLoadTiff",
    "VipsForeignLoadNsgif", "VipsForeignLoadPpm",  "VipsForeignLoadHeif", "VipsForeignLoadJxl"};

void drop_message(const char*, GLogLevelFlags, const char*, void*) {}

// Length of the valid UTF-8 sequence at `text`, 0 when there is none.
std::size_t utf8_length(std::string_view text) {
  for (std::size_t length = 1; length <= std::min<std::size_t>(4, text.size()); ++length)
    if (g_utf8_validate(text.data(), static_cast<gssize>(length), nullptr)) return length;
  return 0;
}

struct Dealings {
  std::mutex mutex;
  unsigned long begun = 0;
  int alive = 0;
};
Dealings dealings;

std::string take_buffer() {
  char* buffer = vips_error_buffer_copy();  // empties it
  std::string text(buffer);
  g_free(buffer);
  return text;
}

// One problem often appears several times, in ever more general words; the first is the cause.
std::string_view first_line(std::string_view text) {
  return text.substr(0, text.find('\n'));
}

std::string in_brackets(std::string_view line) {
  if (line.empty()) return "";
  std::string text(line);
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  return " (" + text + ")";
}

}  // namespace

void initialise(int threads) {
  static std::once_flag once;
  std::call_once(once, [] {
    // libvips reports oddities of files and missing plugins on stderr, and GObject sizes of 0 that
    // libvips then refuses itself; it is not for a library to print.
    for (const char* domain : {"VIPS", "GLib-GObject"})
      g_log_set_handler(domain, static_cast<GLogLevelFlags>(G_LOG_LEVEL_MASK & ~G_LOG_FLAG_FATAL),
                        drop_message, nullptr);
    // libvips looks for its plugins relative to the program of this name; there is none, so it
    // uses the folder it was built with.
    if (vips_init("elan-sr: no program") != 0)
      throw Error(ErrorKind::internal, "libvips does not start: " + take_buffer());
    vips_operation_block_set("VipsForeignLoad", TRUE);
    for (const char* name : kAllowedLoaders) vips_operation_block_set(name, FALSE);
    vips_cache_set_max(0);  // every picture is processed once
  });
  vips_concurrency_set(std::max(1, threads));
}

bool has_operation(const char* nickname) {
  const GType type = vips_type_find("VipsOperation", nickname);
  if (type == 0) return false;
  auto* operation = vips_operation_new(nickname);
  if (operation == nullptr) {
    vips_error_clear();
    return false;
  }
  const bool blocked = (vips_operation_get_flags(operation) & VIPS_OPERATION_BLOCKED) != 0;
  g_object_unref(operation);
  return !blocked;
}

bool can_read(Format format) {
  return has_operation(traits(format).loader);
}

bool can_write(Format format) {
  return has_operation(traits(format).saver);
}

VipsMessages::VipsMessages() {
  const std::lock_guard lock(dealings.mutex);
  alone_ = dealings.alive++ == 0;
  begun_ = ++dealings.begun;
  if (alone_) vips_error_clear();
}

VipsMessages::~VipsMessages() {
  const std::lock_guard lock(dealings.mutex);
  --dealings.alive;
}

std::string VipsMessages::take() {
  const std::lock_guard lock(dealings.mutex);
  const std::string all = take_buffer();
  return alone_ && dealings.begun == begun_ ? in_brackets(first_line(all)) : "";
}

VImage Watch::over(const VImage& image) {
  VipsImage* raw = vips_image_new();
  VImage out(raw);
  if (vips_image_pipelinev(raw, image.get_image()->dhint, image.get_image(), nullptr) != 0 ||
      vips_image_generate(raw, vips_start_one, &Watch::generate, vips_stop_one, image.get_image(),
                          this) != 0)
    throw vips::VError();
  // The callbacks take the image without holding it.
  g_object_ref(image.get_image());
  vips_object_local(raw, image.get_image());
  return out;
}

int Watch::generate(VipsRegion* out, void* in, void*, void* self, gboolean*) {
  auto* region = static_cast<VipsRegion*>(in);
  const VipsRect& area = out->valid;
  if (vips_region_prepare(region, &area) == 0 &&
      vips_region_region(out, region, &area, area.left, area.top) == 0)
    return 0;
  static_cast<Watch*>(self)->failed_ = true;
  return -1;
}

VImage in_memory(const VImage& image) {
  Watch watch;
  VImage out = watch.over(image).copy_memory();
  if (watch.failed()) throw vips::VError();
  return out;
}

void* samples_in_memory(const VImage& image, std::size_t& bytes) {
  Watch watch;
  void* samples = watch.over(image).write_to_memory(&bytes);
  if (!watch.failed()) return samples;
  g_free(samples);
  throw vips::VError();
}

std::string quoted_name(const std::filesystem::path& path) {
  const std::string& name = path.native();
  std::string out = "'";
  for (std::size_t at = 0; at < name.size();) {
    const std::string_view rest = std::string_view(name).substr(at);
    const std::size_t length = utf8_length(rest);
    const auto c = static_cast<unsigned char>(rest[0]);
    if (length == 0 || c < ' ' || c == 0x7f) {
      char code[5];
      std::snprintf(code, sizeof code, "\\x%02x", c);
      out += code;
      ++at;
    } else {
      out += rest.substr(0, length);
      at += length;
    }
  }
  return out + "'";
}

std::string bytes_in_words(std::size_t bytes) {
  static constexpr std::array kUnits = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return std::to_string(bytes) + " bytes";
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %s", value, kUnits[unit]);
  return text;
}

}  // namespace elan::picture
