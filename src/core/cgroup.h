// Limits that control groups put on this process.
#pragma once

#include <string>
#include <vector>

namespace elan {

// The contents of a control file in the process's own group and in every group above it, innermost
// first: `v2_file` of the unified hierarchy, or `v1_file` of the old `v1_controller` one. Groups
// without the file are left out.
std::vector<std::string> cgroup_values(const std::string& v2_file, const std::string& v1_controller,
                                       const std::string& v1_file);

}  // namespace elan
