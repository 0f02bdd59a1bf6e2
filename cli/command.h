// What a command of elan-sr is, and the exit statuses they share.
//
// A command lives in its own file and gives one setup function, which adds the command's options
// to the parser and returns what is to be done once they are parsed:
//
//   Action setup_count(CommandLine& line) {
//     auto options = std::make_shared<CountOptions>();
//     add_number(line.app, "-n,--number", options->number, {1, 9}, "how often");
//     return [options] { return count(*options); };
//   }
//
// and one row in the table of main.cc.
#pragma once

#include <CLI/App.hpp>
#include <functional>
#include <string>
#include <vector>

#include "elan/error.h"

namespace elan::cli {

enum Status : int {
  kDone = 0,
  kFailed = 1,  // an input or output failed; the others were done
  kUsage = 2,   // found before any work
  kModel = 3,
  kDevice = 4,  // or memory
  kBug = 70,
  kSignal = 128,  // + the signal's number
};

int status_of(ErrorKind kind);

struct CommandLine {
  CLI::App& app;
  // Arguments that are neither options nor their values, and everything after "--", byte for byte.
  // Filled before the action is called.
  std::vector<std::string> operands;
  bool takes_operands = false;  // set by setup; otherwise operands are a usage error
};

// Returns the exit status. May throw Error, which main prints and maps to a status.
using Action = std::function<int()>;

struct Command {
  const char* name;
  const char* help;  // one line
  Action (*setup)(CommandLine& line);
};

Action setup_upscale(CommandLine& line);
Action setup_info(CommandLine& line);
Action setup_bench(CommandLine& line);
Action setup_eval(CommandLine& line);
Action setup_compare(CommandLine& line);
Action setup_tune(CommandLine& line);
Action setup_export(CommandLine& line);
Action setup_quantize(CommandLine& line);
Action setup_build(CommandLine& line);

}  // namespace elan::cli
