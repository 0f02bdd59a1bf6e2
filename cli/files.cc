#include "files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "elan/error.h"

namespace elan::cli {
namespace fs = std::filesystem;
namespace {

using FileId = std::pair<dev_t, ino_t>;

struct Found {
  bool exists = false;
  FileId id;
  mode_t mode = 0;
  int error = 0;  // errno
  [[nodiscard]] bool folder() const { return exists && S_ISDIR(mode); }
  [[nodiscard]] bool regular() const { return exists && S_ISREG(mode); }
  // Written to, not replaced.
  [[nodiscard]] bool stream() const {
    return exists && (S_ISCHR(mode) || S_ISFIFO(mode) || S_ISSOCK(mode));
  }
};

Found look_at(const fs::path& path) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) return {false, {}, 0, errno};
  return {true, {status.st_dev, status.st_ino}, status.st_mode, 0};
}

std::string reason(int error) {
  return std::generic_category().message(error);
}

[[noreturn]] void usage(const std::string& message) {
  throw Error(ErrorKind::usage, message);
}

fs::path resolved(const fs::path& path) {
  std::error_code error;
  fs::path result = fs::weakly_canonical(fs::absolute(path, error), error);
  if (error) result = fs::absolute(path, error).lexically_normal();
  return result.has_filename() ? result : result.parent_path();
}

bool is_in_or_at(const fs::path& path, const fs::path& folder) {
  const auto [end, other] = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  return end == folder.end();
}

// What an enlargement of a file of this name is written as when nobody asked for a format: the
// same, unless that cannot be written or (GIF, 256 colours) would spoil it.
picture::Format default_format(std::optional<picture::Format> input) {
  if (!input || *input == picture::Format::gif || !picture::can_write(*input)) {
    return picture::Format::png;
  }
  return *input;
}

class Planner {
 public:
  explicit Planner(const FileRequest& request) : request_(request) {}

  FilePlan run() {
    check_request();
    for (const std::string& input : request_.inputs) add_input(input);
    check_collisions();
    check_outputs();
    return std::move(plan_);
  }

 private:
  struct Candidate {
    FileJob job;
    bool dropped = false;
  };

  struct Entered {
    FileId id;
    fs::path resolved;
  };

  void check_request() {
    const FileRequest& r = request_;
    if (r.inputs.empty()) usage("--input is required: give a picture, a folder or -");
    if (r.output.empty()) usage("--output is required: give a file, a folder or -");
    if (r.skip_existing && r.overwrite) {
      usage("--skip-existing and --overwrite contradict each other: give one");
    }
    const auto dashes = std::count(r.inputs.begin(), r.inputs.end(), "-");
    if (dashes > 1) usage("--input: standard input (-) can be read only once");
    for (const std::string& input : r.inputs) {
      if (input.empty()) usage("--input: expected a name, found an empty one");
    }
    const Found out = look_at(r.output);
    if (out.folder()) output_id_ = out.id;
    const bool many =
        r.inputs.size() > 1 || (r.inputs.front() != "-" && look_at(r.inputs.front()).folder());
    plan_.to_folder = many || out.folder() || r.output.ends_with('/');
    if (r.output == "-") {
      plan_.to_folder = false;
      if (many) usage("--output: standard output (-) takes one picture, not several or a folder");
      if (!r.format) usage("--output: standard output (-) has no extension: --format is needed");
      if (isatty(STDOUT_FILENO) == 1) {
        usage("--output: standard output (-) is a terminal: expected a pipe or a file");
      }
      return;
    }
    if (plan_.to_folder && out.exists && !out.folder()) {
      usage("--output: expected a folder for several pictures, found the file " + r.output);
    }
    if (many && !out.exists && !r.output.ends_with('/') &&
        picture::format_of_extension(fs::path(r.output).extension().string())) {
      usage("--output: expected a folder for several pictures, found " + r.output +
            ", the name of one; a folder of that name ends in /");
    }
    if (plan_.to_folder && dashes > 0) {
      usage("--input: standard input (-) has no name to use in the folder " + r.output +
            ": expected an output file");
    }
    if (!plan_.to_folder) check_extension();
    if (r.format && !picture::can_write(*r.format)) {
      usage("--format: " + std::string(picture::to_string(*r.format)) +
            " cannot be written by this build");
    }
  }

  // The output is a file: its extension says the format, or --format does.
  void check_extension() {
    const fs::path path(request_.output);
    const auto named = picture::format_of_extension(path.extension().string());
    if (named && request_.format && *named != *request_.format) {
      usage("--format " + std::string(picture::to_string(*request_.format)) +
            " contradicts the extension of " + request_.output);
    }
    if (!named && !request_.format) {
      const char* help = "; a folder that is to be created ends in /";
      usage("--output: expected the extension of a picture format or --format, found " +
            request_.output + (path.has_extension() ? "" : help));
    }
    if (named && !picture::can_write(*named)) {
      usage("--output: " + std::string(picture::to_string(*named)) +
            " cannot be written by this build, found " + request_.output);
    }
  }

