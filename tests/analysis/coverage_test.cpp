// SPDX-License-Identifier: Apache-2.0
#include "analysis/coverage.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace indexshare {
namespace {

const std::vector<float> kTwoHeads = {0.5f, 0.25f, 0.125f, 0.125f,  //
                                      0.0f, 0.25f, 0.0f,   0.75f};
const AttentionRow kRow{kTwoHeads, 4};

TEST(CoverageOf, ByHand) {
  const Coverage first = coverage_of(kRow, Selection{0, 1});
  EXPECT_DOUBLE_EQ(first.mean, (0.75 + 0.25) / 2);
  EXPECT_DOUBLE_EQ(first.worst, 0.25);
  EXPECT_EQ(coverage_of(kRow, Selection{}).mean, 0);
  const Coverage all = coverage_of(kRow, Selection{0, 1, 2, 3});
  EXPECT_EQ(all.mean, 1);
  EXPECT_EQ(all.worst, 1);
}

TEST(OracleSelection, TakesTheMostMassAndTheEarlierOfEquals) {
  EXPECT_EQ(oracle_selection(kRow, 1), (Selection{3}));
  EXPECT_EQ(oracle_selection(kRow, 2), (Selection{0, 3}));  // 0 and 1 have the same mass
  EXPECT_EQ(oracle_selection(kRow, 3), (Selection{0, 1, 3}));
  EXPECT_EQ(oracle_selection(kRow, 9), (Selection{0, 1, 2, 3}));
}

TEST(OracleSelection, CoversNoLessThanAnyOther) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform;
  for (int trial = 0; trial < 200; ++trial) {
    const int64_t visible = 1 + static_cast<int64_t>(random() % 40), heads = 1 + trial % 4;
    std::vector<float> p(static_cast<size_t>(heads * visible));
    for (int64_t h = 0; h < heads; ++h) {
      float sum = 0;
      for (int64_t s = 0; s < visible; ++s) sum += p[h * visible + s] = std::pow(uniform(random), 8.0f);
      for (int64_t s = 0; s < visible; ++s) p[h * visible + s] /= sum;
    }
    const AttentionRow row{p, visible};
    Selection chosen;
    for (int32_t s = 0; s < visible; ++s)
      if (random() % 3 == 0) chosen.push_back(s);
    const Coverage any = coverage_of(row, chosen),
                   best = coverage_of(row, oracle_selection(row, std::ssize(chosen)));
    EXPECT_GE(best.mean, any.mean - 1e-6);
    for (const Coverage& c : {any, best}) {
      EXPECT_LE(c.worst, c.mean + 1e-12);
      EXPECT_LE(c.mean, 1 + 1e-12);
      EXPECT_GE(c.worst, 0);
    }
  }
}

}  // namespace
}  // namespace indexshare
