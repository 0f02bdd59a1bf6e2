#include "core/whole_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <system_error>

#include "core/printable.h"
#include "elan/error.h"

namespace elan {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void cannot_write(const fs::path& path, const std::string& why) {
  throw Error(ErrorKind::input, printable(path.native()) + ": cannot be written: " + why);
}

bool is_device(const fs::path& path) {
  std::error_code error;
  const fs::file_type type = fs::status(path, error).type();
  return type == fs::file_type::character || type == fs::file_type::block ||
         type == fs::file_type::fifo || type == fs::file_type::socket;
}

}  // namespace

fs::path without_links(const fs::path& path) {
  std::error_code error;
  if (!fs::is_symlink(path, error)) return path;
  const fs::path target = fs::canonical(path, error);
  return error ? path : target;
}

void write_whole_file(const fs::path& path,
                      std::initializer_list<std::span<const std::byte>> parts) {
  const bool direct = is_device(path);
  const fs::path file = without_links(path);
  fs::path target = direct ? path : file;
  if (!direct) target += ".part";
  std::error_code error;
  {
    errno = 0;
    std::ofstream out(target, std::ios::binary | std::ios::trunc);
    for (const std::span<const std::byte> part : parts) {
      out.write(reinterpret_cast<const char*>(part.data()),
                static_cast<std::streamsize>(part.size()));
    }
    out.close();
    if (!out) {
      const int reason = errno;
      if (!direct) fs::remove(target, error);
      cannot_write(path, reason != 0 ? std::strerror(reason) : "the write failed");
    }
  }
  if (direct) return;
  fs::rename(target, file, error);
  if (error) {
    const std::string reason = error.message();
    fs::remove(target, error);
    cannot_write(path, reason);
  }
}

void expect_writable(const fs::path& path) {
  const fs::path file = without_links(path);
  std::error_code error;
  if (fs::is_directory(file, error)) cannot_write(path, std::strerror(EISDIR));
  // "." tells a folder from a file.
  const fs::path place = is_device(path) ? path : file.parent_path() / ".";
  if (access(place.c_str(), W_OK) != 0) cannot_write(path, std::strerror(errno));
}

}  // namespace elan
