#include "picture/encode.h"

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

VOption* options_of(const SaveOptions& save, int bits, int bands) {
  VOption* option = VImage::option();
  switch (save.format) {
    case Format::png:
      return option->set("compression", 3)->set("filter", VIPS_FOREIGN_PNG_FILTER_SUB);
    case Format::jpeg:
      return option->set("Q", save.quality.value_or(kJpegQuality))
          ->set("subsample_mode", VIPS_FOREIGN_SUBSAMPLE_OFF)
          ->set("optimize_coding", true);
    case Format::webp:
      return option->set("Q", save.lossless ? 75 : save.quality.value_or(kWebpQuality))
          ->set("lossless", save.lossless)
          ->set("smart_subsample", true);
    case Format::tiff:
      return option->set("compression", VIPS_FOREIGN_TIFF_COMPRESSION_DEFLATE)
          ->set("predictor", VIPS_FOREIGN_TIFF_PREDICTOR_HORIZONTAL)
          ->set("bigtiff", false);
    case Format::avif:
    case Format::heic:
      return option->set("Q", save.quality.value_or(kHeifQuality))
          ->set("compression", save.format == Format::avif ? VIPS_FOREIGN_HEIF_COMPRESSION_AV1
                                                           : VIPS_FOREIGN_HEIF_COMPRESSION_HEVC)
          ->set("bitdepth", bits > 12 ? 12 : bits)
          ->set("subsample_mode", VIPS_FOREIGN_SUBSAMPLE_OFF);
    case Format::jxl:
      return option->set("lossless", save.lossless)->set("Q", save.quality.value_or(kJxlQuality));
    case Format::pnm:
      return option->set("format",
                         bands == 1 ? VIPS_FOREIGN_PPM_FORMAT_PGM : VIPS_FOREIGN_PPM_FORMAT_PPM);
    case Format::gif:
      return option;
  }
  return option;
}

}  // namespace

bool encoder_seeks(Format format) {
  return format == Format::tiff;
}

void encode(const VImage& image, const SaveOptions& save, int bits, OutputFile& file) {
  const vips::VTarget target = target_of(file);
  VImage::call(traits(save.format).saver,
               options_of(save, bits, image.bands())->set("in", image)->set("target", target));
}

}  // namespace elan::picture
