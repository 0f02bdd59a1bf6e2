#include "picture/fixtures.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

#include "picture/metadata.h"

namespace elan::picture {

PictureTest::PictureTest() {
  std::string name = (fs::temp_directory_path() / "elan-picture-XXXXXX").native();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
  folder_ = name;
}

PictureTest::~PictureTest() {
  std::error_code ignored;
  fs::permissions(folder_, fs::perms::owner_all, ignored);
  fs::remove_all(folder_, ignored);
}

std::vector<std::string> PictureTest::names() const {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder_))
    found.push_back(entry.path().filename().native());
  std::sort(found.begin(), found.end());
  return found;
}

VImage gradient(int width, int height, int bands, bool deep) {
  const double full = deep ? 65535 : 255;
  const VImage xy = VImage::xyz(width, height);
  const VImage x = xy.extract_band(0) * (full / std::max(1, width - 1));
  const VImage y = xy.extract_band(1) * (full / std::max(1, height - 1));
  const VImage b = (x + y) * -0.5 + full;
  VImage image = bands < 3 ? x : VImage::bandjoin({x, y, b});
  if (bands % 2 == 0) image = image.bandjoin(y * 0.75 + full / 4);
  const auto space = bands < 3 ? (deep ? VIPS_INTERPRETATION_GREY16 : VIPS_INTERPRETATION_B_W)
                               : (deep ? VIPS_INTERPRETATION_RGB16 : VIPS_INTERPRETATION_sRGB);
  return image.rint()
      .cast(deep ? VIPS_FORMAT_USHORT : VIPS_FORMAT_UCHAR)
      .copy(VImage::option()->set("interpretation", space))
      .copy_memory();
}

VImage image_of_samples(const void* data, std::size_t size, int width, int height, int bands,
                        VipsBandFormat format) {
  return VImage(vips_image_new_from_memory_copy(data, size, width, height, bands, format));
}

std::vector<double> pixel(const VImage& image, int x, int y) {
  return image.getpoint(x, y);
}

double difference(const VImage& a, const VImage& b) {
  return (a - b).abs().max();
}

VImage reopen(const fs::path& path) {
  return with_own_blobs(VImage::new_from_file(path.c_str())).copy_memory();
}

void write_file(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

RowReader nearest(const ConstImageView& in, int scale) {
  return [in, scale](int y, const ImageView& out) {
    ASSERT_EQ(out.type, in.type);
    ASSERT_EQ(out.width, in.width * scale);
    const std::size_t bytes = 3 * size_of(in.type);
    for (int row = 0; row < out.height; ++row) {
      const auto* from = in.data + static_cast<std::size_t>((y + row) / scale) * in.row_bytes;
      auto* to = out.data + static_cast<std::size_t>(row) * out.row_bytes;
      for (int x = 0; x < out.width; ++x)
        std::memcpy(to + static_cast<std::size_t>(x) * bytes,
                    from + static_cast<std::size_t>(x / scale) * bytes, bytes);
    }
  };
}

std::vector<std::string> enlarge(const fs::path& in, const fs::path& out, int scale,
                                 SaveOptions options) {
  const Picture picture = load({in}, {});
  options.format = format_of_extension(out.extension().native()).value();
  RowReader alpha;
  if (picture.alpha()) alpha = nearest(*picture.alpha(), scale);
  std::vector<std::string> warnings = picture.warnings();
  const auto more = save(picture, nearest(picture.rgb(), scale), alpha, scale * picture.width(),
                         scale * picture.height(), {out}, options);
  warnings.insert(warnings.end(), more.begin(), more.end());
  return warnings;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string all;
  for (const auto& line : lines) all += (all.empty() ? "" : " | ") + line;
  return all;
}

}  // namespace elan::picture
