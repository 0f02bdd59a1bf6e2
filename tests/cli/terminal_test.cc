#include "terminal.h"

#include <gtest/gtest.h>

namespace elan::cli {
namespace {

TEST(Terminal, ControlCharactersNeverGetThrough) {
  for (const bool terminal : {false, true}) {
    EXPECT_EQ(printable("a\nb\tc\x1b[2J\x7f", terminal), "a\\nb\\tc\\x1b[2J\\x7f");
    EXPECT_EQ(printable("é 漢 🙂", terminal), "é 漢 🙂");
  }
}

TEST(Terminal, StrangeBytesAreEscapedOnlyForTerminals) {
  // A lone byte, an overlong slash, a surrogate, beyond Unicode, a cut sequence, a C1 control.
  for (const auto& [bytes, escaped] : {std::pair<std::string, std::string>{"\xff", "\\xff"},
                                       {"\xc0\xaf", "\\xc0\\xaf"},
                                       {"\xed\xa0\x80", "\\xed\\xa0\\x80"},
                                       {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
                                       {"\xe6\xbc", "\\xe6\\xbc"},
                                       {"\xc2\x9b", "\\xc2\\x9b"}}) {
    EXPECT_EQ(printable("x" + bytes, true), "x" + escaped);
    EXPECT_EQ(printable("x" + bytes, false), "x" + bytes);
  }
  EXPECT_EQ(valid_utf8("a\xff\n"), "a\\xff\n");
}

TEST(Terminal, NamesAreSaidOnce) {
  EXPECT_EQ(message_line("", "a.png", "a.png: is broken", false), "elan-sr: a.png: is broken");
  EXPECT_EQ(message_line("", "a", "a picture is broken", false), "elan-sr: a: a picture is broken");
  EXPECT_EQ(message_line("warning: ", "", "x", false), "elan-sr: warning: x");
}

TEST(StatusLine, IsWrittenOverAndGoneInTheEnd) {
  testing::internal::CaptureStderr();
  {
    StatusLine line(true);
    line.clear();  // nothing there yet
    line.show("1 of 12");
    line.show("1 of 12");
    EXPECT_TRUE(line.shown());
    line.show("2 of 12");
    line.clear();
    EXPECT_FALSE(line.shown());
    line.show("2 of 12");
  }
  const std::string erased = "\r\x1b[K";
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "\r1 of 12\x1b[K\r2 of 12\x1b[K" + erased + "\r2 of 12\x1b[K" + erased);
}

TEST(StatusLine, IsNoLongerThanTheTerminalIsWide) {
  testing::internal::CaptureStderr();
  {
    StatusLine(true).show(std::string(100, 'x'));
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "\r" + std::string(79, 'x') + "\x1b[K\r\x1b[K");
}

TEST(StatusLine, WritesNothingWhereLinesCannotBeWrittenOver) {
  testing::internal::CaptureStderr();
  {
    StatusLine(false).show("1 of 12");
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace elan::cli
