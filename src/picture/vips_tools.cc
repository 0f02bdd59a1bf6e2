#include "picture/vips_tools.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <mutex>
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
      throw Error(ErrorKind::internal, "libvips does not start: " + take_vips_error());
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

std::string take_vips_error() {
  char* buffer = vips_error_buffer_copy();
  std::string text(buffer);
  g_free(buffer);
  // One problem often appears several times, in ever more general words; the first is the cause.
  const std::size_t end = text.find('\n');
  if (end != std::string::npos) text.resize(end);
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ') c = ' ';
  return text.empty() ? "no reason given" : text;
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
