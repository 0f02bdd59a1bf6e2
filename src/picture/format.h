// What each picture format is called, how it is recognised and what it can hold.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "picture/picture.h"

namespace elan::picture {

// Bytes that format_of_content looks at.
constexpr std::size_t kSniffBytes = 64;

struct FormatTraits {
  const char* extension;  // without dot, what we write
  const char* name;       // in messages
  const char* loader;     // libvips operations that read from a source and write to a target
  const char* saver;
  int max_side;  // pixels
  bool streams;  // its encoder takes rows as they come
  bool alpha;
  bool deep;  // more than 8 bits a sample
  bool grey;
  bool lossy;                          // knows a quality
  bool lossless;                       // can be written without loss
  bool icc, exif, xmp, iptc, density;  // what libvips writes into it
};

const FormatTraits& traits(Format format);

// The format whose signature `head` (the first bytes of a file) starts with.
std::optional<Format> format_of_content(std::span<const unsigned char> head);

// "PNG, JPEG, ...": the formats that can be read here.
std::string readable_formats();

}  // namespace elan::picture
