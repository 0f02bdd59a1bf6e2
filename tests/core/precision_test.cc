#include "elan/precision.h"

#include <gtest/gtest.h>

#include <string>

#include "elan/error.h"

namespace elan {
namespace {

TEST(Precision, NamesGoBothWays) {
  for (const char* name : {"fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8"}) {
    EXPECT_EQ(to_string(parse_precision(name)), name);
  }
}

TEST(Precision, AnUnknownNameIsAUsageErrorThatListsTheKnownOnes) {
  try {
    parse_precision("fp8x");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    const std::string text = error.what();
    EXPECT_NE(text.find("fp8x"), std::string::npos);
    EXPECT_NE(text.find("fp16"), std::string::npos);
  }
}

}  // namespace
}  // namespace elan
