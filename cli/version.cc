#include "version.h"

#include <string_view>

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

std::string instruction_sets() {
  std::string text;
#if defined(__x86_64__)
  const auto add = [&](const char* name, bool present) {
    if (present) text += (text.empty() ? "" : " ") + std::string(name);
  };
  __builtin_cpu_init();
  add("sse4.2", __builtin_cpu_supports("sse4.2") != 0);
  add("avx2", __builtin_cpu_supports("avx2") != 0);
  add("fma", __builtin_cpu_supports("fma") != 0);
  add("avx512f", __builtin_cpu_supports("avx512f") != 0);
  add("avx512vnni", __builtin_cpu_supports("avx512vnni") != 0);
#elif defined(__aarch64__)
  text = "neon";
#endif
  return text;
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
         "instruction sets: " + instruction_sets() + "\n" + "formats:          " + formats() + "\n";
}

}  // namespace elan::cli
