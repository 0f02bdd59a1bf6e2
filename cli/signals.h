// SIGINT, SIGTERM and SIGHUP become a stop request; nothing half written stays behind.
#pragma once

#include <stop_token>
#include <thread>

namespace elan::cli {

// One at a time, in main's thread. The first signal requests a stop. A second one, or work that
// has not stopped some seconds later (a read from a terminal cannot be interrupted), removes the
// temporary files and ends the process. Signals that are ignored at the start stay ignored.
class SignalGuard {
 public:
  SignalGuard();
  ~SignalGuard();
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;

  [[nodiscard]] std::stop_token token() const { return source_.get_token(); }
  [[nodiscard]] int received() const;  // the first signal; 0: none

 private:
  void watch();

  std::stop_source source_;
  std::thread watcher_;
};

}  // namespace elan::cli
