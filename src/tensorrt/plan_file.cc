#include "tensorrt/plan_file.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <system_error>

#include "core/whole_file.h"
#include "elan/error.h"
#include "model/fingerprint.h"
#include "onnx/export.h"

namespace elan::tensorrt {
namespace fs = std::filesystem;
namespace {

constexpr char kMagic[8] = {'E', 'L', 'A', 'N', 'T', 'R', 'T', '1'};

struct Header {
  char magic[8];
  std::uint32_t description = 0, reserved = 0;
  std::uint64_t plan = 0, hash = 0;
};
static_assert(sizeof(Header) == 32);

std::uint64_t hash_of(const PlanFile& file) {
  return xxh64(file.plan, xxh64(std::as_bytes(std::span(file.description)), 0));
}

[[noreturn]] void refuse(const fs::path& path, const std::string& what) {
  throw Error(ErrorKind::model, path.string() + ": " + what);
}

}  // namespace

std::string PlanFile::value(const std::string& name) const {
  const std::string wanted = name + ": ";
  for (std::size_t at = 0; at < description.size();) {
    const std::size_t end = std::min(description.find('\n', at), description.size());
    if (description.compare(at, wanted.size(), wanted) == 0) {
      return description.substr(at + wanted.size(), end - at - wanted.size());
    }
    at = end + 1;
  }
  return {};
}

void write_plan(const fs::path& path, const PlanFile& file) {
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.description = static_cast<std::uint32_t>(file.description.size());
  header.plan = file.plan.size();
  header.hash = hash_of(file);
  std::error_code error;
  if (path.has_parent_path()) fs::create_directories(path.parent_path(), error);
  write_whole_file(path, {std::as_bytes(std::span(&header, 1)),
                          std::as_bytes(std::span(file.description)), file.plan});
}

PlanFile read_plan(const fs::path& path) {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(path, error);
  std::ifstream in(path, std::ios::binary);
  if (error || !in) throw Error(ErrorKind::input, path.string() + ": cannot be read");
  Header header{};
  in.read(reinterpret_cast<char*>(&header), sizeof header);
  if (!in || std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) {
    refuse(path, "expected an engine that elan-sr build wrote, found another file");
  }
  const std::uintmax_t wanted = sizeof header + std::uintmax_t{header.description} + header.plan;
  if (wanted != size || header.plan > size) {
    refuse(path, "expected " + std::to_string(wanted) + " bytes, found " + std::to_string(size) +
                     ": damaged");
  }
  PlanFile file;
  file.description.resize(header.description);
  file.plan.resize(header.plan);
  in.read(file.description.data(), static_cast<std::streamsize>(file.description.size()));
  in.read(reinterpret_cast<char*>(file.plan.data()),
          static_cast<std::streamsize>(file.plan.size()));
  if (!in || hash_of(file) != header.hash) refuse(path, "expected its own hash: damaged");
  return file;
}

void check_plan(const fs::path& path, const PlanFile& file, const std::string& fingerprint,
                const Runtime& runtime) {
  const std::string plugins = file.value("plugins");
  const struct {
    const char* name;
    std::string expected;
  } lines[] = {{"recipe", std::to_string(kRecipeVersion)},
               {"tensorrt", runtime.flavour + " " + runtime.version},
               {"gpu", runtime.gpu},
               {"weights", fingerprint},
               {"plugins", plugins == "none" ? plugins : kPluginVersion}};
  for (const auto& line : lines) {
    const std::string found = file.value(line.name);
    if (found != line.expected) {
      refuse(path, "built for another " + std::string(line.name) + ": expected " + line.expected +
                       ", found " + (found.empty() ? "none" : found) + "; build it again");
    }
  }
}

Profile profile_of(const fs::path& path, const PlanFile& file) {
  Profile p;
  const std::string sizes = file.value("sizes");
  const int found = std::sscanf(sizes.c_str(), "%dx%d/%dx%d/%dx%d", &p.least.width, &p.least.height,
                                &p.best.width, &p.best.height, &p.most.width, &p.most.height);
  if (found == 2) {
    p.best = p.most = p.least;
  } else if (found != 6) {
    refuse(path, "expected sizes in its description, found '" + sizes + "'");
  }
  if (std::sscanf(file.value("batch").c_str(), "%d", &p.batch) != 1) {
    refuse(path, "expected a batch in its description, found '" + file.value("batch") + "'");
  }
  return p;
}

fs::path cache_folder() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return fs::path(cache) / "elan-sr";
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0') {
    throw Error(ErrorKind::input,
                "cache: expected HOME or XDG_CACHE_HOME to be set, found neither");
  }
  return fs::path(home) / ".cache" / "elan-sr";
}

}  // namespace elan::tensorrt
