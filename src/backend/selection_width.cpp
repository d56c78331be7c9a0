// SPDX-License-Identifier: Apache-2.0
// |Set(t)| <= min(t + 1, W + G + min(cap, ceil(L / S)) + k) for every t < L, whatever the parts share.
#include <algorithm>

#include "backend/backend.h"

namespace indexshare {

int64_t selection_width(const FixedPattern& pattern, int64_t topk, int64_t max_positions) {
  const int64_t most = std::max<int64_t>(max_positions, 0);
  const auto at_most = [most](int64_t n) { return std::clamp<int64_t>(n, 0, most); };  // sums cannot overflow
  int64_t num_strided = 0;
  if (pattern.stride > 0) {
    num_strided = most / pattern.stride + (most % pattern.stride != 0);
    if (pattern.stride_cap > 0) num_strided = std::min(num_strided, pattern.stride_cap);
  }
  return at_most(at_most(topk) + at_most(pattern.window) + at_most(pattern.sinks) + num_strided);
}

}  // namespace indexshare
