// elan-sr info: what is in a weights file, and which models are there.

#include <iomanip>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "arguments.h"
#include "command.h"
#include "core/memory.h"
#include "model/describe.h"
#include "models.h"
#include "terminal.h"

namespace elan::cli {
namespace {

using Json = nlohmann::ordered_json;

struct InfoOptions {
  std::string model;
  bool json = false;
};

Json to_json(const ModelDescription& d) {
  const Architecture& arch = d.architecture;
  Json metadata = Json::object();
  for (const auto& [key, value] : d.metadata) metadata[valid_utf8(key)] = valid_utf8(value);
  return {{"file", valid_utf8(d.path)},
          {"variant", arch.variant()},
          {"scale", arch.scale},
          {"channels", arch.channels},
          {"elabs", arch.elabs},
          {"pairs", arch.pairs},
          {"expand", arch.expand},
          {"windows", arch.windows},
          {"value_range", arch.value_range},
          {"mean", d.mean},
          {"parameters", d.parameters},
          {"multiply_adds_per_pixel", d.multiply_adds},
          {"one_hot_shifts", d.one_hot_shifts},
          {"fingerprint", d.fingerprint},
          {"matrices", d.matrices},
          {"int8_matrices", d.int8_matrices},
          {"file_size", d.file_size},
          {"tensors", d.tensors},
          {"dtypes", d.dtypes},
          {"layout", to_string(d.layout)},
          {"prefix", valid_utf8(d.prefix)},
          {"metadata", metadata}};
}

std::string rounded(double value) {
  std::ostringstream text;
  text << std::setprecision(6) << value;
  return text.str();
}

void print_text(const ModelDescription& d) {
  const Architecture& arch = d.architecture;
  const auto line = [](const std::string& label, const std::string& text) {
    std::cout << label << std::string(16 - label.size(), ' ') << printable(text, true) << "\n";
  };
  line("file", d.path + " (" + format_bytes(d.file_size) + ")");
  line("network", arch.variant() + ", " + std::to_string(arch.scale) + " times larger");
  line("channels", std::to_string(arch.channels) + ", " + std::to_string(arch.expand) +
                       " times as many inside an LFE");
  line("blocks", std::to_string(arch.elabs) + " of " + std::to_string(arch.pairs) +
                     (arch.pairs == 1 ? " pair" : " pairs") + ", windows " +
                     std::to_string(arch.windows[0]) + ", " + std::to_string(arch.windows[1]) +
                     ", " + std::to_string(arch.windows[2]));
  line("parameters", std::to_string(d.parameters));
  line("work", rounded(d.multiply_adds / 1e6) + " million multiply-adds a pixel");
  line("trained on", "values 0 to " + rounded(arch.value_range) +
                         (d.mean.empty() ? ", no mean" : ", mean subtracted"));
  std::string types;
  for (const auto& [type, count] : d.dtypes) {
    types += (types.empty() ? "" : ", ") + std::to_string(count) + " " + type;
  }
  line("tensors", types + ", keys as in " + std::string(to_string(d.layout)) +
                      (d.prefix.empty() ? "" : " behind " + d.prefix));
  if (!d.one_hot_shifts) line("shifts", "not one-hot: runs on the reference only, slowly");
  if (d.int8_matrices > 0) {
    line("8 bits", std::to_string(d.int8_matrices) + " of " + std::to_string(d.matrices) +
                       " matrices of the body");
  }
  line("fingerprint", d.fingerprint);
  for (const auto& [key, value] : d.metadata) line("metadata", key + " = " + value);
}

int list_models(bool json) {
  const std::vector<ShippedModel> models = shipped_models();
  if (models.empty()) choose_model("", 0);  // says where they were expected
  Json list = Json::array();
  for (const ShippedModel& m : models) {
    list.push_back({{"name", m.family + "_x" + std::to_string(m.scale)},
                    {"scale", m.scale},
                    {"file", valid_utf8(m.path.string())}});
  }
  if (json) {
    std::cout << Json{{"models", list}}.dump(2) << "\n";
    return kDone;
  }
  for (const Json& m : list) {
    const std::string name = m["name"].get<std::string>();
    std::cout << name << std::string(name.size() < 20 ? 20 - name.size() : 1, ' ')
              << printable(m["file"].get<std::string>(), true) << "\n";
  }
  return kDone;
}

}  // namespace

Action setup_info(CommandLine& line) {
  auto options = std::make_shared<InfoOptions>();
  line.takes_operands = true;
  line.app.footer(
      "elan-sr info            lists the shipped models\nelan-sr info MODEL      describes one");
  add_text(line.app, "-m,--model", options->model, "MODEL",
           "a .safetensors file or the name of a shipped model; none: list the shipped ones");
  line.app.add_flag("--json", options->json, "print one JSON object");
  return [options, &line]() -> int {
    std::vector<std::string> models = line.operands;
    if (!options->model.empty()) models.push_back(options->model);
    if (models.empty()) return list_models(options->json);
    if (models.size() > 1) {
      throw Error(ErrorKind::usage,
                  "info: expected one model, found " + std::to_string(models.size()));
    }
    const ModelDescription description = describe_model(choose_model(models.front(), 0).one());
    if (options->json) {
      std::cout << to_json(description).dump(2) << "\n";
    } else {
      print_text(description);
    }
    return kDone;
  };
}

}  // namespace elan::cli
