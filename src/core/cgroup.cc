#include "core/cgroup.h"

#include <filesystem>
#include <fstream>
#include <iterator>

namespace elan {
namespace {

// The group's path in a line "ID:CONTROLLERS:PATH" of /proc/self/cgroup that lists `controller`
// (empty: the unified hierarchy); empty if there is none.
std::string group_path(const std::string& controller) {
  std::ifstream lines("/proc/self/cgroup");
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool matches = controller.empty()
                             ? controllers == ",,"
                             : controllers.find("," + controller + ",") != std::string::npos;
    if (matches) return line.substr(second + 1);
  }
  return {};
}

void collect(const std::filesystem::path& root, const std::string& group, const std::string& file,
             std::vector<std::string>& values) {
  std::filesystem::path path =
      (root / std::filesystem::path(group).relative_path()).lexically_normal();
  for (;;) {
    if (std::ifstream in(path / file); in) {
      values.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    }
    if (path == root || !path.has_relative_path() || path.parent_path() == path) return;
    path = path.parent_path();
  }
}

}  // namespace

std::vector<std::string> cgroup_values(const std::string& v2_file, const std::string& v1_controller,
                                       const std::string& v1_file) {
  std::vector<std::string> values;
  collect("/sys/fs/cgroup", group_path(""), v2_file, values);
  if (values.empty()) {
    collect("/sys/fs/cgroup/" + v1_controller, group_path(v1_controller), v1_file, values);
  }
  return values;
}

}  // namespace elan
