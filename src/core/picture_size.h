// How large a picture is.
#pragma once

namespace elan {

struct PictureSize {
  int width = 0, height = 0;  // pixels

  bool operator==(const PictureSize&) const = default;
};

}  // namespace elan
