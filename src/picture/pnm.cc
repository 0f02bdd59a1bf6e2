#include "picture/pnm.h"

#include <algorithm>
#include <cctype>
#include <limits>

namespace elan::picture {
namespace {

constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();

class Scanner {
 public:
  explicit Scanner(std::span<const unsigned char> bytes, std::size_t at) : bytes_(bytes), at_(at) {}

  [[nodiscard]] std::size_t at() const { return at_; }

  // The next number, behind white space and comments; no value where there is none, or it may go
  // on behind the bytes at hand.
  std::optional<std::uint64_t> number() {
    skip_to_token();
    std::uint64_t value = 0;
    const std::size_t first = at_;
    for (; at_ < bytes_.size() && std::isdigit(bytes_[at_]) != 0; ++at_)
      value = std::min(kMost, value * 10 + (bytes_[at_] - std::uint64_t{'0'}));
    return at_ > first && at_ < bytes_.size() ? std::optional(value) : std::nullopt;
  }

  bool skip_one_space() {
    if (at_ >= bytes_.size()) return false;
    return std::isspace(bytes_[at_++]) != 0;
  }

 private:
  void skip_to_token() {
    for (bool comment = false; at_ < bytes_.size(); ++at_) {
      const unsigned char c = bytes_[at_];
      if (comment) {
        comment = c != '\n';
      } else if (c == '#') {
        comment = true;
      } else if (std::isspace(c) == 0) {
        return;
      }
    }
  }

  std::span<const unsigned char> bytes_;
  std::size_t at_;
};

// A sum or product that does not fit is the largest number.
std::uint64_t times(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<std::uint64_t>::max()
                                                : product;
}

}  // namespace

std::uint64_t PnmHeader::file_bytes() const {
  const std::uint64_t row_bits = times(times(width, channels), sample_bits);
  const std::uint64_t samples =
      packed_rows ? times(row_bits / 8 + (row_bits % 8 != 0), height) : times(row_bits, height) / 8;
  return samples > std::numeric_limits<std::uint64_t>::max() - bytes
             ? std::numeric_limits<std::uint64_t>::max()
             : samples + bytes;
}

std::optional<PnmHeader> parse_pnm_header(std::span<const unsigned char> head) {
  if (head.size() < 2) return std::nullopt;
  const unsigned char kind = head[1];
  Scanner scanner(head, 2);
  const auto width = scanner.number();
  const auto height = width ? scanner.number() : std::nullopt;
  if (!height) return std::nullopt;
  PnmHeader header{.width = *width, .height = *height};
  header.channels = kind == '3' || kind == '6' || kind == 'F' ? 3 : 1;
  const bool text = kind >= '1' && kind <= '3';
  const bool bits = kind == '1' || kind == '4';
  if (kind == 'f' || kind == 'F') {
    header.sample_bits = 32;
  } else if (bits) {
    header.sample_bits = text ? 8 : 1;
    header.packed_rows = !text;
  } else {
    const auto most = scanner.number();
    if (!most || *most == 0) return std::nullopt;
    header.sample_bits = text ? 8 : *most > 255 ? 16 : 8;  // text: at least a digit
  }
  if (!scanner.skip_one_space()) return std::nullopt;
  header.bytes = scanner.at();
  return header;
}

}  // namespace elan::picture
