#include "signals.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <system_error>

#include "command.h"
#include "picture/picture.h"

namespace elan::cli {
namespace {

constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP};
constexpr int kGraceMilliseconds = 5000;

// What a signal handler may touch: lock-free atomics and a descriptor.
std::atomic<int> first_signal{0};
std::atomic<int> wake_descriptor{-1};
std::array<int, 2> wake_pipe{-1, -1};

[[noreturn]] void leave(int signal) {
  picture::remove_temporary_files();
  _exit(kSignal + signal);
}

void wake() {
  const char byte = 0;
  // The pipe is empty or already awake: a full one needs no second byte.
  [[maybe_unused]] const ssize_t written = write(wake_descriptor.load(), &byte, 1);
}

extern "C" void on_signal(int signal) {
  const int saved = errno;
  int none = 0;
  if (!first_signal.compare_exchange_strong(none, signal)) leave(none);
  wake();
  errno = saved;
}

// True when woken, false when the time ran out.
bool wait_for_wake(int milliseconds) {
  pollfd descriptor{wake_pipe[0], POLLIN, 0};
  int ready = 0;
  do {
    ready = poll(&descriptor, 1, milliseconds);
  } while (ready < 0 && errno == EINTR);
  if (ready <= 0) return false;
  char byte = 0;
  return read(wake_pipe[0], &byte, 1) == 1;
}

}  // namespace

SignalGuard::SignalGuard() {
  if (pipe2(wake_pipe.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
    throw std::system_error(errno, std::generic_category(), "pipe");
  }
  wake_descriptor = wake_pipe[1];
  watcher_ = std::thread([this] { watch(); });
  for (const int signal : kSignals) {
    struct sigaction now{};
    sigaction(signal, nullptr, &now);
    if (now.sa_handler == SIG_IGN) continue;
    struct sigaction action{};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, nullptr);
  }
}

SignalGuard::~SignalGuard() {
  for (const int signal : kSignals) {
    struct sigaction now{};
    sigaction(signal, nullptr, &now);
    if (now.sa_handler == on_signal) std::signal(signal, SIG_DFL);
  }
  wake();
  watcher_.join();
  close(wake_pipe[0]);
  close(wake_pipe[1]);
}

int SignalGuard::received() const {
  return first_signal;
}

void SignalGuard::watch() {
  wait_for_wake(-1);
  if (first_signal == 0) return;  // the end of the guard
  source_.request_stop();
  if (!wait_for_wake(kGraceMilliseconds)) leave(first_signal);
}

}  // namespace elan::cli
