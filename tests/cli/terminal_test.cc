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

}  // namespace
}  // namespace elan::cli
