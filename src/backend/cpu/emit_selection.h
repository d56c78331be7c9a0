// SPDX-License-Identifier: Apache-2.0
// Writes a row's set into index_select's output: ascending, -1 padded, with its count.
#pragma once

#include "backend/backend.h"
#include "backend/cpu/candidates.h"

namespace indexshare {

/// The set of a row that needs no scores: everything, or Fix(t).
void emit_unscored(const IndexSelectArgs& args, int64_t row, int64_t t);

/// The candidates, ascending, merged with Fix(t); a rejected row where there was a NaN.
void emit_scored(const IndexSelectArgs& args, int64_t row, int64_t t, const Candidates& best);

}  // namespace indexshare
