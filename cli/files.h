// Which input goes to which output: everything about names that can be known before any work.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "picture/picture.h"

namespace elan::cli {

struct FileRequest {
  std::vector<std::string> inputs;  // files, folders, "-" for standard input
  std::string output;               // file, folder, "-" for standard output
  std::optional<picture::Format> format;
  bool recursive = false;
  bool skip_existing = false;
  bool overwrite = false;
};

struct FileJob {
  picture::Input input;
  picture::Output output;
  picture::Format format = picture::Format::png;
};

// Something to tell about one name.
struct Note {
  std::string name;
  std::string text;
};

struct FilePlan {
  std::vector<FileJob> jobs;
  std::vector<FileJob> skipped;  // their outputs exist already
  std::vector<Note> errors;      // inputs that cannot be done; the jobs can
  std::vector<Note> warnings;
  bool to_folder = false;  // outputs get their names from the inputs
};

// Looks at the file system, changes nothing. Throws Error (usage) when the request contradicts
// itself.
FilePlan plan_files(const FileRequest& request);

// Creates the folders the outputs go to; throws Error (input).
void create_output_folders(const FilePlan& plan);

}  // namespace elan::cli
