#include "model/stages.h"

namespace elan {
namespace {

std::string name_of(int elab, const char* module, int pair) {
  return "body." + std::to_string(elab) + "." + module + "." + std::to_string(pair);
}

}  // namespace

std::string lfe_stage(int elab, int pair) {
  return name_of(elab, "lfe", pair);
}
std::string gmsa_stage(int elab, int pair) {
  return name_of(elab, "gmsa", pair);
}

std::string stream_name(int elab) {
  return "body." + std::to_string(elab) + ".residual";
}

std::vector<std::string> stream_names(const Architecture& arch) {
  std::vector<std::string> names;
  for (int i = 0; i < arch.elabs; ++i) names.push_back(stream_name(i));
  return names;
}

std::vector<std::string> stage_names(const Architecture& arch) {
  std::vector<std::string> names{"head"};
  for (int i = 0; i < arch.elabs; ++i) {
    for (int j = 0; j < arch.pairs; ++j) {
      names.push_back(lfe_stage(i, j));
      names.push_back(gmsa_stage(i, j));
    }
  }
  names.insert(names.end(), {"body", "tail", "output"});
  return names;
}

std::vector<std::string> operation_names(const Architecture& arch) {
  std::vector<std::string> names{"head", "tail", "residual"};
  for (int i = 0; i < arch.elabs; ++i) {
    for (int j = 0; j < arch.pairs; ++j) {
      for (const char* op : {"conv0", "conv1"}) names.push_back(lfe_stage(i, j) + "." + op);
      if (j == 0) names.push_back(gmsa_stage(i, j) + ".project_inp.q");
      names.push_back(gmsa_stage(i, j) + ".project_inp.v");
      if (j == 0) names.push_back(gmsa_stage(i, j) + ".qk");
      for (const char* op : {"av", "project_out"}) names.push_back(gmsa_stage(i, j) + "." + op);
    }
  }
  return names;
}

}  // namespace elan
