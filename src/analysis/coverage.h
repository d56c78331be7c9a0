// SPDX-License-Identifier: Apache-2.0
// How much of what dense attention looks at a selection holds.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "analysis/overlap.h"
#include "indexshare/analysis.h"

namespace indexshare {

/// Dense attention of one row in one layer: a softmax over the visible positions, a head at a time.
struct AttentionRow {
  std::span<const float> probabilities;  // [heads, visible]
  int64_t visible;

  int64_t heads() const { return std::ssize(probabilities) / visible; }
  std::span<const float> head(int64_t h) const {
    return probabilities.subspan(static_cast<size_t>(h * visible), static_cast<size_t>(visible));
  }
};

/// The mass on `selection`, head mean and worst head; at most 1.
Coverage coverage_of(const AttentionRow& row, std::span<const int32_t> selection);

/// The `size` positions with the most mass in the head mean, by (mass descending, position ascending);
/// emitted ascending. No selection of that size covers more in the mean; one may in the worst head.
Selection oracle_selection(const AttentionRow& row, int64_t size);

}  // namespace indexshare
