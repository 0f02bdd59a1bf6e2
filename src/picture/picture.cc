#include "picture/picture.h"

#include <utility>

#include "picture/picture_state.h"

namespace elan::picture {
namespace {

ConstImageView view_of_plane(const Picture::State& state, const Plane& plane) {
  return BasicImageView<const std::byte>{plane.data.get(), state.width, state.height, state.type,
                                         state.row_bytes()};
}

}  // namespace

Picture::Picture(std::unique_ptr<State> state) : state_(std::move(state)) {}
Picture::Picture(Picture&&) noexcept = default;
Picture& Picture::operator=(Picture&&) noexcept = default;
Picture::~Picture() = default;

int Picture::width() const {
  return state_->width;
}
int Picture::height() const {
  return state_->height;
}
SampleType Picture::type() const {
  return state_->type;
}
bool Picture::gray() const {
  return state_->gray;
}
Format Picture::format() const {
  return state_->format;
}
ConstImageView Picture::rgb() const {
  return view_of_plane(*state_, state_->rgb);
}

std::optional<ConstImageView> Picture::alpha() const {
  if (!state_->alpha.data) return std::nullopt;
  return view_of_plane(*state_, state_->alpha);
}

const std::vector<std::string>& Picture::warnings() const {
  return state_->warnings;
}
std::size_t Picture::memory() const {
  return state_->rgb.bytes + state_->alpha.bytes;
}

}  // namespace elan::picture
