#include "process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <stdexcept>

namespace elan::test {
namespace {

void check(bool ok, const char* what) {
  if (!ok) throw std::runtime_error(std::string(what) + " failed");
}

void close_if_open(int& descriptor) {
  if (descriptor >= 0) close(descriptor);
  descriptor = -1;
}

// Between fork and exec: _exit(127) on any trouble.
void prepare_child(const RunSettings& settings) {
  bool ok = settings.folder.empty() || chdir(settings.folder.c_str()) == 0;
  if (!settings.output.empty()) {
    const int output = open(settings.output.c_str(), O_WRONLY | O_CLOEXEC);
    ok = ok && dup2(output, STDOUT_FILENO) == STDOUT_FILENO;
  }
  if (settings.output_closed) ok = close(STDOUT_FILENO) == 0 && ok;
  setenv("ELANSR_MODELS", ELANSR_MODELS, 1);
  for (const std::string& entry : settings.environment) {
    const auto equals = entry.find('=');
    if (equals == std::string::npos) {
      unsetenv(entry.c_str());
    } else {
      setenv(entry.substr(0, equals).c_str(), entry.c_str() + equals + 1, 1);
    }
  }
  if (settings.file_size_limit != 0) {
    const auto limit = static_cast<rlim_t>(settings.file_size_limit);
    const rlimit both{limit, limit};
    ok = ok && setrlimit(RLIMIT_FSIZE, &both) == 0;
    std::signal(SIGXFSZ, SIG_IGN);
  }
  constexpr uid_t kNobody = 65534;
  if (settings.as_nobody && getuid() == 0) {
    ok = ok && setgid(kNobody) == 0 && setuid(kNobody) == 0;
  }
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) std::signal(signal, SIG_DFL);
  if (!ok) _exit(127);
}

}  // namespace

Running::Running(const std::vector<std::string>& arguments, const RunSettings& settings)
    : input_(settings.input) {
  std::array<std::array<int, 2>, 3> pipes{};
  for (auto& ends : pipes) check(pipe2(ends.data(), O_CLOEXEC) == 0, "pipe2");
  std::vector<std::string> words{ELANSR_COMMAND};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  child_ = fork();
  check(child_ >= 0, "fork");
  if (child_ == 0) {
    dup2(pipes[0][0], STDIN_FILENO);
    dup2(pipes[1][1], STDOUT_FILENO);
    dup2(pipes[2][1], STDERR_FILENO);
    prepare_child(settings);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(pipes[0][0]);
  close(pipes[1][1]);
  close(pipes[2][1]);
  in_ = pipes[0][1];
  out_ = pipes[1][0];
  err_ = pipes[2][0];
  std::signal(SIGPIPE, SIG_IGN);  // the child may not want its input
  fcntl(in_, F_SETFL, O_NONBLOCK);
}

Running::~Running() {
  if (child_ > 0) {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  close_if_open(in_);
  close_if_open(out_);
  close_if_open(err_);
}

std::string Running::next_error_line() {
  while (true) {
    const auto end = error_text_.find('\n');
    if (end != std::string::npos) {
      const std::string line = error_text_.substr(0, end);
      error_text_.erase(0, end + 1);
      return line;
    }
    std::array<char, 4096> buffer{};
    const ssize_t n = read(err_, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return {};
    error_text_.append(buffer.data(), static_cast<std::size_t>(n));
  }
}

void Running::signal(int number) const {
  check(kill(child_, number) == 0, "kill");
}

void Running::close_output() {
  close_if_open(out_);
}

Outcome Running::finish() {
  Outcome outcome;
  outcome.err = std::move(error_text_);
  std::size_t sent = 0;
  while (out_ >= 0 || err_ >= 0) {
    if (in_ >= 0 && sent == input_.size()) close_if_open(in_);
    std::array<pollfd, 3> waiting{{{in_, POLLOUT, 0}, {out_, POLLIN, 0}, {err_, POLLIN, 0}}};
    if (poll(waiting.data(), waiting.size(), -1) < 0) continue;
    if (waiting[0].revents != 0) {
      const ssize_t n = write(in_, input_.data() + sent, input_.size() - sent);
      if (n > 0) sent += static_cast<std::size_t>(n);
      if (n < 0 && errno != EAGAIN && errno != EINTR) close_if_open(in_);
    }
    const auto collect = [&](pollfd& from, int& descriptor, std::string& to) {
      if (from.revents == 0) return;
      std::array<char, 65536> buffer{};
      const ssize_t n = read(descriptor, buffer.data(), buffer.size());
      if (n > 0) to.append(buffer.data(), static_cast<std::size_t>(n));
      if (n == 0 || (n < 0 && errno != EINTR)) close_if_open(descriptor);
    };
    collect(waiting[1], out_, outcome.out);
    collect(waiting[2], err_, outcome.err);
  }
  close_if_open(in_);
  int status = 0;
  while (waitpid(child_, &status, 0) < 0 && errno == EINTR) {
  }
  child_ = -1;
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return outcome;
}

Outcome run_command(const std::vector<std::string>& arguments, const RunSettings& settings) {
  return Running(arguments, settings).finish();
}

int line_count(const std::string& text) {
  return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

}  // namespace elan::test
