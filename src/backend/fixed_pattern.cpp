// SPDX-License-Identifier: Apache-2.0
#include "backend/fixed_pattern.h"

#include <algorithm>

namespace indexshare {

FixedSet::FixedSet(const FixedPattern& pattern, int64_t t)
    : last_(t),
      window_begin_(std::max<int64_t>(0, t + 1 - std::clamp<int64_t>(pattern.window, 0, t + 1))),
      sink_end_(std::clamp<int64_t>(pattern.sinks, 0, t + 1)) {
  if (pattern.stride <= 0) return;
  const int64_t phase = ((pattern.stride_phase % pattern.stride) + pattern.stride) % pattern.stride;
  if (phase > t) return;
  const int64_t num_strided = (t - phase) / pattern.stride + 1;
  const int64_t num_kept = pattern.stride_cap > 0 ? std::min(num_strided, pattern.stride_cap) : num_strided;
  stride_ = pattern.stride;
  stride_begin_ = phase + (num_strided - num_kept) * stride_;
}

int64_t FixedSet::first_lone_stride() const {
  if (stride_begin_ >= sink_end_) return stride_begin_;
  return stride_begin_ + (sink_end_ - stride_begin_ + stride_ - 1) / stride_ * stride_;
}

int64_t FixedSet::size() const {
  const int64_t window_first = std::max(window_begin_, sink_end_);
  int64_t size = sink_end_ + (last_ + 1 - window_first);
  if (stride_ > 0 && first_lone_stride() < window_begin_)
    size += (window_begin_ - 1 - first_lone_stride()) / stride_ + 1;
  return size;
}

}  // namespace indexshare
