// SPDX-License-Identifier: Apache-2.0
#include "analysis/overlap.h"

#include <gtest/gtest.h>

namespace indexshare {
namespace {

TEST(OverlapOf, SmallSetsByHand) {
  const Overlap half = overlap_of(Selection{1, 2, 3, 4}, Selection{3, 4, 5, 6});
  EXPECT_DOUBLE_EQ(half.share, 0.5);
  EXPECT_DOUBLE_EQ(half.jaccard, 2.0 / 6);
  const Overlap unequal = overlap_of(Selection{1, 2}, Selection{0, 1, 2, 9});
  EXPECT_DOUBLE_EQ(unequal.share, 0.5);
  EXPECT_DOUBLE_EQ(unequal.jaccard, 0.5);
  EXPECT_EQ(overlap_of(Selection{1}, Selection{2}).share, 0);
  EXPECT_EQ(overlap_of(Selection{1}, Selection{}).jaccard, 0);
  EXPECT_EQ(overlap_of(Selection{}, Selection{}).share, 1);
  EXPECT_EQ(overlap_of(Selection{0, 7, 8}, Selection{0, 7, 8}).jaccard, 1);
}

// Two rows, layers 0, 2 and 5 of six.
const std::vector<std::vector<Selection>> kSelections = {
    {{0, 1}, {}, {0, 1}, {}, {}, {0, 2}},
    {{3, 4}, {}, {4, 5}, {}, {}, {5, 6}},
};
constexpr int kLayers[] = {0, 2, 5};

TEST(OverlapMatrix, IsTheMeanOverRows) {
  const auto m = overlap_matrix(kSelections, kLayers);
  ASSERT_EQ(m.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(m[i][i].share, 1);
  EXPECT_DOUBLE_EQ(m[0][1].share, (1 + 0.5) / 2);
  EXPECT_DOUBLE_EQ(m[1][0].jaccard, (1 + 1.0 / 3) / 2);
  EXPECT_DOUBLE_EQ(m[0][2].share, (0.5 + 0) / 2);
  EXPECT_DOUBLE_EQ(m[2][1].share, (0.5 + 0.5) / 2);
}

TEST(OverlapByDistance, DistancesAreThoseInTheModel) {
  const auto distances = overlap_by_distance(overlap_matrix(kSelections, kLayers), kLayers);
  ASSERT_EQ(distances.size(), 3u);
  EXPECT_EQ(distances[0].distance, 2);
  EXPECT_EQ(distances[1].distance, 3);
  EXPECT_EQ(distances[2].distance, 5);
  EXPECT_EQ(distances[1].num_pairs, 1);
  EXPECT_DOUBLE_EQ(distances[1].mean.share, 0.5);
  constexpr int kNeighbours[] = {0, 1, 2};
  const auto three = overlap_by_distance(
      {{{1, 1}, {.2, .1}, {.5, .4}}, {{.2, .1}, {1, 1}, {.6, .5}}, {{.5, .4}, {.6, .5}, {1, 1}}},
      kNeighbours);
  ASSERT_EQ(three.size(), 2u);
  EXPECT_EQ(three[0].num_pairs, 2);
  EXPECT_DOUBLE_EQ(three[0].mean.share, .4);
  EXPECT_DOUBLE_EQ(three[0].mean.jaccard, .3);
  EXPECT_DOUBLE_EQ(three[0].lowest, .2);
  EXPECT_DOUBLE_EQ(three[0].highest, .6);
}

}  // namespace
}  // namespace indexshare
