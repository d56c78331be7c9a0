// SPDX-License-Identifier: Apache-2.0
#include "backend/fixed_pattern.h"

#include <gtest/gtest.h>

#include <limits>

#include "backend/selection_twin.h"

namespace indexshare {
namespace {

std::vector<int32_t> positions_of(const FixedPattern& pattern, int64_t t) {
  std::vector<int32_t> positions;
  FixedSet(pattern, t).append_to(positions);
  return positions;
}

TEST(FixedPattern, WrittenOut) {
  EXPECT_EQ(positions_of({}, 5), (std::vector<int32_t>{}));
  EXPECT_EQ(positions_of({.window = 1}, 5), (std::vector<int32_t>{5}));
  EXPECT_EQ(positions_of({.window = 9}, 2), (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(positions_of({.sinks = 2}, 5), (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(positions_of({.sinks = 9}, 1), (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(positions_of({.stride = 3}, 7), (std::vector<int32_t>{0, 3, 6}));
  EXPECT_EQ(positions_of({.stride = 3, .stride_phase = 1, .stride_cap = 2}, 10),
            (std::vector<int32_t>{7, 10}));
  EXPECT_EQ(positions_of({.stride = 3, .stride_phase = 2}, 1), (std::vector<int32_t>{}));
  EXPECT_EQ(positions_of({.stride = 1}, 3), (std::vector<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(positions_of({.window = 3, .sinks = 2, .stride = 4}, 13),
            (std::vector<int32_t>{0, 1, 4, 8, 11, 12, 13}));
  // The cap counts strided positions inside the window too.
  EXPECT_EQ(positions_of({.window = 5, .stride = 4, .stride_cap = 2}, 16),
            (std::vector<int32_t>{12, 13, 14, 15, 16}));
}

TEST(FixedPattern, EverySmallPatternEqualsItsDefinition) {
  for (int64_t window : {0, 1, 3, 20})
    for (int64_t sinks : {0, 1, 4, 20})
      for (int64_t stride : {0, 1, 2, 5, 30})
        for (int64_t phase : {0, 1, 4, 7})
          for (int64_t cap : {0, 1, 3}) {
            const FixedPattern pattern{window, sinks, stride, phase, cap, FixedPattern::Mode::fill};
            for (int64_t t = 0; t < 25; ++t) {
              const FixedSet fixed(pattern, t);
              const std::vector<bool> marks = twin_fixed(pattern, t);
              std::vector<int32_t> expected;
              for (int64_t s = 0; s <= t; ++s) {
                ASSERT_EQ(fixed.contains(s), marks[s]) << describe(pattern) << " t " << t << " s " << s;
                if (marks[s]) expected.push_back(static_cast<int32_t>(s));
              }
              ASSERT_FALSE(fixed.contains(-1) || fixed.contains(t + 1)) << describe(pattern) << " t " << t;
              ASSERT_EQ(positions_of(pattern, t), expected) << describe(pattern) << " t " << t;
              ASSERT_EQ(fixed.size(), static_cast<int64_t>(expected.size()))
                  << describe(pattern) << " t " << t;
            }
          }
}

TEST(SelectionWidth, BoundsEverySet) {
  for (int64_t window : {0, 3, 50})
    for (int64_t sinks : {0, 2})
      for (int64_t stride : {0, 1, 5})
        for (int64_t cap : {0, 2})
          for (int64_t topk : {0, 1, 7, 50}) {
            const FixedPattern pattern{window, sinks, stride, 0, cap, FixedPattern::Mode::fill};
            for (int64_t max_positions : {0, 1, 2, 10, 31}) {
              const int64_t width = selection_width(pattern, topk, max_positions);
              ASSERT_LE(width, max_positions);
              for (int64_t t = 0; t < max_positions; ++t) {
                const int64_t size =
                    t + 1 <= topk ? t + 1 : std::min(t + 1, FixedSet(pattern, t).size() + topk);
                ASSERT_GE(width, size) << describe(pattern) << " topk " << topk << " t " << t;
              }
            }
          }
}

TEST(SelectionWidth, WrittenOut) {
  EXPECT_EQ(selection_width({}, 2048, 1 << 20), 2048);
  EXPECT_EQ(selection_width({}, 2048, 100), 100);
  EXPECT_EQ(selection_width({.window = 64, .sinks = 4, .stride = 100}, 8, 1000), 64 + 4 + 10 + 8);
  EXPECT_EQ(selection_width({.stride = 100}, 8, 1001), 11 + 8);
  EXPECT_EQ(selection_width({.stride = 100, .stride_cap = 3}, 8, 1001), 11);
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(selection_width({.window = kHuge, .sinks = kHuge, .stride = 1, .stride_cap = kHuge}, kHuge, 5),
            5);
}

}  // namespace
}  // namespace indexshare
