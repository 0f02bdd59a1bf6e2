#include "command.h"

namespace elan::cli {

int status_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::input:
      return kFailed;
    case ErrorKind::usage:
      return kUsage;
    case ErrorKind::model:
      return kModel;
    case ErrorKind::device:
    case ErrorKind::memory:
      return kDevice;
    case ErrorKind::cancelled:
    case ErrorKind::internal:
      break;
  }
  return kBug;
}

}  // namespace elan::cli
