// SPDX-License-Identifier: Apache-2.0
// How alike the selections of two layers are.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "indexshare/analysis.h"

namespace indexshare {

using Selection = std::vector<int32_t>;  // ascending positions

/// How many positions two ascending lists have in common.
int64_t count_common(std::span<const int32_t> a, std::span<const int32_t> b);

/// Of two empty selections: 1.
Overlap overlap_of(std::span<const int32_t> a, std::span<const int32_t> b);

/// Means over rows for every pair of layers.
/// @param selections [rows][layers]
/// @return [layers, layers], symmetric, 1 on the diagonal
std::vector<std::vector<Overlap>> overlap_matrix(std::span<const std::vector<Selection>> selections,
                                                 std::span<const int> layers);

/// The same by the distance of the two layers in the model, ascending from 1; distances that no pair has are
/// left out.
std::vector<DistanceOverlap> overlap_by_distance(const std::vector<std::vector<Overlap>>& matrix,
                                                 std::span<const int> layers);

}  // namespace indexshare
