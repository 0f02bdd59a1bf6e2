// The one exception type of the library.
#pragma once

#include <stdexcept>
#include <string>

#include "elan/export.h"

namespace elan {

enum class ErrorKind {
  input,      // a picture, path or size that cannot be processed
  usage,      // contradictory or invalid options
  model,      // a weights, plan, scales or engine file that cannot be used
  device,     // no such device, driver trouble
  memory,     // out of memory, of the host or the device; Engine retries with smaller tiles first
  cancelled,  // the caller's stop token was set
  internal,   // a bug of ours
};

// what() is one line that names the object, what was expected and what was found.
class ELAN_API Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  [[nodiscard]] ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

}  // namespace elan
