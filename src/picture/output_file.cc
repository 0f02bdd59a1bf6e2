#include "picture/output_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <vector>

#include "core/whole_file.h"
#include "elan/error.h"
#include "picture/vips_tools.h"

namespace elan::picture {
namespace {

// Temporary files now open. Fixed memory and atomics, so that a signal handler may walk it.
struct Slot {
  enum State : int { unused, claimed, named };
  std::atomic<int> state{unused};
  std::array<char, PATH_MAX> path{};
};
std::array<Slot, 64> slots;
static_assert(std::atomic<int>::is_always_lock_free);

int claim_slot() {
  for (std::size_t i = 0; i < slots.size(); ++i) {
    int expected = Slot::unused;
    if (slots[i].state.compare_exchange_strong(expected, Slot::claimed)) return static_cast<int>(i);
  }
  throw Error(ErrorKind::internal, "more than 64 outputs are being written at once");
}

Slot& slot_at(int index) {
  return slots[static_cast<std::size_t>(index)];
}

[[noreturn]] void fail(const std::string& name, const std::string& what) {
  throw Error(ErrorKind::input, name + ": " + what);
}

// Hidden, and unlike any other that is made now or was left over by a killed process.
std::string temporary_name() {
  static std::atomic<unsigned> counter{0};
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return ".elan-sr-" + std::to_string(::getpid()) + "-" + std::to_string(counter++) + "-" +
         std::to_string(now.tv_nsec) + ".tmp";
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  const auto folder = path.parent_path();
  return folder.empty() ? "." : folder;
}

}  // namespace

OutputFile::OutputFile(const Output& output, bool needs_file)
    : name_(quoted_name(output.path)), path_(output.path) {
  if (output.descriptor < 0) {
    open_path(needs_file);
    return;
  }
  descriptor_ = output.descriptor;
  if (needs_file) open_spool();
}

OutputFile::~OutputFile() {
  if (owned_) ::close(descriptor_);
  if (destination_owned_) ::close(destination_);
  if (slot_ < 0) return;
  ::unlink(slot_at(slot_).path.data());
  slot_at(slot_).state = Slot::unused;
}

void OutputFile::open_path(bool needs_file) {
  struct stat status{};
  const bool exists = ::stat(path_.c_str(), &status) == 0;
  if (exists && S_ISDIR(status.st_mode)) fail(name_, "cannot be written: it is a folder");
  if (!exists || S_ISREG(status.st_mode)) {
    open_temporary(without_links(path_));
    return;
  }
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor_ < 0) fail(name_, std::string("cannot be written: ") + std::strerror(errno));
  owned_ = true;
  if (needs_file) open_spool();
}

void OutputFile::open_temporary(const std::filesystem::path& target) {
  const auto folder = folder_of(target);
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error))
    fail(name_, "cannot be written: there is no folder " + quoted_name(folder));
  const std::string temporary = (folder / temporary_name()).native();
  if (temporary.size() >= PATH_MAX || target.filename().native().size() > NAME_MAX)
    fail(name_, "cannot be written: its name is too long");
  const int slot = claim_slot();
  std::memcpy(slot_at(slot).path.data(), temporary.c_str(), temporary.size() + 1);
  slot_at(slot).state = Slot::named;  // before the file exists, so that no signal can miss it
  descriptor_ = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor_ < 0) {
    const int reason = errno;
    slot_at(slot).state = Slot::unused;
    fail(name_, "cannot be written: no file can be made in the folder " + quoted_name(folder) +
                    ": " + std::strerror(reason));
  }
  owned_ = true;
  slot_ = slot;
  target_ = target;
}

void OutputFile::open_spool() {
  if (::lseek(descriptor_, 0, SEEK_CUR) >= 0) {
    // A regular file behind a descriptor may be write-only, in append mode or not at its start.
    const int flags = ::fcntl(descriptor_, F_GETFL);
    if ((flags & O_ACCMODE) == O_RDWR && (flags & O_APPEND) == 0 &&
        ::lseek(descriptor_, 0, SEEK_CUR) == 0)
      return;
  }
  const char* folder = std::getenv("TMPDIR");
  std::string name =
      std::string(folder != nullptr && *folder != '\0' ? folder : "/tmp") + "/elan-sr-XXXXXX";
  destination_ = descriptor_;
  destination_owned_ = owned_;
  owned_ = false;
  descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor_ < 0) {
    const int reason = errno;
    if (destination_owned_) ::close(destination_);
    fail(name_,
         "no temporary file can be made as " + quoted_name(name) + ": " + std::strerror(reason));
  }
  ::unlink(name.c_str());
  owned_ = true;
}

long long OutputFile::write(const void* data, std::size_t size) noexcept {
  for (;;) {
    const ssize_t written = ::write(descriptor_, data, size);
    if (written >= 0) return written;
    if (errno == EINTR) continue;
    if (errno_ == 0) errno_ = errno;
    return -1;
  }
}

long long OutputFile::read(void* data, std::size_t size) noexcept {
  for (;;) {
    const ssize_t got = ::read(descriptor_, data, size);
    if (got >= 0 || errno != EINTR) return got;
  }
}

long long OutputFile::seek(long long offset, int whence) noexcept {
  return ::lseek(descriptor_, offset, whence);
}

std::string OutputFile::failure() const {
  return errno_ == 0 ? std::string() : name_ + ": cannot be written: " + std::strerror(errno_);
}

void OutputFile::drain_spool() {
  std::vector<char> block(1 << 20);
  if (::lseek(descriptor_, 0, SEEK_SET) < 0) fail(name_, std::strerror(errno));
  for (;;) {
    const long long got = read(block.data(), block.size());
    if (got < 0)
      fail(name_, std::string("its temporary file cannot be read: ") + std::strerror(errno));
    if (got == 0) return;
    for (long long done = 0; done < got;) {
      const ssize_t written =
          ::write(destination_, block.data() + done, static_cast<std::size_t>(got - done));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail(name_, std::string("cannot be written: ") + std::strerror(errno));
      done += written;
    }
  }
}

void OutputFile::finish() {
  if (destination_ >= 0) drain_spool();
  if (owned_) {
    owned_ = false;                 // also after a failed close the number is no longer ours
    if (::close(descriptor_) != 0)  // network file systems report a full disk here
      fail(name_, std::string("cannot be written: ") + std::strerror(errno));
  }
  if (slot_ < 0) return;
  if (::rename(slot_at(slot_).path.data(), target_.c_str()) != 0)
    fail(name_, std::string("cannot be written: ") + std::strerror(errno));
  slot_at(slot_).state = Slot::unused;
  slot_ = -1;
}

void remove_temporary_files() noexcept {
  const int saved = errno;
  for (Slot& slot : slots)
    if (slot.state == Slot::named) ::unlink(slot.path.data());
  errno = saved;
}

}  // namespace elan::picture
