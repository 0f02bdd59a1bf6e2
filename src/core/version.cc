#include "elan/version.h"

#include "elan_commit.h"

namespace elan {

std::string_view version() {
  return ELANSR_VERSION;
}
std::string_view commit() {
  return ELANSR_COMMIT;
}

}  // namespace elan
