// SPDX-License-Identifier: Apache-2.0
#include "engine/stop_matcher.h"

#include <gtest/gtest.h>

namespace indexshare {
namespace {

TEST(StopMatcher, HoldsBackOnlyWhatCouldStillBecomeAStopString) {
  StopMatcher m({"END", "\n\n"});
  EXPECT_EQ(m.push("abcE"), "abc");
  EXPECT_EQ(m.push("N"), "");
  EXPECT_EQ(m.push("x\n"), "ENx");
  EXPECT_EQ(m.push("y"), "\ny");
  EXPECT_EQ(m.push("zEN"), "z");
  EXPECT_EQ(m.push("D never shown"), "");
  EXPECT_TRUE(m.stopped());
  EXPECT_EQ(m.push("more"), "");
  EXPECT_EQ(m.flush(), "");
}

TEST(StopMatcher, TheEarliestMatchWins) {
  StopMatcher m({"later", "now"});
  EXPECT_EQ(m.push("say now or later"), "say ");
  EXPECT_TRUE(m.stopped());
}

TEST(StopMatcher, FlushGivesBackWhatWasHeld) {
  StopMatcher m({"stop"});
  EXPECT_EQ(m.push("do not sto"), "do not ");
  EXPECT_EQ(m.flush(), "sto");
  EXPECT_FALSE(m.stopped());
}

TEST(StopMatcher, RepeatedLettersDoNotHideAMatch) {
  StopMatcher m({"aab"});
  EXPECT_EQ(m.push("aa"), "");
  EXPECT_EQ(m.push("a"), "a");
  EXPECT_EQ(m.push("b"), "");
  EXPECT_TRUE(m.stopped());
}

}  // namespace
}  // namespace indexshare
