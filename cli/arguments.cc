#include "arguments.h"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <iostream>
#include <limits>
#include <memory>
#include <sstream>

#include "engine/tiles.h"

namespace elan::cli {
namespace {

constexpr Range kScales{1, 64};

[[noreturn]] void usage(const std::string& message) {
  throw Error(ErrorKind::usage, message);
}

// "--tile" of an option added as "-t,--tile".
std::string long_name(const std::string& names) {
  const auto dashes = names.find("--");
  return dashes == std::string::npos ? names : names.substr(dashes);
}

std::optional<long long> whole_number(std::string_view text) {
  long long value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// "0", "0,2": what may follow "cuda:".
bool is_index_list(std::string_view text) {
  while (true) {
    const auto comma = text.find(',');
    const auto index = whole_number(text.substr(0, comma));
    if (!index || *index < 0 || *index > 1023) return false;
    if (comma == std::string_view::npos) return true;
    text.remove_prefix(comma + 1);
  }
}

std::string checked_device(const std::string& device) {
  const auto colon = device.find(':');
  const std::string kind = device.substr(0, colon);
  const bool listed = colon != std::string::npos;
  if (listed && kind == "tensorrt" && device.ends_with(".plan")) return device;
  const bool known = listed ? (kind == "cuda" || kind == "tensorrt") &&
                                  is_index_list(std::string_view(device).substr(colon + 1))
                            : kind == "auto" || kind == "cpu" || kind == "reference" ||
                                  kind == "cuda" || kind == "tensorrt";
  if (!known) {
    usage(
        "--device: expected auto, cpu, reference, cuda[:N,...], tensorrt[:N] or "
        "tensorrt:FILE.plan, found " +
        device);
  }
  return device;
}

std::string device_of_gpu_list(const std::string& list) {
  if (list == "-1") return "cpu";
  if (!is_index_list(list)) {
    usage("--gpu: expected numbers of GPUs with commas between, or -1 for the CPU, found " + list);
  }
  return "cuda:" + list;
}

// The parser's complaints about how often an option was given, in our words; the others name the
// option as we would.
std::string in_our_words(const CLI::ParseError& error) {
  std::string text = error.what();
  std::replace(text.begin(), text.end(), '\n', ' ');
  const std::string option = text.substr(0, text.find(": "));
  if (error.get_name() != "ArgumentMismatch") return text;
  if (text.ends_with("missing")) return option + ": expected a value, found none";
  return option + ": expected once, found more than once";
}

// Breaks descriptions into lines.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(kColumn); }

  std::string make_option_desc(const CLI::Option* option) const override {
    std::istringstream words(option->get_description());
    std::string text, word;
    std::size_t column = 0;
    while (words >> word) {
      if (column != 0 && column + 1 + word.size() > kWidth - kColumn) {
        text += '\n';
        column = 0;
      } else if (column != 0) {
        text += ' ';
        ++column;
      }
      text += word;
      column += word.size();
    }
    return text;
  }

 private:
  static constexpr std::size_t kColumn = 28, kWidth = 92;
};

}  // namespace

CLI::Option* add_number(CLI::App& app, const std::string& names, int& value, Range range,
                        const std::string& help) {
  const std::string name = long_name(names);
  return app
      .add_option(
          names,
          [name, &value, range](const CLI::results_t& results) {
            const auto number = whole_number(results.front());
            if (!number || *number < range.least || *number > range.most) {
              const bool bounded = range.most != std::numeric_limits<int>::max();
              usage(name + ": expected a whole number " +
                    (bounded ? "from " + std::to_string(range.least) + " to " +
                                   std::to_string(range.most)
                             : "of at least " + std::to_string(range.least)) +
                    ", found " + results.front());
            }
            value = static_cast<int>(*number);
            return true;
          },
          help)
      ->type_name("N");
}

CLI::Option* add_real(CLI::App& app, const std::string& names, std::optional<double>& value,
                      const std::string& help) {
  const std::string name = long_name(names);
  return app
      .add_option(
          names,
          [name, &value](const CLI::results_t& results) {
            const std::string& text = results.front();
            double number = 0;
            const auto [end, error] =
                std::from_chars(text.data(), text.data() + text.size(), number);
            if (error != std::errc() || end != text.data() + text.size() || !(number >= 0)) {
              usage(name + ": expected a number of at least 0, found " + text);
            }
            value = number;
            return true;
          },
          help)
      ->type_name("X");
}

CLI::Option* add_text(CLI::App& app, const std::string& names, std::string& value,
                      const std::string& type, const std::string& help) {
  const std::string name = long_name(names);
  return app
      .add_option(
          names,
          [name, &value](const CLI::results_t& results) {
            if (results.front().empty()) usage(name + ": expected a value, found an empty one");
            value = results.front();
            return true;
          },
          help)
      ->type_name(type);
}

CLI::Option* add_names(CLI::App& app, const std::string& names, std::vector<std::string>& value,
                       const std::string& help) {
  // Below CLI11's own "unlimited", which would take "[a,b]" apart as a list.
  constexpr int kMost = 1 << 20;
  return app
      .add_option(
          names,
          [&value](const CLI::results_t& results) {
            value = results;
            return true;
          },
          help)
      ->type_name("IN")
      ->expected(1, kMost)
      ->allow_extra_args(false);
}

std::size_t parse_memory(std::string_view option, std::string_view text) {
  std::string_view rest = text;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
  if (rest.ends_with("iB")) {
    rest.remove_suffix(2);
  } else if (rest.ends_with('B')) {
    rest.remove_suffix(1);
  }
  int shift = 0;
  if (rest.size() == 1) {
    constexpr std::string_view kUnits = "KMGT";
    const char unit = rest[0] >= 'a' ? static_cast<char>(rest[0] - 'a' + 'A') : rest[0];
    const auto index = kUnits.find(unit);
    if (index != std::string_view::npos) shift = 10 * (static_cast<int>(index) + 1);
  }
  const bool unit_ok = rest.empty() || shift != 0;
  if (error != std::errc() || !unit_ok || value == 0 ||
      value > (std::numeric_limits<std::size_t>::max() >> shift)) {
    usage(std::string(option) + ": expected bytes such as 512M or 2G, found " + std::string(text));
  }
  return static_cast<std::size_t>(value) << shift;
}

PictureSize parse_picture_size(const std::string& option, std::string_view text, int longest) {
  const auto side = [&](std::string_view digits) {
    const auto value = whole_number(digits);
    return value && *value >= 1 && *value <= longest ? static_cast<int>(*value) : 0;
  };
  const auto cross = text.find('x');
  if (cross != std::string_view::npos) {
    const PictureSize size{side(text.substr(0, cross)), side(text.substr(cross + 1))};
    if (size.width != 0 && size.height != 0) return size;
  }
  usage(option + ": expected WIDTHxHEIGHT in pixels, for example 320x180, found " +
        std::string(text));
}

void add_model_to_file(CommandLine& line, ModelToFile& value, const std::string& type,
                       const std::string& help) {
  line.takes_operands = true;
  add_text(line.app, "-m,--model", value.model, "MODEL",
           "a .safetensors file or the name of a shipped model; or the first argument");
  add_text(line.app, "-o,--output", value.output, type, help);
  add_number(line.app, "-s,--scale", value.scale, kScales,
             "which of a shipped model's scales (default: 4)");
}

void take_operands(ModelToFile& value, const std::vector<std::string>& operands,
                   const std::string& expected) {
  for (const std::string& operand : operands) {
    if (value.model.empty()) {
      value.model = operand;
    } else if (value.output.empty()) {
      value.output = operand;
    } else {
      usage(expected + ", found " + operand);
    }
  }
}

void add_engine_options(CLI::App& app, EngineArguments& a) {
  constexpr int kAny = std::numeric_limits<int>::max();
  add_text(app, "-m,--model", a.model, "MODEL",
           "light, full, another shipped model's name, or a .safetensors file; "
           "elan-sr info lists them (default: light)");
  add_number(app, "-s,--scale", a.scale, kScales, "how many times larger (default: 4)");
  add_text(
      app, "-d,--device", a.device, "DEVICE",
      "auto, cpu, reference, cuda, cuda:N,N, tensorrt or tensorrt:FILE.plan (default: auto); one "
      "that is named is never replaced by another");
  add_text(app, "-g,--gpu", a.gpu, "LIST", "GPUs by number, 0,1; -1 means the CPU");
  add_text(app, "-p,--precision", a.precision, "NAME",
           "fp32, tf32, bf16, fp16, fp8, int8 or fp64 (default: the device's)");
  add_text(app, "--plan", a.plan, "FILE",
           "instead: a precision for each operation, as elan-sr tune writes it");
  add_number(app, "-t,--tile", a.tile, {0, kAny},
             "side of a tile in pixels, a multiple of 16 from 64 on; 0: the whole picture if it "
             "fits the memory, else the largest tile that does (default: 0)");
  add_text(app, "--max-memory", a.max_memory, "BYTES",
           "such as 512M or 2G (default: half of this machine's memory)");
  add_number(app, "--threads", a.threads, {0, 4096}, "CPU threads (default: 0, every core)");
}

EngineOptions engine_options(const CLI::App& app, const EngineArguments& a) {
  EngineOptions options;
  options.device = checked_device(a.device);
  if (!a.gpu.empty()) {
    if (app.count("--device") > 0) usage("--gpu and --device contradict each other: give one");
    options.device = device_of_gpu_list(a.gpu);
  }
  if (!a.precision.empty()) options.precision = parse_precision(a.precision);
  if (!a.plan.empty()) {
    if (options.precision) usage("--precision and --plan contradict each other: give one");
    // A name that begins with { stays the name of a file.
    options.precision_plan = a.plan.starts_with('{') ? "./" + a.plan : a.plan;
  }
  if (a.tile != 0 && (a.tile < kSmallestTile || a.tile % kTileGrid != 0)) {
    usage("--tile: expected 0 (automatic) or a multiple of " + std::to_string(kTileGrid) +
          " from " + std::to_string(kSmallestTile) + " on, found " + std::to_string(a.tile));
  }
  options.tile = a.tile;
  if (!a.max_memory.empty()) options.max_memory = parse_memory("--max-memory", a.max_memory);
  options.threads = a.threads;
  return options;
}

int run_command(const Command& command, std::vector<std::string> arguments) {
  const std::string full_name = std::string("elan-sr ") + command.name;
  CLI::App app(command.help, full_name);
  app.set_help_flag("-h,--help", "print this and exit");
  app.allow_extras();
  app.formatter(std::make_shared<HelpFormatter>());
  CommandLine line{app, {}, false};
  const Action action = command.setup(line);

  // CLI11 takes "--" after a list of values for the end of that list only. Here it is what it is
  // elsewhere: nothing behind it is an option.
  const auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  const std::vector<std::string> behind(dashes == arguments.end() ? dashes : dashes + 1,
                                        arguments.end());
  arguments.erase(dashes, arguments.end());
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    return kDone;
  } catch (const CLI::ParseError& error) {
    usage(in_our_words(error) + " (see " + full_name + " --help)");
  }
  for (const std::string& extra : app.remaining()) {
    if (extra.size() > 1 && extra.front() == '-') {
      usage(extra + ": no such option (see " + full_name + " --help)");
    }
    line.operands.push_back(extra);
  }
  line.operands.insert(line.operands.end(), behind.begin(), behind.end());
  if (!line.takes_operands && !line.operands.empty()) {
    usage(line.operands.front() + ": unexpected argument (see " + full_name + " --help)");
  }
  return action();
}

}  // namespace elan::cli
