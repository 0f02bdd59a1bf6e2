// Text for people: names that may hold any byte, and where it goes.
#pragma once

#include <string>
#include <string_view>

namespace elan::cli {

bool stderr_is_terminal();

// Whether a line on it can be written over: a terminal, and none that TERM calls dumb.
bool stderr_rewrites_lines();

// A line on stderr that is written over and over, cut to the terminal's width; nothing where lines
// cannot be written over. Gone when the object is. Not for several threads at once.
class StatusLine {
 public:
  explicit StatusLine(bool enabled = stderr_rewrites_lines()) : enabled_(enabled) {}
  ~StatusLine() { clear(); }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  void show(std::string_view text);
  void clear();
  [[nodiscard]] bool shown() const { return !text_.empty(); }

 private:
  const bool enabled_;
  std::string text_;  // there now
};

// Bytes that are not valid UTF-8 as \xNN.
std::string valid_utf8(std::string_view text);

// The same, and control characters as \xNN, too.
std::string escaped(std::string_view text);

// One line: control characters as \n, \t or \xNN. For a terminal also bytes that are not valid
// UTF-8 and the control characters beyond ASCII; otherwise these stay as they are, so that a name
// in a log is the name of the file.
std::string printable(std::string_view text, bool for_terminal);

// "elan-sr: NAME: TEXT" on stderr, in one write; the name is left out where it is empty or `text`
// begins with it.
void print_error(std::string_view name, std::string_view text);

// The same with "warning: " in front.
void print_warning(std::string_view name, std::string_view text);

// The line those print, without line end.
std::string message_line(std::string_view kind, std::string_view name, std::string_view text,
                         bool for_terminal);

// Whether `descriptor` is a pipe whose reader has gone away: it knows, and nobody else wants to.
bool reader_is_gone(int descriptor);

// Writes all of it to stderr; errors are nobody's to report.
void write_stderr(std::string_view text);

}  // namespace elan::cli
