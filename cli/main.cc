// The command line: finds the command in the table below and turns errors into exit statuses.

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "arguments.h"
#include "command.h"
#include "picture/picture.h"
#include "terminal.h"
#include "version.h"

namespace elan::cli {
namespace {

constexpr std::array kCommands{
    Command{"upscale", "enlarge pictures", setup_upscale},
    Command{"bench", "time a model, and compare with the machine's peak", setup_bench},
    Command{"eval", "measure PSNR and SSIM on test sets", setup_eval},
    Command{"compare", "measure how far one run is from another", setup_compare},
    Command{"tune", "find the precision that each operation needs", setup_tune},
    Command{"export", "write a model as ONNX, for other runtimes", setup_export},
    Command{"quantize", "make an 8-bit model from pictures", setup_quantize},
    Command{"build", "build a TensorRT engine", setup_build},
    Command{"info", "describe a model, or list the shipped ones", setup_info},
};

const Command* find_command(std::string_view name) {
  const auto* const found = std::find_if(kCommands.begin(), kCommands.end(),
                                         [&](const Command& c) { return name == c.name; });
  return found == kCommands.end() ? nullptr : found;
}

std::string help() {
  std::string text =
      "elan-sr enlarges pictures with ELAN networks.\n\n"
      "  elan-sr upscale -i small.png -o large.png\n\n"
      "Commands (elan-sr COMMAND --help says more):\n";
  for (const Command& c : kCommands) {
    text += "  " + std::string(c.name) + std::string(10 - std::string_view(c.name).size(), ' ') +
            c.help + "\n";
  }
  return text +
         "\n  -h, --help     print this and exit\n"
         "  --version      print version, build and formats, and exit\n"
         "\nOptions without a command are those of upscale.\n";
}

const Command& command_named(const std::string& name) {
  if (const Command* command = find_command(name)) return *command;
  std::string names;
  for (const Command& c : kCommands) names += (names.empty() ? "" : ", ") + std::string(c.name);
  throw Error(ErrorKind::usage, name + ": no such command; expected one of " + names);
}

int run(std::vector<std::string> arguments) {
  if (arguments.empty()) {
    write_stderr(help());
    return kUsage;
  }
  const std::string first = arguments.front();
  if (first == "-h" || first == "--help" || (first == "help" && arguments.size() == 1)) {
    std::cout << help();
    return kDone;
  }
  if (first == "--version" || first == "-V") {
    picture::initialise(1);
    std::cout << version_text();
    return kDone;
  }
  if (first == "help") return run_command(command_named(arguments[1]), {"--help"});
  if (first.starts_with('-')) return run_command(command_named("upscale"), std::move(arguments));
  arguments.erase(arguments.begin());
  return run_command(command_named(first), std::move(arguments));
}

// Whether all that was printed, by whichever means, went out. `reason`: why not, where what is left
// says so; the failure may be long ago, and its errno another's since.
bool flush_output(std::string& reason) {
  const bool failed = std::ferror(stdout) != 0 || !std::cout;
  std::cout.clear();  // it flushes nothing once it has failed
  errno = 0;
  if (std::cout.flush() && std::fflush(stdout) == 0) return !failed;
  if (errno != 0) reason = std::string(": ") + std::strerror(errno);
  return false;
}

int run_and_report(std::vector<std::string> arguments) {
  try {
    const int status = run(std::move(arguments));
    std::string reason;
    if (!flush_output(reason)) {
      if (!reader_is_gone(STDOUT_FILENO)) {
        print_error("standard output", "cannot be written" + reason);
      }
      return std::max<int>(status, kFailed);
    }
    return status;
  } catch (const Error& error) {
    print_error("", error.what());
    return status_of(error.kind());
  } catch (const std::bad_alloc&) {
    print_error("", "memory: ran out");
    return kDevice;
  } catch (const std::exception& error) {
    print_error("", std::string("internal error: ") + error.what());
    return kBug;
  }
}

}  // namespace

}  // namespace elan::cli

int main(int argc, char** argv) {
  // A write into a broken pipe then fails like any other write.
  std::signal(SIGPIPE, SIG_IGN);
  return elan::cli::run_and_report({argv + std::min(argc, 1), argv + argc});
}
