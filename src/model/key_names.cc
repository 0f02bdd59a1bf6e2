#include "model/key_names.h"

#include <array>
#include <cctype>
#include <optional>
#include <utility>

#include "core/printable.h"
#include "elan/error.h"

namespace elan {
namespace {

// What trainers wrap around the network; they may nest ("state_dict.module.").
constexpr std::array<std::string_view, 6> kWrappers{
    "model_state_dict.", "state_dict.", "params_ema.", "params.", "model.", "module."};

// The longest chain of wrappers that every key starts with.
std::string common_prefix(const Safetensors::Entries& entries) {
  std::string prefix;
  for (bool grown = true; grown && !entries.empty();) {
    grown = false;
    for (const std::string_view wrapper : kWrappers) {
      const std::string longer = prefix + std::string(wrapper);
      // The entries are sorted: if the first and the last start with it, all do.
      if (entries.begin()->first.starts_with(longer) &&
          entries.rbegin()->first.starts_with(longer)) {
        prefix = longer;
        grown = true;
        break;
      }
    }
  }
  return prefix;
}

// Takes `word` off the front of `rest`.
bool take(std::string_view& rest, std::string_view word) {
  if (!rest.starts_with(word)) return false;
  rest.remove_prefix(word.size());
  return true;
}

// Takes a number and the dot after it.
std::optional<std::string> take_index(std::string_view& rest) {
  std::size_t digits = 0;
  while (digits < rest.size() && std::isdigit(static_cast<unsigned char>(rest[digits])) != 0) {
    ++digits;
  }
  if (digits == 0 || digits == rest.size() || rest[digits] != '.') return std::nullopt;
  std::string number(rest.substr(0, digits));
  rest.remove_prefix(digits + 1);
  return number;
}

// The canonical name of a key of FriedRiceLab's and other BasicSR ports, if it is one.
std::optional<std::string> from_basicsr(std::string_view key) {
  if (key == "head.weight") return "head.0.weight";
  if (key == "head.bias") return "head.0.bias";
  std::string_view rest = key;
  if (!take(rest, "body.")) return std::nullopt;
  const auto elab = take_index(rest);
  if (!elab) return std::nullopt;
  const std::string body = "body." + *elab + ".";
  if (take(rest, "modules_gmsa.")) {
    const auto pair = take_index(rest);
    if (!pair) return std::nullopt;
    return body + "modules_gmsa.gmsa_" + *pair + "." + std::string(rest);
  }
  if (!take(rest, "modules_lfe.")) return std::nullopt;
  const auto pair = take_index(rest);
  if (!pair) return std::nullopt;
  const std::string lfe = body + "modules_lfe.lfe_" + *pair + ".";
  for (const auto& [index, conv] : {std::pair("lfe.0.", "conv0."), std::pair("lfe.2.", "conv1.")}) {
    if (!take(rest, index)) continue;
    if (rest == "mask") return lfe + conv + "shift_conv.weight";
    return lfe + conv + "shift_conv.conv1x1." + std::string(rest);
  }
  return std::nullopt;
}

}  // namespace

std::string_view to_string(KeyLayout layout) {
  switch (layout) {
    case KeyLayout::published:
      return "published";
    case KeyLayout::low_memory:
      return "low-memory";
    case KeyLayout::basicsr:
      return "basicsr";
  }
  throw Error(ErrorKind::internal, "a key layout without a name");
}

KeyNames canonical_keys(const Safetensors& file) {
  KeyNames names;
  names.prefix = common_prefix(file.entries());
  for (const auto& [file_key, tensor] : file.entries()) {
    const std::string_view key = std::string_view(file_key).substr(names.prefix.size());
    if (key.ends_with(".num_batches_tracked")) continue;
    std::string name(key);
    if (auto renamed = from_basicsr(key)) {
      name = *std::move(renamed);
      names.layout = KeyLayout::basicsr;
    } else if (key.ends_with(".shift_conv.m")) {
      names.layout = KeyLayout::low_memory;
    }
    const auto [at, fresh] = names.file_key.emplace(name, file_key);
    if (!fresh) {
      throw Error(ErrorKind::model, file.name() + ": " + printable(file_key) +
                                        ": expected one key for a tensor, found also " +
                                        printable(at->second));
    }
  }
  return names;
}

}  // namespace elan
