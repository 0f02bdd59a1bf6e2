#include "core/memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace elan {
namespace {

TEST(FormatBytes, IsForPeople) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1 KiB");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(std::size_t{1} << 20), "1 MiB");
  EXPECT_EQ(format_bytes((std::size_t{1} << 20) - 1), "1 MiB");
  EXPECT_EQ(format_bytes(std::size_t{5} << 29), "2.5 GiB");
}

TEST(MemoryLimit, IsNoMoreThanTheMachineHas) {
  const auto physical = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) *
                        static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  EXPECT_LE(memory_limit(), physical);
  EXPECT_GE(memory_limit(), std::size_t{64} << 20);
  EXPECT_EQ(memory_limit(), memory_limit());
}

}  // namespace
}  // namespace elan
