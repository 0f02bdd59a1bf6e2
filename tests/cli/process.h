// Runs the real command and keeps what it said.
//
//   const Outcome o = run_command({"upscale", "-i", in, "-o", out});
//   EXPECT_EQ(o.status, 0) << o.err;
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace elan::test {

struct Outcome {
  int status = 0;  // exit status; a signal that ended it: minus its number
  std::string out, err;
};

struct RunSettings {
  std::string input = {};                     // what standard input holds
  std::string output = {};                    // what takes standard output; empty: Outcome::out
  bool output_closed = false;                 // as after >&- in a shell
  std::string folder = {};                    // working directory; empty: ours
  std::vector<std::string> environment = {};  // "NAME=value", or "NAME" to unset
  bool as_nobody = false;                     // without root's right to read and write everything
  long file_size_limit = 0;                   // bytes a written file may have; 0: any
};

// Models are taken from the source tree unless the environment says otherwise.
Outcome run_command(const std::vector<std::string>& arguments, const RunSettings& settings = {});

// A run that is watched while it goes on. Its standard output is read only by finish().
class Running {
 public:
  explicit Running(const std::vector<std::string>& arguments, const RunSettings& settings = {});
  ~Running();
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  // The next line of stderr without its end; empty at the end of it.
  std::string next_error_line();
  void signal(int number) const;
  void close_output();  // as a reader that goes away
  // Waits for the end; `err` holds the lines not yet read.
  Outcome finish();

 private:
  friend Outcome run_command(const std::vector<std::string>&, const RunSettings&);

  pid_t child_ = -1;
  int in_ = -1, out_ = -1, err_ = -1;
  std::string input_, error_text_;
};

// How many lines there are.
int line_count(const std::string& text);

}  // namespace elan::test
