// SPDX-License-Identifier: Apache-2.0
// Batch: what one forward pass works on. Rows of one sequence are neighbours, in ascending position.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "model/share_plan.h"

namespace indexshare {

/// See indexshare/engine.h; positions is [num_rows, width] of one sequence.
using RowsHook = std::function<void(int layer, int64_t first_position, int64_t num_rows, int64_t width,
                                    std::span<int32_t> positions)>;

/// See indexshare/engine.h; probabilities is [num_heads, position + 1].
using RowProbe = std::function<void(int layer, int64_t position, std::span<const float> probabilities,
                                    std::span<const int32_t> selection)>;

struct Batch {
  std::vector<int32_t> tokens;          // [num_rows]
  std::vector<int64_t> positions;       // [num_rows], within the row's own sequence
  std::vector<SequenceRows> sequences;  // cover the rows in order; their pages are already grown
  RowsHook selection_hook;              // may be empty
  // Draft passes after the first read the cache and leave nothing in it. Their rows see positions up to their
  // sequence's first_position, while `positions` tells where they stand.
  bool leaves_keys = true;

  // Analysis: another plan than the config's, whose full layers are full there too; dense attention instead;
  // and the rows of which attention is shown.
  const SharePlan* plan = nullptr;
  bool dense = false;
  RowProbe attention_probe;         // may be empty
  std::vector<int64_t> probe_rows;  // rows of the batch

  int64_t num_rows() const { return static_cast<int64_t>(tokens.size()); }

  /// Calls visit(row, positions the row sees) in order of row.
  template <class Visit>
  void for_each_row(const Visit& visit) const {
    for (const SequenceRows& s : sequences)
      for (int64_t row = s.row_begin; row < s.row_end; ++row)
        visit(row, s.first_position + (row - s.row_begin) + 1);
  }
};

}  // namespace indexshare
