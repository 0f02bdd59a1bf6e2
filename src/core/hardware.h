// What this machine calls itself, for reports.
#pragma once

#include <string>

namespace elan {

// "AMD EPYC 9B45, 2 cores": the processor's own name and how many cores this process may use.
std::string hardware_name();

}  // namespace elan
