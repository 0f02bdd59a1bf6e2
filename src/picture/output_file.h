// Where encoded bytes go: a temporary file that replaces the output when complete, or something
// that is already open or cannot be replaced.
#pragma once

#include <filesystem>
#include <string>

#include "picture/picture.h"

namespace elan::picture {

// Not for concurrent use; different objects may be used at once. Errors are Error (input).
class OutputFile {
 public:
  // `needs_file`: what is written must be open to seeking and reading; an output that is not (a
  // pipe) is then filled from an unnamed file in the temporary folder.
  OutputFile(const Output& output, bool needs_file);
  ~OutputFile();  // removes the temporary file unless finish() has succeeded
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  // As write(2), read(2) and lseek(2); a failed write is remembered for failure().
  long long write(const void* data, std::size_t size) noexcept;
  long long read(void* data, std::size_t size) noexcept;
  long long seek(long long offset, int whence) noexcept;

  // Puts the finished file in its place. Throws when that fails.
  void finish();

  // For reading back what was written, where the constructor was told `needs_file`.
  [[nodiscard]] int descriptor() const { return descriptor_; }

  // One line about the write that failed, empty when none did.
  [[nodiscard]] std::string failure() const;

 private:
  void open_path(bool needs_file);
  void open_temporary(const std::filesystem::path& target);
  void open_spool();
  void drain_spool();

  std::string name_;              // for messages
  std::filesystem::path path_;    // as given
  std::filesystem::path target_;  // what is replaced at the end
  int descriptor_ = -1;           // written by the encoder
  int destination_ = -1;          // where the spool goes
  bool owned_ = false;            // descriptor_ is ours to close
  bool destination_owned_ = false;
  int slot_ = -1;  // of the table of temporary files
  int errno_ = 0;  // of the first write that failed
};

}  // namespace elan::picture
