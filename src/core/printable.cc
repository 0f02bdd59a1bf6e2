#include "core/printable.h"

namespace elan {

std::string printable(std::string_view text, std::size_t longest) {
  std::string clean(text.substr(0, longest));
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = '?';
  }
  return text.size() > longest ? clean + "..." : clean;
}

}  // namespace elan
