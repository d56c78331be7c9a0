// SPDX-License-Identifier: Apache-2.0
#include "model/share_plan.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "checkpoint/bad_files.h"

namespace indexshare {
namespace {

// Searched patterns of the IndexCache paper: a 30B model at 1/2, 1/4 and 1/8, GLM-5 at 1/2 and 1/4.
constexpr const char* kSearched30bHalf = "FSFSFSSSSFSFFFFSFFSSFFSFFFSSFFSSFSSSSFSFFFSFSSF";
constexpr const char* kSearched30bEighth = "FSSSFSSSSSSSSFSSSFSSSSSFSSSSFSSSSSSSSFSSSSSSSSS";
constexpr const char* kSearched30bQuarter = "FSFSFSSSSFSSSFSSFFSSFSSFSSSSFSSSFSSSSFSSSSSSSSS";
constexpr const char* kSearchedGlmHalf =
    "FFSFSSSFSSFFFSSSFFFSFSSSSSSFFSFFSFFSSFFFFFFSFFFFFSFFSSSSSSFSFFFSFSSSFSFFSFFSSS";
constexpr const char* kSearchedGlmQuarter =
    "FFSFSSSFSSFSFSSSSSSSFSSSSSSFSSSFSFSSSSFFFFFSSSFFSSSFSSSSSSSSFSSSFSSSSSSFSFSSSS";

std::string error_of(const SharePlanFields& fields, int num_layers) {
  return test::error_of([&] { choose_share_plan(fields, num_layers); });
}

std::vector<std::string> types_of(const std::string& pattern) {
  std::vector<std::string> types;
  for (const char letter : pattern) types.push_back(letter == 'F' ? "full" : "shared");
  return types;
}

TEST(SharePlan, Glm52HasTwentyOneFullLayers) {
  const SharePlan plan = SharePlan::from_frequency(4, 3, 78);
  EXPECT_EQ(plan.full_layers(), (std::vector<int>{0,  1,  2,  6,  10, 14, 18, 22, 26, 30, 34,
                                                  38, 42, 46, 50, 54, 58, 62, 66, 70, 74}));
  EXPECT_EQ(plan.num_full(), 21);
  EXPECT_EQ(plan.source[77], 74);
  EXPECT_EQ(plan.slot[74], 20);
  EXPECT_EQ(plan.slot[77], -1);
}

TEST(SharePlan, FrequencyFollowsTransformers) {
  EXPECT_EQ(SharePlan::from_frequency(4, 3, 8).pattern(), "FFFSSSFS");
  EXPECT_EQ(SharePlan::from_frequency(4, 2, 8).pattern(), "FFSSSFSS");
  EXPECT_EQ(SharePlan::from_frequency(4, 1, 8).pattern(), "FSSSFSSS");
  EXPECT_EQ(SharePlan::from_frequency(1, 2, 5).pattern(), "FFFFF");
  EXPECT_EQ(SharePlan::from_frequency(1000, 1'000'000'000'000, 4).pattern(), "FFFF");
}

TEST(SharePlan, PatternRoundTrips) {
  for (const std::string pattern : {"F", "FS", "FSSSS", "FFFSSSFS", kSearched30bQuarter}) {
    const int num_layers = static_cast<int>(pattern.size());
    EXPECT_EQ(SharePlan::from_pattern(pattern, num_layers, "p").pattern(), pattern);
  }
  EXPECT_EQ(SharePlan::every_layer(4).pattern(), "FFFF");
  EXPECT_EQ(SharePlan::every_layer(4).slot, (std::vector<int>{0, 1, 2, 3}));
}

TEST(SharePlan, SearchedPatterns) {
  EXPECT_EQ(SharePlan::from_pattern(kSearched30bQuarter, 47, "p").num_full(), 12);
  EXPECT_EQ(SharePlan::from_pattern(kSearched30bHalf, 47, "p").num_full(), 24);
  EXPECT_EQ(SharePlan::from_pattern(kSearched30bEighth, 47, "p").num_full(), 7);
  EXPECT_EQ(SharePlan::from_pattern(kSearchedGlmHalf, 78, "p").num_full(), 40);
  EXPECT_EQ(SharePlan::from_pattern(kSearchedGlmQuarter, 78, "p").num_full(), 22);
}

TEST(SharePlan, EverySharedLayerReadsTheNearestFullOneBefore) {
  const SharePlan plan = SharePlan::from_pattern(kSearchedGlmQuarter, 78, "p");
  const std::vector<int> full = plan.full_layers();
  for (int layer = 0; layer < 78; ++layer) {
    const int nearest = *std::prev(std::upper_bound(full.begin(), full.end(), layer));
    EXPECT_EQ(plan.source[layer], nearest);
    EXPECT_EQ(plan.is_full(layer), plan.slot[layer] >= 0);
  }
}

TEST(SharePlan, EveryEncodingGivesTheSameTable) {
  const SharePlan formula = choose_share_plan({.index_topk_freq = 4, .index_skip_topk_offset = 3}, 8);
  const SharePlan pattern = choose_share_plan({.index_topk_pattern = "FFFSSSFS"}, 8);
  const SharePlan types = choose_share_plan({.indexer_types = types_of("FFFSSSFS")}, 8);
  EXPECT_EQ(formula.source, pattern.source);
  EXPECT_EQ(formula.source, types.source);
  EXPECT_EQ(formula.slot, types.slot);
  EXPECT_EQ(choose_share_plan({}, 8).pattern(), "FFFFFFFF");
  EXPECT_EQ(choose_share_plan({.index_topk_freq = 4}, 8).pattern(), "FFSSSFSS");
}

TEST(SharePlan, Precedence) {
  const SharePlanFields all = {.indexer_types = types_of("FSFS"),
                               .index_topk_pattern = "FSFS",
                               .index_topk_freq = 4,
                               .index_skip_topk_offset = 3};
  EXPECT_EQ(choose_share_plan(all, 4).pattern(), "FSFS");
  EXPECT_EQ(choose_share_plan({.index_topk_pattern = "FSSF", .index_topk_freq = 2}, 4).pattern(), "FSSF");
}

TEST(SharePlan, MalformedEncodings) {
  test::expect_sentence(error_of({.index_topk_pattern = "FSSS"}, 5),
                        {"index_topk_pattern", "5 letters", "found 4"});
  test::expect_sentence(error_of({.index_topk_pattern = "FSXS"}, 4), {"index_topk_pattern", "0x58 at 2"});
  test::expect_sentence(error_of({.index_topk_pattern = "SFFF"}, 4),
                        {"index_topk_pattern", "layer 0", "found S"});
  test::expect_sentence(error_of({.indexer_types = types_of("FS")}, 3),
                        {"indexer_types", "3 entries", "found 2"});
  test::expect_sentence(error_of({.indexer_types = types_of("SF")}, 2), {"indexer_types[0]", "\"full\""});
  test::expect_sentence(error_of({.indexer_types = {{"full", "F\n"}}}, 2), {"indexer_types[1]", "F\\x0a"});
  test::expect_sentence(error_of({.index_topk_freq = 0}, 4), {"index_topk_freq", "at least 1", "found 0"});
  test::expect_sentence(error_of({.index_topk_freq = 4, .index_skip_topk_offset = 0}, 4),
                        {"index_skip_topk_offset", "layer 0 full", "found 0"});
  test::expect_sentence(error_of({.index_topk_freq = 1, .index_skip_topk_offset = -1}, 4),
                        {"index_skip_topk_offset", "found -1"});
  test::expect_sentence(error_of({.indexer_types = types_of("FSFS"), .index_topk_pattern = "FFFS"}, 4),
                        {"index_topk_pattern", "expected FSFS as indexer_types says", "found FFFS"});
}

}  // namespace
}  // namespace indexshare
