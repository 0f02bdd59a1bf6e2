// The bounded list in which graphs are kept.
#include "cuda/recent.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace elan::cuda {
namespace {

struct Value {
  explicit Value(int v) : value(v) { ++alive; }
  ~Value() { --alive; }
  Value(const Value&) = delete;
  Value& operator=(const Value&) = delete;
  int value;
  static inline int alive = 0;
};

TEST(RecentlyUsed, CountsUsesAndKeepsValues) {
  RecentlyUsed<std::string, Value> recent(3);
  const auto nothing = [] { FAIL() << "nothing is dropped"; };
  auto& first = recent.use("a", nothing);
  EXPECT_EQ(first.uses, 1U);
  EXPECT_FALSE(first.value.has_value());
  first.value.emplace(7);
  recent.use("b", nothing);
  auto& again = recent.use("a", nothing);
  EXPECT_EQ(again.uses, 2U);
  ASSERT_TRUE(again.value.has_value());
  EXPECT_EQ(again.value->value, 7);
  EXPECT_EQ(recent.size(), 2U);
}

TEST(RecentlyUsed, DropsTheLeastRecentAndSaysSoBeforeAValueGoes) {
  RecentlyUsed<int, Value> recent(3);
  int dropped = 0;
  const auto count = [&] {
    ++dropped;
    EXPECT_EQ(Value::alive, 2) << "called before, not after";
  };
  recent.use(1, count).value.emplace(10);
  recent.use(2, count);
  recent.use(3, count).value.emplace(30);
  recent.use(1, count);
  recent.use(4, count);  // 2 goes, which has no value
  EXPECT_EQ(dropped, 0);
  recent.use(5, count);  // 3 goes
  EXPECT_EQ(dropped, 1);
  EXPECT_EQ(Value::alive, 1);
  EXPECT_EQ(recent.size(), 3U);
  EXPECT_EQ(recent.use(1, count).uses, 3U);
  EXPECT_EQ(recent.use(2, [] {}).uses, 1U) << "what was dropped begins anew";
  recent.clear();
  EXPECT_EQ(Value::alive, 0);
}

}  // namespace
}  // namespace elan::cuda
