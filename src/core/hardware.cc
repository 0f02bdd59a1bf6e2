#include "core/hardware.h"

#include <sys/utsname.h>

#include <fstream>

#include "core/thread_pool.h"

namespace elan {

std::string hardware_name() {
  std::string name;
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; name.empty() && std::getline(cpuinfo, line);) {
    if (line.starts_with("model name")) name = line.substr(line.find(':') + 2);
  }
  if (name.empty()) {
    utsname system{};
    name = uname(&system) == 0 ? system.machine : "unknown processor";
  }
  const int cores = usable_cores();
  return name + ", " + std::to_string(cores) + (cores == 1 ? " core" : " cores");
}

}  // namespace elan
