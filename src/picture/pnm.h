// The header of PNM files, which libvips 8.14 trusts: sizes of 0 reach GLib as invalid values, and
// sizes whose product does not fit its integers are taken for small ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace elan::picture {

// Bytes of a file in which a header with its comments has to fit.
constexpr std::size_t kPnmHeaderBytes = std::size_t{64} << 10;

struct PnmHeader {
  std::uint64_t width = 0, height = 0;  // as claimed; what exceeds 2^32 - 1 is given as that
  std::size_t bytes = 0;                // of the header, up to the first sample
  std::uint64_t sample_bits = 0;        // at least, of one sample in the file
  std::uint64_t channels = 0;
  bool packed_rows = false;  // rows begin at whole bytes

  // Bytes a complete file has at least; as good as no end where they cannot be counted.
  [[nodiscard]] std::uint64_t file_bytes() const;
};

// No value where `head` (the beginning of the file, P1 to P6, Pf or PF) has no complete header.
std::optional<PnmHeader> parse_pnm_header(std::span<const unsigned char> head);

}  // namespace elan::picture
