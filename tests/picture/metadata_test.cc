// What each format keeps, against the table in docs/formats.md, and that nothing kept is stale.
#include <cstdint>
#include <map>
#include <set>
#include <sstream>

#include "picture/fixtures.h"

namespace elan::picture {
namespace {

constexpr const char* kThumbnail = "\xff\xd8 the old picture, small \xff\xd9";

void put16(std::string& out, unsigned value) {
  out += static_cast<char>(value & 255);
  out += static_cast<char>(value >> 8 & 255);
}

void put32(std::string& out, std::size_t value) {
  put16(out, static_cast<unsigned>(value & 0xffff));
  put16(out, static_cast<unsigned>(value >> 16));
}

struct Entry {
  unsigned tag, type;
  std::size_t count, value;
};

void put_directory(std::string& out, const std::vector<Entry>& entries, std::size_t next) {
  put16(out, static_cast<unsigned>(entries.size()));
  for (const Entry& e : entries) {
    put16(out, e.tag);
    put16(out, e.type);
    put32(out, e.count);
    put32(out, e.value);
  }
  put32(out, next);
}

// Little-endian EXIF of a picture that a camera turned: maker, orientation 6, its size in pixels
// and a thumbnail.
std::string exif() {
  constexpr unsigned kAscii = 2, kShort = 3, kLong = 4, kRational = 5;
  const std::string maker("Elan Optics\0", 12), thumbnail = kThumbnail;
  const std::size_t first = 8, own = first + 2 + 6 * 12 + 4, second = own + 2 + 2 * 12 + 4,
                    data = second + 2 + 3 * 12 + 4, density = data + maker.size(),
                    picture = density + 8;
  std::string out("II*\0", 4);
  put32(out, first);
  put_directory(out,
                {{0x10f, kAscii, maker.size(), data},
                 {0x112, kShort, 1, 6},
                 {0x11a, kRational, 1, density},
                 {0x11b, kRational, 1, density},
                 {0x128, kShort, 1, 2},
                 {0x8769, kLong, 1, own}},
                second);
  put_directory(out, {{0xa002, kLong, 1, 48}, {0xa003, kLong, 1, 32}}, 0);
  put_directory(
      out, {{0x103, kShort, 1, 6}, {0x201, kLong, 1, picture}, {0x202, kLong, 1, thumbnail.size()}},
      0);
  out += maker;
  put32(out, 300);
  put32(out, 1);
  return out + thumbnail;
}

const std::string kXmp =
    "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-"
    "syntax-ns#\"><rdf:Description xmlns:tiff=\"http://ns.adobe.com/tiff/1.0/\" rdf:about=\"\" "
    "tiff:Orientation=\"6\" tiff:Make=\"Elan\"/></rdf:RDF></x:xmpmeta>";

class Metadata : public PictureTest {
 protected:
  // A turned JPEG that carries everything; the EXIF is put in by hand, as libvips would tidy it.
  void make_source(const fs::path& path) {
    VImage image = gradient(48, 32, 3);
    VipsBlob* icc = nullptr;
    ASSERT_EQ(vips_profile_load("p3", &icc, nullptr), 0);
    std::size_t size = 0;
    const void* bytes = vips_blob_get(icc, &size);
    vips_image_set_blob_copy(image.get_image(), VIPS_META_ICC_NAME, bytes, size);
    vips_area_unref(VIPS_AREA(icc));
    vips_image_set_blob_copy(image.get_image(), VIPS_META_XMP_NAME, kXmp.data(), kXmp.size());
    const std::string iptc(
        "Photoshop 3.0\0"
        "8BIM\x04\x04\0\0\0\0\0\x08\x1c\x02\x19\0\x03"
        "abc",
        34);
    vips_image_set_blob_copy(image.get_image(), VIPS_META_IPTC_NAME, iptc.data(), iptc.size());
    image = image.copy(VImage::option()->set("xres", 300 / 25.4)->set("yres", 300 / 25.4));
    image.write_to_file(path.c_str(), VImage::option()->set("Q", 95));
    std::string jpeg = read_file(path);
    // libvips made an EXIF block of its own, for the density
    const std::size_t old = jpeg.find("Exif");
    ASSERT_NE(old, std::string::npos);
    const std::size_t start = old - 4;
    const std::size_t length = std::size_t{static_cast<unsigned char>(jpeg[old - 2])} << 8 |
                               static_cast<unsigned char>(jpeg[old - 1]);
    const std::string block = std::string("Exif\0\0", 6) + exif();
    std::string marker = "\xff\xe1";
    marker += static_cast<char>((block.size() + 2) >> 8);
    marker += static_cast<char>((block.size() + 2) & 255);
    jpeg.replace(start, length + 2, marker + block);
    write_file(path, jpeg);
  }
};

bool has(const VImage& image, const char* field) {
  return image.get_typeof(field) != 0;
}

std::string text_of(const VImage& image, const char* field) {
  if (!has(image, field)) return {};
  char* text = nullptr;
  if (vips_image_get_as_string(image.get_image(), field, &text) != 0) return {};
  std::string out(text);
  g_free(text);
  return out;
}

std::string blob_of(const VImage& image, const char* field) {
  if (!has(image, field)) return {};
  std::size_t size = 0;
  const auto* data = static_cast<const char*>(image.get_blob(field, &size));
  return {data, size};
}

// The rows of the table of metadata in the documentation: format -> what is kept.
std::map<std::string, std::set<std::string>> documented() {
  std::istringstream doc(read_file(ELANSR_FORMATS_DOC));
  std::map<std::string, std::set<std::string>> table;
  std::vector<std::string> columns;
  for (std::string line; std::getline(doc, line);) {
    if (!line.starts_with('|')) {
      columns.clear();
      continue;
    }
    std::vector<std::string> cells;
    std::istringstream row(line.substr(1));
    for (std::string cell; std::getline(row, cell, '|');) {
      const std::size_t first = cell.find_first_not_of(' '), last = cell.find_last_not_of(' ');
      cells.push_back(first == std::string::npos ? "" : cell.substr(first, last - first + 1));
    }
    if (cells[0] == "Written to")
      columns = cells;
    else if (!columns.empty())
      for (std::size_t i = 1; i < cells.size() && i < columns.size(); ++i) {
        table[cells[0]];
        if (cells[i] == "yes") table[cells[0]].insert(columns[i]);
      }
  }
  return table;
}

TEST_F(Metadata, EachFormatKeepsWhatTheTableSaysAndTheWarningNamesTheRest) {
  make_source(file("in.jpg"));
  const auto table = documented();
  ASSERT_EQ(table.size() - table.count("---"), 9U) << "the table of docs/formats.md was not found";
  for (const Format format : {Format::png, Format::jpeg, Format::webp, Format::tiff, Format::avif,
                              Format::heic, Format::gif, Format::pnm, Format::jxl}) {
    const std::string name(to_string(format));
    const fs::path out = file("out." + std::string(extension_of(format)));
    const std::string warnings = joined(enlarge(file("in.jpg"), out));
    const VImage image = reopen(out);
    std::set<std::string> kept;
    if (blob_of(image, VIPS_META_ICC_NAME).size() > 300) kept.insert("ICC");
    if (text_of(image, "exif-ifd0-Make").starts_with("Elan Optics")) kept.insert("EXIF");
    if (blob_of(image, VIPS_META_XMP_NAME).find("tiff:Make=\"Elan\"") != std::string::npos)
      kept.insert("XMP");
    if (blob_of(image, VIPS_META_IPTC_NAME).find("abc") != std::string::npos) kept.insert("IPTC");
    if (std::abs(image.xres() * 25.4 - 300) < 1) kept.insert("density");
    ASSERT_TRUE(table.contains(name)) << name;
    EXPECT_EQ(kept, table.at(name)) << name << ", warnings: " << warnings;
    const std::size_t list = warnings.find("metadata dropped: ");
    for (const char* item : {"EXIF", "XMP", "IPTC"}) {
      const bool named =
          list != std::string::npos && warnings.find(item, list) != std::string::npos;
      EXPECT_EQ(named, !kept.contains(item)) << name << " " << item << ": " << warnings;
    }
  }
}

TEST_F(Metadata, NothingKeptTellsOfTheOldPicture) {
  make_source(file("in.jpg"));
  ASSERT_NE(read_file(file("in.jpg")).find(kThumbnail), std::string::npos);
  ASSERT_EQ(load({file("in.jpg")}, {}).width(), 32) << "the source is not turned";
  for (const char* name : {"out.jpg", "out.png", "out.webp", "out.avif", "out.heic"}) {
    enlarge(file("in.jpg"), file(name), 3);
    const VImage image = reopen(file(name));
    ASSERT_EQ(image.width(), 96) << name;
    EXPECT_EQ(read_file(file(name)).find("the old picture"), std::string::npos) << name;
    EXPECT_FALSE(has(image, "jpeg-thumbnail-data")) << name;
    EXPECT_EQ(vips_image_get_orientation(image.get_image()), 1) << name;
    if (has(image, "exif-ifd0-Orientation")) {
      EXPECT_EQ(text_of(image, "exif-ifd0-Orientation").substr(0, 1), "1") << name;
    }
    EXPECT_EQ(text_of(image, "exif-ifd2-PixelXDimension").substr(0, 3), "96 ") << name;
    EXPECT_EQ(text_of(image, "exif-ifd2-PixelYDimension").substr(0, 4), "144 ") << name;
    const std::string xmp = blob_of(image, VIPS_META_XMP_NAME);
    if (!xmp.empty()) {
      EXPECT_NE(xmp.find("tiff:Orientation=\"1\""), std::string::npos) << name;
    }
  }
}

TEST_F(Metadata, PicturesWithoutDensityGetThatOfScreens) {
  gradient(8, 8, 3).write_to_file(file("in.ppm").c_str());
  enlarge(file("in.ppm"), file("out.png"));
  EXPECT_NEAR(reopen(file("out.png")).xres() * 25.4, 72, 0.1);
}

TEST_F(Metadata, CommentsOfPngStay) {
  VImage image = gradient(8, 8, 3);
  vips_image_set_string(image.get_image(), "png-comment-0-Title", "A title");
  image.write_to_file(file("in.png").c_str());
  enlarge(file("in.png"), file("out.png"));
  EXPECT_EQ(text_of(reopen(file("out.png")), "png-comment-0-Title"), "A title");
}

TEST_F(Metadata, BrokenMetadataDoNotStopAPicture) {
  make_source(file("in.jpg"));
  std::string jpeg = read_file(file("in.jpg"));
  const std::size_t at = jpeg.find("Exif");
  for (std::size_t i = at + 14; i < at + 60; ++i) jpeg[i] = static_cast<char>(i * 37);
  write_file(file("bad.jpg"), jpeg);
  for (const char* name : {"out.jpg", "out.png", "out.webp", "out.tif"}) {
    enlarge(file("bad.jpg"), file(name));
    EXPECT_TRUE(fs::exists(file(name))) << name;
  }
}

}  // namespace
}  // namespace elan::picture
