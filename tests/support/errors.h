// Expects an elan::Error and looks at what it says.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <exception>
#include <string>
#include <string_view>

#include "elan/error.h"

namespace elan::test {

// What `call` throws, "" if nothing. Fails unless it is an Error of this kind in one short line
// of printable text.
template <typename Call>
std::string error_of(ErrorKind kind, Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.kind(), kind) << message;
    EXPECT_LT(message.size(), 2000U) << message;
    EXPECT_TRUE(std::none_of(message.begin(), message.end(), [](unsigned char c) {
      return c < 32 || c == 127;
    })) << message;
    return message;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "not an elan::Error: " << error.what();
    return "";
  }
  ADD_FAILURE() << "no error";
  return "";
}

}  // namespace elan::test
