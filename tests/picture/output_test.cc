// Where bytes go: names, links, devices, descriptors; what stays behind when it fails.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <thread>

#include "picture/fixtures.h"

namespace elan::picture {
namespace {

class OutputTest : public PictureTest {
 protected:
  OutputTest() {
    // noise, so that no format makes it tiny
    const VImage noise =
        VImage::gaussnoise(64, 48, VImage::option()->set("mean", 128)->set("sigma", 60));
    VImage::bandjoin({noise, noise, noise})
        .cast(VIPS_FORMAT_UCHAR)
        .copy(VImage::option()->set("interpretation", VIPS_INTERPRETATION_sRGB))
        .write_to_file(file("in.png").c_str());
  }

  std::string refused(const Output& output, Format format = Format::png) {
    const Picture picture = load({file("in.png")}, {});
    const std::string text = error_of(ErrorKind::input, [&] {
      save(picture, nearest(picture.rgb(), 2), {}, 128, 96, output, {.format = format});
    });
    EXPECT_NE(text.find(output.path.filename().native()), std::string::npos) << text;
    RecordProperty("message", text);
    return text;
  }
};

// Lets a test fail like an ordinary user where it runs as root.
class Unprivileged {
 public:
  Unprivileged() {
    if (root_) {
      EXPECT_EQ(::seteuid(65534), 0);
    }
  }
  ~Unprivileged() {
    if (root_) {
      EXPECT_EQ(::seteuid(0), 0);
    }
  }
  Unprivileged(const Unprivileged&) = delete;

