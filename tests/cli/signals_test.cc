// Interrupted runs end with the right status and leave nothing half written.
#include <gtest/gtest.h>

#include <csignal>

#include "folder.h"
#include "process.h"

namespace elan::test {
namespace {

// A run that takes long enough to be interrupted: the slow device on a picture of some size.
std::vector<std::string> long_run() {
  return {"upscale", "-d", "reference", "-i", "a.ppm", "b.ppm", "-o", "out", "--progress=json"};
}

class Signals : public testing::TestWithParam<int> {};

TEST_P(Signals, StopTheRun) {
  const Folder f;
  f.write("a.ppm", ppm(96, 96));
  f.write("b.ppm", ppm(96, 96));
  Running running(long_run(), {.folder = f.str()});
  std::string line;
  do {
    line = running.next_error_line();
  } while (!line.empty() && line.find("\"progress\"") == std::string::npos);
  ASSERT_NE(line, "") << "no progress was reported";
  running.signal(GetParam());
  const Outcome o = running.finish();
  EXPECT_EQ(o.status, 128 + GetParam()) << o.err;
  EXPECT_EQ(f.files(), (std::set<std::string>{"a.ppm", "b.ppm"}));
  EXPECT_NE(o.err.find("\"end\""), std::string::npos) << o.err;
  EXPECT_EQ(o.err.find("\"error\""), std::string::npos) << o.err;
}

INSTANTIATE_TEST_SUITE_P(Each, Signals, testing::Values(SIGINT, SIGTERM, SIGHUP),
                         [](const auto& test) {
                           return test.param == SIGINT    ? "Interrupt"
                                  : test.param == SIGTERM ? "Terminate"
                                                          : "HangUp";
                         });

TEST(Signals, ASecondOneEndsARunThatWaitsForInput) {
  const Folder f;
  ASSERT_EQ(mkfifo((f / "pipe.ppm").c_str(), 0600), 0);
  // Nobody ever writes into the pipe: decoding it cannot be stopped.
  Running running({"upscale", "-i", "pipe.ppm", "-o", "b.ppm", "--progress=json"},
                  {.folder = f.str()});
  EXPECT_NE(running.next_error_line().find("\"start\""), std::string::npos);
  running.signal(SIGTERM);
  running.signal(SIGINT);  // may well be the first to arrive
  const int status = running.finish().status;
  EXPECT_TRUE(status == 128 + SIGTERM || status == 128 + SIGINT) << status;
  EXPECT_EQ(f.files(), (std::set<std::string>{"pipe.ppm"}));
}

TEST(Signals, AReaderThatLeavesEndsTheRunQuietly) {
  const Folder f;
  f.write("a.ppm", ppm(64, 64));
  Running running({"upscale", "-i", "a.ppm", "-o", "-", "-f", "ppm"}, {.folder = f.str()});
  running.close_output();
  const Outcome o = running.finish();
  EXPECT_EQ(o.status, 1);
  EXPECT_EQ(o.err, "");
}

}  // namespace
}  // namespace elan::test