  void add_input(const std::string& input) {
    if (input == "-") {
      add({"standard input", STDIN_FILENO}, {});
      return;
    }
    const Found found = look_at(input);
    if (!found.exists) {
      error(input, "cannot be read: " + reason(found.error));
    } else if (found.folder()) {
      add_folder(input);
    } else {
      add({fs::path(input), -1}, fs::path(input).filename());
    }
  }

  void add_folder(const std::string& input) {
    const fs::path in = resolved(input), out = resolved(request_.output);
    if (in == out) {
      error(input, "is the output folder, too: expected another one");
      return;
    }
    if (request_.recursive && is_in_or_at(out, in)) {
      error(input, "contains the output folder " + request_.output +
                       ": expected one outside, since -r would take outputs for inputs");
      return;
    }
    const std::size_t before = candidates_.size();
    const std::size_t errors = plan_.errors.size();
    entered_.clear();
    walk(input, {});
    if (candidates_.size() == before && plan_.errors.size() == errors) {
      warning(input, request_.recursive ? "no pictures found"
                                        : "no pictures found; -r looks into the folders inside");
    }
  }

  // Adds the pictures in `folder`; `relative` is its place below the input.
  void walk(const fs::path& folder, const fs::path& relative) {
    const FileId id = look_at(folder).id;
    if (output_id_ == id) {
      error(folder.string(),
            "is the output folder, too: expected one outside, since -r would take "
            "outputs for inputs");
      return;
    }
    const fs::path self = resolved(folder);
    const auto above = std::find_if(entered_.begin(), entered_.end(), [&](const auto& entry) {
      return entry.id == id || is_in_or_at(entry.resolved, self);
    });
    if (above != entered_.end()) {
      error(folder.string(), "is a link back to " + self.string() + ", which contains it: a loop");
      return;
    }
    std::vector<fs::path> names;
    std::error_code failure;
    for (fs::directory_iterator it(folder, failure), end; !failure && it != end;
         it.increment(failure)) {
      names.push_back(it->path().filename());
    }
    if (failure) {
      error(folder.string(), "cannot be read: " + failure.message());
      return;
    }
    std::sort(names.begin(), names.end());
    entered_.push_back({id, self});
    int folders = 0;
    for (const fs::path& name : names) {
      if (name.native().front() == '.') continue;
      const Found found = look_at(folder / name);
      const bool picture = picture::format_of_extension(name.extension().string()).has_value();
      if (found.folder()) {
        ++folders;
        if (request_.recursive) walk(folder / name, relative / name);
      } else if (!found.exists && picture) {
        error((folder / name).string(), "cannot be read: " + reason(found.error));
      } else if (found.regular() && picture) {
        add({folder / name, -1}, relative / name);
      } else {
        warning((folder / name).string(),
                picture ? "skipped: not a regular file" : "skipped: not a picture by its name");
      }
    }
    entered_.pop_back();
    if (folders > 0 && !request_.recursive) {
      warning(folder.string(), std::to_string(folders) + (folders == 1 ? " folder" : " folders") +
                                   " inside not looked into; -r does");
    }
  }

  // `relative`: place and name of the output below the output folder, before its extension changes.
  void add(picture::Input input, fs::path relative) {
    Candidate c;
    c.job.input = std::move(input);
    if (request_.output == "-") {
      c.job.format = request_.format.value();
      c.job.output = {"standard output", STDOUT_FILENO};
    } else if (!plan_.to_folder) {
      const auto named =
          picture::format_of_extension(fs::path(request_.output).extension().string());
      c.job.format = request_.format ? *request_.format : named.value();
      c.job.output = {fs::path(request_.output), -1};
    } else {
      const auto named = picture::format_of_extension(relative.extension().string());
      c.job.format = request_.format ? *request_.format : default_format(named);
      if (!named) {
        relative += "." + std::string(picture::extension_of(c.job.format));
      } else if (*named != c.job.format) {
        relative.replace_extension(std::string(picture::extension_of(c.job.format)));
        if (!request_.format && *named != picture::Format::gif) {
          warning(c.job.input.path.string(),
                  std::string(picture::to_string(*named)) +
                      " cannot be written by this build: the output becomes " +
                      std::string(picture::to_string(c.job.format)));
        }
      }
      c.job.output = {fs::path(request_.output) / relative, -1};
    }
    candidates_.push_back(std::move(c));
  }

