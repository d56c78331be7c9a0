// SPDX-License-Identifier: Apache-2.0
// Which rows of a text are looked at, and how much of a needle a selection holds.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace indexshare {

/// `count` positions of [first, last], or all where there are no more, spread evenly, both ends included;
/// ascending. count 1 is `last`.
std::vector<int64_t> spread_rows(int64_t first, int64_t last, int64_t count);

/// The share of the needle's positions that a selection (ascending, like the needle) holds.
double needle_recall(std::span<const int64_t> needle, std::span<const int32_t> selection);

}  // namespace indexshare
