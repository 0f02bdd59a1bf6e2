// Files are written whole or not at all.
#include "core/whole_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>

#include "support/errors.h"

namespace elan::test {
namespace {
namespace fs = std::filesystem;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class WholeFile : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  [[nodiscard]] std::ptrdiff_t files() const {
    return std::distance(fs::directory_iterator(folder_), fs::directory_iterator());
  }

  const fs::path folder_ =
      fs::path(testing::TempDir()) /
      ("whole_file_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
  const fs::path path_ = folder_ / "m.safetensors";
};

TEST_F(WholeFile, ReplacesWhatWasThere) {
  std::ofstream(path_) << "something longer than what comes";
  const std::string first = "one", second("\0two", 4);
  write_whole_file(path_, {bytes_of(first), bytes_of(second)});
  EXPECT_EQ(content_of(path_), first + second);
  EXPECT_EQ(files(), 1);
}

// A disk that is full, as far as a process can make one.
TEST_F(WholeFile, LeavesTheOldFileWhereWritingFails) {
  std::ofstream(path_) << "old";
  const std::string large(1 << 16, 'x');
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{4096, before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string error =
      error_of(ErrorKind::input, [&] { write_whole_file(path_, {bytes_of(large)}); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(error, path_.string() + ": cannot be written: File too large");
  EXPECT_EQ(content_of(path_), "old");
  EXPECT_EQ(files(), 1);
}

TEST_F(WholeFile, FollowsLinks) {
  const fs::path link = folder_ / "link";
  std::ofstream(path_) << "old";
  fs::create_symlink(path_.filename(), link);
  write_whole_file(link, {bytes_of("new")});
  EXPECT_TRUE(fs::is_symlink(link));
  EXPECT_EQ(content_of(path_), "new");
  EXPECT_EQ(files(), 2);
}

// A pipe here, since a device that is replaced by mistake is missed by every other program.
TEST_F(WholeFile, WritesToPipesAndDevices) {
  const fs::path pipe = folder_ / "pipe", link = folder_ / "link";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  fs::create_symlink(pipe, link);
  const int reader = open(pipe.c_str(), O_RDWR | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  write_whole_file(pipe, {bytes_of("one"), bytes_of("two")});
  write_whole_file(link, {bytes_of("three")});
  std::array<char, 64> text{};
  EXPECT_EQ(read(reader, text.data(), text.size()), 11);
  close(reader);
  EXPECT_STREQ(text.data(), "onetwothree");
  EXPECT_TRUE(fs::is_fifo(pipe));
  EXPECT_EQ(files(), 2);
}

TEST_F(WholeFile, SaysWhyItCannotWrite) {
  EXPECT_EQ(error_of(ErrorKind::input, [] { write_whole_file("/nowhere/m", {bytes_of("x")}); }),
            "/nowhere/m: cannot be written: No such file or directory");
  EXPECT_NE(error_of(ErrorKind::input, [&] { write_whole_file(folder_, {bytes_of("x")}); })
                .find("cannot be written"),
            std::string::npos);
  EXPECT_EQ(files(), 0);
}

TEST_F(WholeFile, SaysBeforehandWhatCannotBeWritten) {
  expect_writable(path_);
  EXPECT_EQ(files(), 0);
  std::ofstream(path_) << "old";
  expect_writable(path_);
  expect_writable("/dev/null");
  expect_writable("name.safetensors");  // in this folder
  const auto error = [](const fs::path& path) {
    return error_of(ErrorKind::input, [&] { expect_writable(path); });
  };
  const std::string why = ": cannot be written: ";
  EXPECT_EQ(error(folder_), folder_.string() + why + "Is a directory");
  EXPECT_EQ(error(folder_ / "no" / "m"),
            (folder_ / "no" / "m").string() + why + "No such file or directory");
  EXPECT_EQ(error(path_ / "m"), (path_ / "m").string() + why + "Not a directory");
  EXPECT_EQ(content_of(path_), "old");
}

}  // namespace
}  // namespace elan::test
