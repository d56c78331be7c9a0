// SPDX-License-Identifier: Apache-2.0
// The best `topk` of a stream of (score, position) that arrives in ascending position, in bounded memory:
// survivors of a rising threshold collect in a buffer, which is cut back to the exact top-k whenever it is
// full. The order is (score descending, position ascending); since positions ascend, equals of the threshold
// that come later lose and the buffer never needs sorting. candidates-inl.h fills and cuts it.
#pragma once

#include <cstdint>

namespace indexshare {

struct Candidates {
  static constexpr int64_t kSlack = 64;  // a tile of keys is written without asking

  static int64_t capacity_for(int64_t topk) { return (2 * topk + 512 + kSlack + 15) / 16 * 16; }

  float* scores;       // [capacity]
  int32_t* positions;  // [capacity], ascending
  int32_t* order;      // [capacity] working memory of shrink, may be shared by many
  int64_t capacity, topk;
  int64_t count;
  float threshold;  // once `selective`, only scores above it enter
  bool selective;
  bool has_nan;

  bool full() const { return count > capacity - kSlack; }
};

}  // namespace indexshare
