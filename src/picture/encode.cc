#include "picture/encode.h"

#include <cstdint>
#include <cstring>

namespace elan::picture {
namespace {

gint64 write_bytes(VipsTargetCustom*, const void* data, gint64 size, void* file) {
  return static_cast<OutputFile*>(file)->write(data, static_cast<std::size_t>(size));
}

gint64 read_bytes(VipsTargetCustom*, void* data, gint64 size, void* file) {
  return static_cast<OutputFile*>(file)->read(data, static_cast<std::size_t>(size));
}

gint64 seek_to(VipsTargetCustom*, gint64 offset, int whence, void* file) {
  return static_cast<OutputFile*>(file)->seek(offset, whence);
}

vips::VTarget target_of(OutputFile& file) {
  VipsTargetCustom* target = vips_target_custom_new();
  if (target == nullptr) throw vips::VError();
  g_signal_connect(target, "write", G_CALLBACK(write_bytes), &file);
  g_signal_connect(target, "read", G_CALLBACK(read_bytes), &file);
  g_signal_connect(target, "seek", G_CALLBACK(seek_to), &file);
  return vips::VTarget(VIPS_TARGET(target));
}

// Defaults for enlargements: an enlargement is smooth, so a high quality costs little, and the
// artefacts of a low one are what its makers wanted to get rid of.
constexpr int kJpegQuality = 95;
constexpr int kWebpQuality = 95;
constexpr int kHeifQuality = 85;
constexpr int kJxlQuality = 95;

// A quarter of the time of libvips' default for 5 % more bytes.
constexpr int kHeifEffort = 2;

// Offsets in a plain TIFF have 32 bits; compressed data is nearly always shorter than this.
constexpr std::uint64_t kPlainTiffBytes = 3'900'000'000;

// Deep AVIF is always written with 12 bits: with 10, libheif 1.15 gives libaom a profile on which
// libaom ends the process.
int heif_bits(Format format, int bits) {
  if (bits <= 8) return 8;
  return format == Format::heic && bits <= 10 ? 10 : 12;
}

VOption* options_of(const VImage& image, const SaveOptions& save, int bits) {
  VOption* option = VImage::option();
  switch (save.format) {
    case Format::png:
      return option->set("compression", 3)->set("filter", VIPS_FOREIGN_PNG_FILTER_ALL);
    case Format::jpeg:  // optimised coding makes libjpeg hold the whole picture
      return option->set("Q", save.quality.value_or(kJpegQuality))
          ->set("subsample_mode", VIPS_FOREIGN_SUBSAMPLE_OFF);
    case Format::webp:
      return option->set("Q", save.lossless ? 75 : save.quality.value_or(kWebpQuality))
          ->set("lossless", save.lossless)
          ->set("smart_subsample", true);
    case Format::tiff:
      return option->set("compression", VIPS_FOREIGN_TIFF_COMPRESSION_LZW)
          ->set("predictor", VIPS_FOREIGN_TIFF_PREDICTOR_HORIZONTAL)
          ->set("bigtiff", VIPS_IMAGE_SIZEOF_IMAGE(image.get_image()) > kPlainTiffBytes);
    case Format::avif:
    case Format::heic:
      return option->set("Q", save.quality.value_or(kHeifQuality))
          ->set("compression", save.format == Format::avif ? VIPS_FOREIGN_HEIF_COMPRESSION_AV1
                                                           : VIPS_FOREIGN_HEIF_COMPRESSION_HEVC)
          ->set("effort", kHeifEffort)
          ->set("bitdepth", heif_bits(save.format, bits))
          ->set("subsample_mode", VIPS_FOREIGN_SUBSAMPLE_OFF);
    case Format::jxl:
      return option->set("lossless", save.lossless)->set("Q", save.quality.value_or(kJxlQuality));
    case Format::pnm:
      return option->set(
          "format", image.bands() == 1 ? VIPS_FOREIGN_PPM_FORMAT_PGM : VIPS_FOREIGN_PPM_FORMAT_PPM);
    case Format::gif:
      return option;
  }
  return option;
}

vips::VSource reopened(const OutputFile& file) {
  VipsSource* source = vips_source_new_from_descriptor(file.descriptor());
  if (source == nullptr) throw vips::VError();
  return vips::VSource(source);
}

std::string refusal_of_heif(const OutputFile& file) {
  try {
    const vips::VSource source = reopened(file);
    VImage image;
    VImage::call("heifload_source", VImage::option()->set("source", source)->set("out", &image));
    return "";
  } catch (const vips::VError& error) {
    // Before what the loader says stands what libheif said while writing, which went unnoticed.
    const bool size = std::strstr(error.what(), "Invalid image size") != nullptr;
    vips_error_clear();  // it must not be there still when the next picture fails
    return size ? "the encoder refuses pictures of this size"
                : "what was encoded cannot be read back";
  }
}

}  // namespace

bool needs_file(Format format) {
  return format == Format::tiff || format == Format::avif || format == Format::heic;
}

std::string encode(const VImage& image, const SaveOptions& save, int bits, OutputFile& file) {
  const vips::VTarget target = target_of(file);
  VImage::call(traits(save.format).saver,
               options_of(image, save, bits)->set("in", image)->set("target", target));
  // libvips does not hear of it when the encoder behind libheif refuses a picture.
  const bool heif = save.format == Format::avif || save.format == Format::heic;
  return heif ? refusal_of_heif(file) : "";
}

}  // namespace elan::picture
