// What this program is and was built with.
#pragma once

#include <string>

namespace elan::cli {

// Several lines: version and commit, compiler, backends, instruction sets, picture formats.
std::string version_text();

}  // namespace elan::cli
