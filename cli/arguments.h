// Reading the command line: options that say what they expected, and the ones that every command
// which runs a model shares.
#pragma once

#include <CLI/App.hpp>
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "command.h"
#include "core/picture_size.h"
#include "elan/engine.h"

namespace elan::cli {

// Parses `arguments` (without the names of program and command) with the command's options and
// runs its action. Prints help when asked to. Throws Error (usage) for everything the parser
// objects to, and whatever the action throws.
int run_command(const Command& command, std::vector<std::string> arguments);

struct Range {
  int least, most;
};

// Adds an option that takes one whole number; anything else throws Error (usage) that names the
// option, the range and what was found.
CLI::Option* add_number(CLI::App& app, const std::string& names, int& value, Range range,
                        const std::string& help);

// The same for a number of at least 0.
CLI::Option* add_real(CLI::App& app, const std::string& names, std::optional<double>& value,
                      const std::string& help);

// Adds an option that takes one string as it is: no lists, no escapes.
CLI::Option* add_text(CLI::App& app, const std::string& names, std::string& value,
                      const std::string& type, const std::string& help);

// Adds an option that takes one or more file names as they are: brackets, commas and braces are
// part of the name.
CLI::Option* add_names(CLI::App& app, const std::string& names, std::vector<std::string>& value,
                       const std::string& help);

// "512M", "2G", "1500000" to bytes; throws Error (usage).
std::size_t parse_memory(std::string_view option, std::string_view text);

// "320x180", sides from 1 to `longest`; throws Error (usage) that names the option.
PictureSize parse_picture_size(const std::string& option, std::string_view text,
                               int longest = std::numeric_limits<int>::max());

// What a command that makes a file of a model is told.
struct ModelToFile {
  std::string model;   // name or path; empty: the default
  std::string output;  // empty: not given
  int scale = 0;       // 0: not given
};

// Adds -m, -o and -s, and lets the command take operands; `type` and `help` are of the output.
void add_model_to_file(CommandLine& line, ModelToFile& value, const std::string& type,
                       const std::string& help);

// The operands, to what no option named: the model, then the output. Throws Error (usage) for one
// too many: "export: expected a model and an output", then what was found.
void take_operands(ModelToFile& value, const std::vector<std::string>& operands,
                   const std::string& expected);

// Model, device and how to use it.
struct EngineArguments {
  std::string model;  // name or path; empty: the default
  int scale = 0;      // 0: not given
  std::string device = "auto";
  std::string gpu;        // "0,1"; "-1"; empty: not given
  std::string precision;  // empty: the device's default
  std::string plan;       // a file; empty: none
  std::string max_memory;
  int threads = 0;
  int tile = 0;
};

void add_engine_options(CLI::App& app, EngineArguments& arguments);

// Throws Error (usage) for words that mean nothing and options that contradict each other.
// `app` tells which options were given.
EngineOptions engine_options(const CLI::App& app, const EngineArguments& arguments);

}  // namespace elan::cli
