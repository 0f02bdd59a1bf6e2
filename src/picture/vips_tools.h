// Our dealings with libvips as a library: setting it up, its operations by name, its errors.
#pragma once

#include <atomic>
#include <cstddef>
#include <string>
#include <vips/vips8>

#include "picture/format.h"

namespace elan::picture {

using vips::VImage;
using vips::VOption;

// True when libvips has this operation ("pngload_source") and it is not blocked.
bool has_operation(const char* nickname);

// What one picture's dealings with libvips had to say. libvips collects its messages in one place
// for the whole process, and nothing in them tells two damaged files of one format apart: so they
// are passed on only where no other picture was being read or written in the meantime. Lives as
// long as the dealings do.
class VipsMessages {
 public:
  VipsMessages();
  ~VipsMessages();
  VipsMessages(const VipsMessages&) = delete;

  // To be called once this picture has failed. " (the first message)", or nothing.
  std::string take();

 private:
  unsigned long begun_;  // how many had begun in the process, this one included
  bool alone_;
};

// Notices every failure below an image. The thread pool of libvips 8.14.1 forgets one that happens
// after the last piece of work has been handed out, and calls the whole a success.
class Watch {
 public:
  // `image`, watched. This must outlive the result.
  VImage over(const VImage& image);
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  static int generate(VipsRegion* out, void* in, void*, void* self, gboolean*);
  std::atomic<bool> failed_ = false;
};

// Evaluates into memory; throws vips::VError on any failure.
VImage in_memory(const VImage& image);
void* samples_in_memory(const VImage& image, std::size_t& bytes);  // for g_free

// "'a b.png'" for messages: quotes the name; control characters and invalid UTF-8 as \xNN.
std::string quoted_name(const std::filesystem::path& path);

// "1.5 GiB".
std::string bytes_in_words(std::size_t bytes);

}  // namespace elan::picture
