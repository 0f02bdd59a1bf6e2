#include "picture/format.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>
#include <utility>

namespace elan::picture {
namespace {

constexpr std::array kFormats = {Format::png,  Format::jpeg, Format::webp,
                                 Format::tiff, Format::avif, Format::heic,
                                 Format::gif,  Format::pnm,  Format::jxl};

// The sides are those the formats can express, or the encoder accepts where that is less.
constexpr FormatTraits kPng = {.extension = "png",
                               .name = "PNG",
                               .loader = "pngload_source",
                               .saver = "pngsave_target",
                               .max_side = 1000000,
                               .streams = true,
                               .alpha = true,
                               .deep = true,
                               .grey = true,
                               .lossy = false,
                               .lossless = true,
                               .icc = true,
                               .exif = true,
                               .xmp = true,
                               .iptc = false,
                               .density = true};
constexpr FormatTraits kJpeg = {.extension = "jpg",
                                .name = "JPEG",
                                .loader = "jpegload_source",
                                .saver = "jpegsave_target",
                                .max_side = 65500,
                                .streams = true,
                                .alpha = false,
                                .deep = false,
                                .grey = true,
                                .lossy = true,
                                .lossless = false,
                                .icc = true,
                                .exif = true,
                                .xmp = true,
                                .iptc = true,
                                .density = true};
constexpr FormatTraits kWebp = {.extension = "webp",
                                .name = "WebP",
                                .loader = "webpload_source",
                                .saver = "webpsave_target",
                                .max_side = 16383,
                                .streams = false,
                                .alpha = true,
                                .deep = false,
                                .grey = false,
                                .lossy = true,
                                .lossless = true,
                                .icc = true,
                                .exif = true,
                                .xmp = true,
                                .iptc = false,
                                .density = false};
constexpr FormatTraits kTiff = {.extension = "tif",
                                .name = "TIFF",
                                .loader = "tiffload_source",
                                .saver = "tiffsave_target",
                                .max_side = 10000000,
                                .streams = true,
                                .alpha = true,
                                .deep = true,
                                .grey = true,
                                .lossy = false,
                                .lossless = true,
                                .icc = true,
                                .exif = false,
                                .xmp = true,
                                .iptc = false,
                                .density = true};
constexpr FormatTraits kAvif = {.extension = "avif",
                                .name = "AVIF",
                                .loader = "heifload_source",
                                .saver = "heifsave_target",
                                .max_side = 16384,
                                .streams = false,
                                .alpha = true,
                                .deep = true,
                                .grey = false,
                                .lossy = true,
                                .lossless = false,
                                .icc = true,
                                .exif = true,
                                .xmp = true,
                                .iptc = false,
                                .density = false};
constexpr FormatTraits kHeic = {.extension = "heic",
                                .name = "HEIC",
                                .loader = "heifload_source",
                                .saver = "heifsave_target",
                                .max_side = 16384,
                                .streams = false,
                                .alpha = true,
                                .deep = true,
                                .grey = false,
                                .lossy = true,
                                .lossless = false,
                                .icc = true,
                                .exif = true,
                                .xmp = true,
                                .iptc = false,
                                .density = false};
constexpr FormatTraits kGif = {.extension = "gif",
                               .name = "GIF",
                               .loader = "gifload_source",
                               .saver = "gifsave_target",
                               .max_side = 65535,
                               .streams = false,
                               .alpha = true,
                               .deep = false,
                               .grey = false,
                               .lossy = false,
                               .lossless = false,
                               .icc = false,
                               .exif = false,
                               .xmp = false,
                               .iptc = false,
                               .density = false};
constexpr FormatTraits kPnm = {.extension = "ppm",
                               .name = "PNM",
                               .loader = "ppmload_source",
                               .saver = "ppmsave_target",
                               .max_side = 10000000,
                               .streams = true,
                               .alpha = false,
                               .deep = true,
                               .grey = true,
                               .lossy = false,
                               .lossless = true,
                               .icc = false,
                               .exif = false,
                               .xmp = false,
                               .iptc = false,
                               .density = false};
constexpr FormatTraits kJxl = {.extension = "jxl",
                               .name = "JPEG XL",
                               .loader = "jxlload_source",
                               .saver = "jxlsave_target",
                               .max_side = 1000000,
                               .streams = false,
                               .alpha = true,
                               .deep = true,
                               .grey = true,
                               .lossy = true,
                               .lossless = true,
                               .icc = true,
                               .exif = false,
                               .xmp = false,
                               .iptc = false,
                               .density = false};

bool starts_with(std::span<const unsigned char> head, std::size_t at, std::string_view text) {
  return head.size() >= at + text.size() &&
         std::equal(text.begin(), text.end(), head.begin() + static_cast<std::ptrdiff_t>(at),
                    [](char a, unsigned char b) { return static_cast<unsigned char>(a) == b; });
}

// The brands of an ISO media file: the major one, then the compatible ones.
std::optional<Format> format_of_brands(std::span<const unsigned char> head) {
  if (!starts_with(head, 4, "ftyp")) return std::nullopt;
  const std::size_t box = std::size_t{head[2]} << 8 | head[3];
  const std::size_t end = std::min(head.size(), box);
  bool heif = false;
  for (std::size_t at = 8; at + 4 <= end; at += at == 8 ? 8 : 4) {
    if (starts_with(head, at, "avif") || starts_with(head, at, "avis")) return Format::avif;
    for (const char* brand : {"heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"})
      heif = heif || starts_with(head, at, brand);
  }
  return heif ? std::optional(Format::heic) : std::nullopt;
}

}  // namespace

const FormatTraits& traits(Format format) {
  switch (format) {
    case Format::png:
      return kPng;
    case Format::jpeg:
      return kJpeg;
    case Format::webp:
      return kWebp;
    case Format::tiff:
      return kTiff;
    case Format::avif:
      return kAvif;
    case Format::heic:
      return kHeic;
    case Format::gif:
      return kGif;
    case Format::pnm:
      return kPnm;
    case Format::jxl:
      return kJxl;
  }
  return kPng;
}

std::string_view to_string(Format format) {
  return traits(format).name;
}

std::string_view extension_of(Format format) {
  return traits(format).extension;
}

std::optional<Format> format_of_extension(std::string_view extension) {
  if (extension.starts_with('.')) extension.remove_prefix(1);
  std::string lower(extension);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  static constexpr std::pair<std::string_view, Format> kExtensions[] = {
      {"png", Format::png},   {"jpg", Format::jpeg},  {"jpeg", Format::jpeg},
      {"jpe", Format::jpeg},  {"jfif", Format::jpeg}, {"webp", Format::webp},
      {"tif", Format::tiff},  {"tiff", Format::tiff}, {"avif", Format::avif},
      {"heic", Format::heic}, {"heif", Format::heic}, {"gif", Format::gif},
      {"pnm", Format::pnm},   {"ppm", Format::pnm},   {"pgm", Format::pnm},
      {"pbm", Format::pnm},   {"jxl", Format::jxl}};
  for (const auto& [name, format] : kExtensions)
    if (name == lower) return format;
  return std::nullopt;
}

std::optional<Format> format_of_content(std::span<const unsigned char> head) {
  if (starts_with(head, 0, "\x89PNG\r\n\x1a\n")) return Format::png;
  if (starts_with(head, 0, "\xff\xd8\xff")) return Format::jpeg;
  if (starts_with(head, 0, "RIFF") && starts_with(head, 8, "WEBP")) return Format::webp;
  if (starts_with(head, 0, "GIF87a") || starts_with(head, 0, "GIF89a")) return Format::gif;
  using namespace std::string_view_literals;
  for (std::string_view magic : {"II*\0"sv, "MM\0*"sv, "II+\0"sv, "MM\0+"sv})
    if (starts_with(head, 0, magic)) return Format::tiff;
  if (starts_with(head, 0, "\xff\x0a") || starts_with(head, 0, "\0\0\0\x0cJXL \r\n\x87\n"sv))
    return Format::jxl;
  // Pf and PF are portable float maps: recognised so that their samples can be refused by name.
  if (head.size() > 2 && head[0] == 'P' && std::isspace(head[2]) != 0 &&
      ((head[1] >= '1' && head[1] <= '6') || head[1] == 'f' || head[1] == 'F'))
    return Format::pnm;
  return format_of_brands(head);
}

std::string readable_formats() {
  std::string list;
  for (Format format : kFormats) {
    if (!can_read(format)) continue;
    if (!list.empty()) list += ", ";
    list += traits(format).name;
  }
  return list;
}

bool streams(Format format) {
  return traits(format).streams;
}

}  // namespace elan::picture
