#include "model/fingerprint.h"

#include <array>
#include <bit>
#include <cstring>

namespace elan {
namespace {

constexpr std::uint64_t kPrime1 = 0x9E3779B185EBCA87, kPrime2 = 0xC2B2AE3D27D4EB4F,
                        kPrime3 = 0x165667B19E3779F9, kPrime4 = 0x85EBCA77C2B2AE63,
                        kPrime5 = 0x27D4EB2F165667C5;

template <typename Word>
Word load(const std::byte* at) {
  Word word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

std::uint64_t mix(std::uint64_t lane, std::uint64_t word) {
  return std::rotl(lane + word * kPrime2, 31) * kPrime1;
}

class Hash {
 public:
  void add(int value) {
    const std::int64_t wide = value;
    hash_ = xxh64(std::as_bytes(std::span(&wide, 1)), hash_);
  }
  void add(std::span<const float> values) { hash_ = xxh64(std::as_bytes(values), hash_); }
  void add(const ShiftConv& conv) {
    add(conv.mask);
    add(conv.weight);
    add(conv.bias);
    add(conv.int8);
  }
  // The float values follow from these, but not the other way round. Nothing for what is not
  // quantised, whose fingerprint must not depend on there being such a thing.
  void add(const std::optional<QuantizedMatrix>& matrix) {
    if (!matrix) return;
    add(std::span(&matrix->input_scale, 1));
    add(matrix->weight_scale);
    hash_ = xxh64(std::as_bytes(std::span(matrix->weight)), hash_);
  }
  template <typename Convolution>
  void add_matrix(const Convolution& conv) {
    add(conv.weight);
    add(conv.bias);
  }

  [[nodiscard]] std::string digits() const {
    std::string text(16, '0');
    for (int i = 0; i < 16; ++i) text[i] = "0123456789abcdef"[hash_ >> (60 - 4 * i) & 15];
    return text;
  }

 private:
  std::uint64_t hash_ = 0;
};

}  // namespace

std::uint64_t xxh64(std::span<const std::byte> data, std::uint64_t seed) {
  const std::byte* at = data.data();
  std::size_t left = data.size();
  std::uint64_t hash = seed + kPrime5;
  if (left >= 32) {
    std::array<std::uint64_t, 4> lanes{seed + kPrime1 + kPrime2, seed + kPrime2, seed,
                                       seed - kPrime1};
    for (; left >= 32; left -= 32) {
      for (std::uint64_t& lane : lanes) {
        lane = mix(lane, load<std::uint64_t>(at));
        at += 8;
      }
    }
    hash = std::rotl(lanes[0], 1) + std::rotl(lanes[1], 7) + std::rotl(lanes[2], 12) +
           std::rotl(lanes[3], 18);
    for (const std::uint64_t lane : lanes) hash = (hash ^ mix(0, lane)) * kPrime1 + kPrime4;
  }
  hash += data.size();
  for (; left >= 8; left -= 8, at += 8) {
    hash = std::rotl(hash ^ mix(0, load<std::uint64_t>(at)), 27) * kPrime1 + kPrime4;
  }
  if (left >= 4) {
    hash = std::rotl(hash ^ load<std::uint32_t>(at) * kPrime1, 23) * kPrime2 + kPrime3;
    at += 4;
    left -= 4;
  }
  for (; left > 0; --left, ++at) {
    hash = std::rotl(hash ^ std::to_integer<std::uint64_t>(*at) * kPrime5, 11) * kPrime1;
  }
  hash = (hash ^ hash >> 33) * kPrime2;
  hash = (hash ^ hash >> 29) * kPrime3;
  return hash ^ hash >> 32;
}

std::string fingerprint_of(const Network& net) {
  Hash hash;
  const Architecture& arch = net.arch;
  for (const int value : {arch.scale, arch.channels, arch.elabs, arch.pairs, arch.expand}) {
    hash.add(value);
  }
  for (const int window : arch.windows) hash.add(window);
  hash.add(net.mean);
  hash.add_matrix(net.head);
  for (const Elab& elab : net.body) {
    for (const Lfe& lfe : elab.lfe) {
      hash.add(lfe.conv0);
      hash.add(lfe.conv1);
    }
    for (const Gmsa& gmsa : elab.gmsa) {
      hash.add_matrix(gmsa.project_inp);
      for (const auto* values :
           {&gmsa.norm.weight, &gmsa.norm.bias, &gmsa.norm.mean, &gmsa.norm.var}) {
        hash.add(*values);
      }
      hash.add_matrix(gmsa.project_out);
      for (const auto* matrix : {&gmsa.int8_q, &gmsa.int8_v, &gmsa.int8_out}) hash.add(*matrix);
      if (gmsa.int8_attention) {
        hash.add(gmsa.int8_attention->q_scale);
        hash.add(gmsa.int8_attention->v_scale);
      }
    }
  }
  hash.add_matrix(net.tail);
  return hash.digits();
}

}  // namespace elan
