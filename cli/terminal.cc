#include "terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>

namespace elan::cli {
namespace {

// Length of the valid UTF-8 sequence at the start of `text`; 0 if there is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const unsigned char second = byte(1);
  const bool overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
  const bool surrogate = first == 0xED && second > 0x9F;
  const bool beyond = first == 0xF4 && second > 0x8F;
  return overlong || surrogate || beyond ? 0 : length;
}

void append_hex(std::string& out, std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (const char c : bytes) {
    const auto b = static_cast<unsigned char>(c);
    out += "\\x";
    out += kDigits[b >> 4];
    out += kDigits[b & 15];
  }
}

void append_escaped(std::string& out, std::string_view bytes) {
  if (bytes == "\n") {
    out += "\\n";
  } else if (bytes == "\t") {
    out += "\\t";
  } else {
    append_hex(out, bytes);
  }
}

bool is_control(std::string_view c) {
  const auto first = static_cast<unsigned char>(c[0]);
  if (c.size() == 1) return first < 0x20 || first == 0x7F;
  return c.size() == 2 && first == 0xC2 && static_cast<unsigned char>(c[1]) < 0xA0;
}

std::size_t terminal_columns() {
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

}  // namespace

bool stderr_is_terminal() {
  return isatty(STDERR_FILENO) == 1;
}

bool stderr_rewrites_lines() {
  const char* term = std::getenv("TERM");
  return stderr_is_terminal() && term != nullptr && std::string_view(term) != "dumb";
}

void StatusLine::show(std::string_view text) {
  if (!enabled_ || text == text_) return;
  text_ = text;
  write_stderr("\r" + text_.substr(0, terminal_columns() - 1) + "\x1b[K");
}

void StatusLine::clear() {
  if (shown()) write_stderr("\r\x1b[K");
  text_.clear();
}

std::string valid_utf8(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    if (length == 0) {
      append_escaped(out, text.substr(0, 1));
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

std::string escaped(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const std::string_view c = text.substr(0, length == 0 ? 1 : length);
    if (length == 0 || (length == 1 && is_control(c))) {
      append_hex(out, c);
    } else {
      out += c;
    }
    text.remove_prefix(c.size());
  }
  return out;
}

std::string printable(std::string_view text, bool for_terminal) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const std::string_view c = text.substr(0, length == 0 ? 1 : length);
    const bool strange = length == 0 || (length > 1 && is_control(c));
    if ((strange && for_terminal) || (length == 1 && is_control(c))) {
      append_escaped(out, c);
    } else {
      out += c;
    }
    text.remove_prefix(c.size());
  }
  return out;
}

std::string message_line(std::string_view kind, std::string_view name, std::string_view text,
                         bool for_terminal) {
  std::string line = "elan-sr: ";
  line += kind;
  const bool says_it = text.starts_with(name) && text.substr(name.size()).starts_with(':');
  if (!name.empty() && !says_it) {
    line += name;
    line += ": ";
  }
  line += text;
  return printable(line, for_terminal);
}

bool reader_is_gone(int descriptor) {
  pollfd waiting{descriptor, POLLOUT, 0};
  return poll(&waiting, 1, 0) == 1 && (waiting.revents & POLLERR) != 0;
}

void write_stderr(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

void print_error(std::string_view name, std::string_view text) {
  write_stderr(message_line("", name, text, stderr_is_terminal()) + "\n");
}

void print_warning(std::string_view name, std::string_view text) {
  write_stderr(message_line("warning: ", name, text, stderr_is_terminal()) + "\n");
}

}  // namespace elan::cli
