#include "version.h"

#include <string_view>

#include "cpu/isa.h"
#include "elan/version.h"
#include "picture/picture.h"

namespace elan::cli {
namespace {

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

std::string formats() {
  using picture::Format;
  std::string text;
  for (const Format format : {Format::png, Format::jpeg, Format::webp, Format::tiff, Format::avif,
                              Format::heic, Format::gif, Format::pnm, Format::jxl}) {
    const bool read = picture::can_read(format), write = picture::can_write(format);
    if (!read && !write) continue;
    text += (text.empty() ? "" : ", ") + std::string(picture::to_string(format));
    if (!write) text += " (read only)";
    if (!read) text += " (write only)";
  }
  return text;
}

}  // namespace

std::string version_text() {
  return "elan-sr " + std::string(version()) + " (commit " + std::string(commit()) + ")\n" +
         "compiler:         " + compiler() + "\n" + "backends:         " ELANSR_BACKENDS "\n" +
         "instruction sets: " + cpu::usable_isa_names() + "\n" + "formats:          " + formats() +
         "\n";
}

}  // namespace elan::cli
