// The list of flavours that are compiled in; ELANSR_TENSORRT_EACH(name) is expanded once for each.
#include "elan/error.h"
#include "tensorrt/flavour.h"
#include "tensorrt_flavours.h"

namespace elan::tensorrt {

// NOLINTBEGIN(cppcoreguidelines-macro-usage)
#define ELAN_DECLARE(NAME) std::unique_ptr<Flavour> make_flavour_##NAME(const Library& library);
ELANSR_TENSORRT_EACH(ELAN_DECLARE)
#undef ELAN_DECLARE

std::vector<std::string> compiled_flavours() {
#define ELAN_NAME(NAME) #NAME,
  return {ELANSR_TENSORRT_EACH(ELAN_NAME)};
#undef ELAN_NAME
}

std::unique_ptr<Flavour> make_flavour(const Library& library) {
  const std::string name = library.flavour->name;
#define ELAN_CASE(NAME) \
  if (name == #NAME) return make_flavour_##NAME(library);
  ELANSR_TENSORRT_EACH(ELAN_CASE)
#undef ELAN_CASE
  throw Error(ErrorKind::internal, "tensorrt: flavour " + name + " is not compiled in");
}
// NOLINTEND(cppcoreguidelines-macro-usage)

}  // namespace elan::tensorrt
