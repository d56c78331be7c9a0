// SPDX-License-Identifier: Apache-2.0
// Fix(t), the positions a query at t attends regardless of scores: the union of
//   window   max(0, t - W + 1) <= s <= t
//   sinks    0 <= s < min(G, t + 1)
//   stride   s <= t, s = phase (mod S), the `stride_cap` latest of them where capped
// Membership is O(1) and the positions come out ascending without a sort, so no backend needs a bitmap.
#pragma once

#include <cstdint>
#include <vector>

#include "indexshare/options.h"

namespace indexshare {

class FixedSet {
 public:
  /// Fix(t) of one query position t >= 0.
  FixedSet(const FixedPattern& pattern, int64_t t);

  bool contains(int64_t s) const {
    if (s < 0 || s > last_) return false;
    if (s >= window_begin_ || s < sink_end_) return true;
    return stride_ > 0 && s >= stride_begin_ && (s - stride_begin_) % stride_ == 0;
  }

  int64_t size() const;
  /// body(position) in ascending order, each once.
  template <class Body>
  void for_each(const Body& body) const {
    for (int64_t s = 0; s < sink_end_; ++s) body(static_cast<int32_t>(s));
    if (stride_ > 0)
      for (int64_t s = first_lone_stride(); s < window_begin_; s += stride_) body(static_cast<int32_t>(s));
    for (int64_t s = window_begin_ > sink_end_ ? window_begin_ : sink_end_; s <= last_; ++s)
      body(static_cast<int32_t>(s));
  }
  void append_to(std::vector<int32_t>& positions) const {
    for_each([&](int32_t s) { positions.push_back(s); });
  }

 private:
  int64_t first_lone_stride() const;  // the first strided position not below sink_end_

  int64_t last_;          // t
  int64_t window_begin_;  // t + 1 where there is no window
  int64_t sink_end_;      // 0 where there are no sinks
  int64_t stride_ = 0;    // 0 where no strided position is visible
  int64_t stride_begin_ = 0;
};

}  // namespace indexshare
