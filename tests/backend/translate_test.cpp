// SPDX-License-Identifier: Apache-2.0
#include "backend/harness.h"

namespace indexshare {
namespace {

class Translate : public OpTest {};
INSTANTIATE_FOR_BACKENDS(Translate);

TEST_P(Translate, FollowsEachSequencesPageTable) {
  for (int64_t page_size : {1, 16, 61, 64}) {
    SCOPED_TRACE(page_size);
    const std::vector<int32_t> first{9, 2, 33000000 / static_cast<int32_t>(page_size)}, second{0, 5, 7};
    const SequenceRows sequences[] = {{0, 2, 10, first.data()}, {2, 3, 0, second.data()}};
    const auto p = static_cast<int32_t>(page_size);
    const int64_t width = 4;
    const std::vector<int32_t> positions{0, p, 3 * p - 1, -1, -1, -1, -1, -1, p - 1, -1, -1, -1};
    const std::vector<int32_t> counts{3, 0, 1};
    std::vector<int32_t> slots(positions.size(), -9);
    backend->translate({positions.data(), counts.data(), width, page_size, sequences, slots.data()});
    EXPECT_EQ(slots, (std::vector<int32_t>{9 * p, 2 * p, first[2] * p + p - 1, -1, -1, -1, -1, -1, p - 1, -1,
                                           -1, -1}));
  }
}

TEST_P(Translate, RejectedRowStaysEmpty) {
  const int32_t page = 3;
  const SequenceRows sequences[] = {{0, 1, 5, &page}};
  const std::vector<int32_t> positions(3, -1);
  const int32_t count = -1;
  std::vector<int32_t> slots(3, -9);
  backend->translate({positions.data(), &count, 3, 64, sequences, slots.data()});
  EXPECT_EQ(slots, positions);
}

TEST_P(Translate, NoRows) { backend->translate({nullptr, nullptr, 8, 64, {}, nullptr}); }

// A sequence given in the middle of a batch reads its rows, not the first ones.
TEST_P(Translate, ManyRows) {
  const int64_t num_rows = 500, width = 37, page_size = 16;
  Rng rng(1);
  const std::vector<int32_t> table = rng.permutation(40);
  std::vector<int32_t> positions, counts, expected;
  for (int64_t row = 0; row < num_rows; ++row) {
    counts.push_back(static_cast<int32_t>(rng.integer(0, width)));
    for (int64_t i = 0; i < width; ++i) {
      const auto position = static_cast<int32_t>(i < counts.back() ? rng.integer(0, 40 * page_size - 1) : -1);
      positions.push_back(position);
      expected.push_back(position < 0 ? -1 : table[position / 16] * 16 + position % 16);
    }
  }
  const SequenceRows sequences[] = {{0, 499, 100, table.data()}, {499, 500, 600, table.data()}};
  std::vector<int32_t> slots(positions.size(), -9);
  backend->translate({positions.data(), counts.data(), width, page_size, sequences, slots.data()});
  EXPECT_EQ(slots, expected);
}

}  // namespace
}  // namespace indexshare