 private:
  bool root_ = ::geteuid() == 0;
};

TEST_F(OutputTest, AppearsWhenCompleteAndNotBefore) {
  write_file(file("out.png"), "old");
  const Picture picture = load({file("in.png")}, {});
  const RowReader inner = nearest(picture.rgb(), 2);
  bool looked = false;
  const RowReader looks = [&](int y, const ImageView& out) {
    EXPECT_EQ(read_file(file("out.png")), "old");
    EXPECT_EQ(names().size(), 3U);
    EXPECT_TRUE(names()[0].starts_with('.')) << names()[0];
    looked = true;
    inner(y, out);
  };
  save(picture, looks, {}, 128, 96, {file("out.png")}, {});
  EXPECT_TRUE(looked);
  EXPECT_EQ(names(), (std::vector<std::string>{"in.png", "out.png"}));
  EXPECT_EQ(reopen(file("out.png")).width(), 128);
}

TEST_F(OutputTest, HasTheModeOfANewFile) {
  const mode_t before = ::umask(027);
  enlarge(file("in.png"), file("out.png"));
  ::umask(before);
  struct stat status{};
  ASSERT_EQ(::stat(file("out.png").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640U);
}

TEST_F(OutputTest, LinksAreWrittenThrough) {
  fs::create_directory(file("far"));
  write_file(file("far/real.png"), "old");
  fs::create_symlink("far/real.png", file("link.png"));
  enlarge(file("in.png"), file("link.png"));
  EXPECT_TRUE(fs::is_symlink(file("link.png")));
  EXPECT_EQ(reopen(file("far/real.png")).width(), 128);
}

TEST_F(OutputTest, SignalHandlersRemoveTemporaryFiles) {
  const Picture picture = load({file("in.png")}, {});
  const RowReader inner = nearest(picture.rgb(), 2);
  const RowReader interrupted = [&](int y, const ImageView& out) {
    inner(y, out);
    EXPECT_EQ(names().size(), 2U);
    remove_temporary_files();
    EXPECT_EQ(names(), std::vector<std::string>{"in.png"});
  };
  error_of(ErrorKind::input,
           [&] { save(picture, interrupted, {}, 128, 96, {file("out.png")}, {}); });
  EXPECT_EQ(names(), std::vector<std::string>{"in.png"});
  remove_temporary_files();
  EXPECT_EQ(names(), std::vector<std::string>{"in.png"});
}

TEST_F(OutputTest, DescriptorsAreWrittenAndStayOpen) {
  for (const Format format : {Format::png, Format::tiff, Format::webp, Format::jxl}) {
    const fs::path out = file("out." + std::string(extension_of(format)));
    const int descriptor = ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const Picture picture = load({file("in.png")}, {});
    save(picture, nearest(picture.rgb(), 2), {}, 128, 96, {"standard output", descriptor},
         {.format = format});
    EXPECT_EQ(::close(descriptor), 0);
    EXPECT_EQ(reopen(out).width(), 128) << to_string(format);
  }
}

TEST_F(OutputTest, PipesAndFifosAreWrittenDirectly) {
  ASSERT_EQ(::mkfifo(file("fifo").c_str(), 0600), 0);
  for (const Format format : {Format::png, Format::jpeg, Format::tiff, Format::webp, Format::pnm}) {
    std::string bytes;
    std::jthread reader([&] { bytes = read_file(file("fifo")); });
    const Picture picture = load({file("in.png")}, {});
    save(picture, nearest(picture.rgb(), 2), {}, 128, 96, {file("fifo")}, {.format = format});
    reader.join();
    write_file(file("copy"), bytes);
    EXPECT_EQ(reopen(file("copy")).width(), 128) << to_string(format);
    EXPECT_TRUE(fs::is_fifo(file("fifo")));
  }
  EXPECT_EQ(names(), (std::vector<std::string>{"copy", "fifo", "in.png"}));
}

TEST_F(OutputTest, FullDeviceIsOneClearLine) {
  for (const Format format : {Format::png, Format::jpeg, Format::tiff, Format::webp, Format::pnm,
                              Format::avif, Format::gif, Format::jxl})
    EXPECT_EQ(refused({"/dev/full"}, format),
              "'/dev/full': cannot be written: No space left on device")
        << to_string(format);
}

TEST_F(OutputTest, FullDiskLeavesNothing) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 1000;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  for (const Format format :
       {Format::png, Format::jpeg, Format::tiff, Format::webp, Format::pnm, Format::gif}) {
    const std::string text = refused({file("out." + std::string(extension_of(format)))}, format);
    EXPECT_NE(text.find("cannot be written: File too large"), std::string::npos) << text;
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  EXPECT_EQ(names(), std::vector<std::string>{"in.png"});
}

TEST_F(OutputTest, FoldersThatCannotBeWrittenTo) {
  EXPECT_NE(refused({file("none/out.png")}).find("there is no folder"), std::string::npos);
  EXPECT_NE(refused({file("in.png/out.png")}).find("there is no folder"), std::string::npos);
  fs::create_directory(file("folder"));
  EXPECT_NE(refused({file("folder")}).find("it is a folder"), std::string::npos);
  EXPECT_NE(refused({file(std::string(300, 'x'))}).find("too long"), std::string::npos);
  fs::create_directory(file("closed"));
  fs::permissions(file("closed"), fs::perms::owner_read | fs::perms::owner_exec);
  fs::permissions(folder(), fs::perms::all);
  fs::permissions(file("in.png"), fs::perms::all);
  {
    const Unprivileged user;
    EXPECT_NE(refused({file("closed/out.png")}).find("Permission denied"), std::string::npos);
  }
  EXPECT_EQ(names(), (std::vector<std::string>{"closed", "folder", "in.png"}));
}

TEST_F(OutputTest, NoTemporaryFolderForAPipeThatNeedsOne) {
  const char* before = std::getenv("TMPDIR");
  const std::string saved = before != nullptr ? before : "";
  ::setenv("TMPDIR", file("none").c_str(), 1);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  EXPECT_NE(refused({"standard output", ends[1]}, Format::tiff).find("no temporary file"),
            std::string::npos);
  ::close(ends[0]);
  ::close(ends[1]);
  if (before != nullptr)
    ::setenv("TMPDIR", saved.c_str(), 1);
  else
    ::unsetenv("TMPDIR");
}

TEST_F(OutputTest, BrokenPipeIsAnError) {
  const auto handler = ::signal(SIGPIPE, SIG_IGN);
  for (const Format format : {Format::png, Format::tiff}) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    ::close(ends[0]);
    EXPECT_NE(refused({"standard output", ends[1]}, format).find("Broken pipe"), std::string::npos);
    ::close(ends[1]);
  }
  ::signal(SIGPIPE, handler);
}

}  // namespace
}  // namespace elan::picture