  // Two inputs to one output: neither is done, since which one should win is anybody's guess. One
  // picture twice (by itself and in its folder) is done once.
  void check_collisions() {
    std::map<fs::path, std::size_t> first;  // by canonical output
    for (std::size_t i = 0; i < candidates_.size(); ++i) {
      const fs::path& output = candidates_[i].job.output.path;
      if (candidates_[i].job.output.descriptor >= 0 || look_at(output).stream()) continue;
      const auto [entry, is_new] =
          first.emplace(resolved(output.parent_path()) / output.filename(), i);
      if (is_new) continue;
      Candidate& other = candidates_[entry->second];
      if (same_input(candidates_[i].job.input, other.job.input)) {
        if (!other.dropped) {
          warning(candidates_[i].job.input.path.string(), "is an input twice: done once");
        }
        candidates_[i].dropped = true;
        continue;
      }
      error(candidates_[i].job.input.path.string(),
            "would be written to " + output.string() + ", as would " +
                other.job.input.path.string() + ": expected different names");
      if (!other.dropped) {
        error(other.job.input.path.string(),
              "would be written to " + output.string() + ", as would " +
                  candidates_[i].job.input.path.string() + ": expected different names");
      }
      candidates_[i].dropped = other.dropped = true;
    }
  }

  static bool same_input(const picture::Input& a, const picture::Input& b) {
    return look_at(a.path).id == look_at(b.path).id;  // both are there, see add_input() and walk()
  }

  void check_outputs() {
    std::map<FileId, std::string> inputs;
    for (const Candidate& c : candidates_) {
      const Found found = look_at(c.job.input.path);
      if (c.job.input.descriptor < 0 && found.regular()) {
        inputs.emplace(found.id, c.job.input.path.string());
      }
    }
    std::map<fs::path, std::string> parents;  // folder to what is wrong with it, if anything
    for (Candidate& c : candidates_) {
      if (c.dropped) continue;
      if (c.job.output.descriptor < 0 && !output_is_free(c.job, inputs, parents)) continue;
      plan_.jobs.push_back(std::move(c.job));
    }
  }

  // Whether the job may go on; otherwise it has been skipped or reported.
  bool output_is_free(const FileJob& job, const std::map<FileId, std::string>& inputs,
                      std::map<fs::path, std::string>& parents) {
    const std::string output = job.output.path.string();
    const Found found = look_at(job.output.path);
    if (found.stream()) return true;
    if (found.folder()) {
      error(output, "is a folder: expected a file or nothing there");
      return false;
    }
    if (found.exists) {
      if (const auto same = inputs.find(found.id); same != inputs.end()) {
        error(output, same->second == output
                          ? "is the input itself: expected another name for the output"
                          : "is the input " + same->second + ": expected another name");
        return false;
      }
      if (request_.skip_existing) {
        plan_.skipped.push_back(job);
        return false;
      }
      if (!request_.overwrite) {
        error(output, "exists already; --overwrite replaces it, --skip-existing leaves it");
        return false;
      }
    }
    const fs::path parent = job.output.path.parent_path();
    const auto [entry, is_new] = parents.emplace(parent, "");
    if (is_new) entry->second = why_not_writable(parent);
    if (entry->second.empty()) return true;
    error(output, "cannot be written: " + entry->second);
    return false;
  }

  // Empty when files can be created in `folder`, which, or parts of which, may not exist yet when
  // outputs go to folders.
  [[nodiscard]] std::string why_not_writable(fs::path folder) const {
    if (folder.empty()) folder = ".";
    while (true) {
      const Found found = look_at(folder);
      if (found.exists) {
        if (!found.folder()) return folder.string() + " is not a folder";
        if (access(folder.c_str(), W_OK | X_OK) != 0) {
          return "folder " + folder.string() + ": " + reason(errno);
        }
        return "";
      }
      if (!plan_.to_folder || found.error != ENOENT) {
        return "folder " + folder.string() + ": " + reason(found.error);
      }
      folder = folder.has_filename() ? folder.parent_path() : folder.parent_path().parent_path();
      if (folder.empty()) folder = ".";
    }
  }

  void error(std::string name, std::string text) {
    plan_.errors.push_back({std::move(name), std::move(text)});
  }
  void warning(std::string name, std::string text) {
    plan_.warnings.push_back({std::move(name), std::move(text)});
  }

  const FileRequest& request_;
  FilePlan plan_;
  std::vector<Candidate> candidates_;
  std::vector<Entered> entered_;     // the folders walk() is in, outermost first
  std::optional<FileId> output_id_;  // of the output folder if it exists
};

}  // namespace

FilePlan plan_files(const FileRequest& request) {
  return Planner(request).run();
}

void create_output_folders(const FilePlan& plan) {
  if (!plan.to_folder) return;
  std::set<fs::path> folders;
  for (const FileJob& job : plan.jobs) folders.insert(job.output.path.parent_path());
  for (const fs::path& folder : folders) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) {
      throw Error(ErrorKind::input, folder.string() + ": cannot be created: " + error.message());
    }
  }
}

}  // namespace elan::cli
