// SPDX-License-Identifier: Apache-2.0
#include "analysis/needle.h"

#include <gtest/gtest.h>

#include "engine/fixture.h"
#include "indexshare/analysis.h"

namespace indexshare {
namespace {

TEST(SpreadRows, BothEndsAndEvenSteps) {
  EXPECT_EQ(spread_rows(8, 16, 3), (std::vector<int64_t>{8, 12, 16}));
  EXPECT_EQ(spread_rows(8, 16, 1), (std::vector<int64_t>{16}));
  EXPECT_EQ(spread_rows(5, 7, 99), (std::vector<int64_t>{5, 6, 7}));
  EXPECT_EQ(spread_rows(5, 5, 2), (std::vector<int64_t>{5}));
}

TEST(NeedleRecall, CountsTheNeedlesTokens) {
  const std::vector<int64_t> needle = {4, 5, 6, 7};
  EXPECT_EQ(needle_recall(needle, std::vector<int32_t>{0, 5, 7, 9}), 0.5);
  EXPECT_EQ(needle_recall(needle, std::vector<int32_t>{}), 0);
  EXPECT_EQ(needle_recall(needle, std::vector<int32_t>{4, 5, 6, 7}), 1);
}

TEST(FindNeedle, TokensThatHoldAPartOfTheLastOccurrence) {
  const auto tokenizer = Tokenizer::load(fixture("tiny-glm"));  // its tokens are bytes
  const auto tokens = tokenizer.encode("a cat, a cat.", SpecialTokens::as_text);
  EXPECT_EQ(find_needle(tokenizer, tokens, "cat"), (std::vector<int64_t>{9, 10, 11}));
  EXPECT_TRUE(find_needle(tokenizer, tokens, "dog").empty());
  EXPECT_TRUE(find_needle(tokenizer, tokens, "").empty());
}

}  // namespace
}  // namespace indexshare
