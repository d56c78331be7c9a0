// SPDX-License-Identifier: Apache-2.0
// What drafting costs, in the terms of flops.h: the MTP layer is one full layer more, behind the product that
// joins embedding and hidden state. Against it the engine's drafting counters are held.
#pragma once

#include "analysis/flops.h"
#include "model/model.h"

namespace indexshare {

/// A first draft pass over rows at [first_position, first_position + num_rows), of which `num_logits_rows`
/// begin a round of drafts.
Flops draft_flops(const ModelConfig& config, int64_t first_position, int64_t num_rows,
                  int64_t num_logits_rows, AttentionMode mode = AttentionMode::sparse);

/// One row of a later draft pass, whose round began at position `anchor`.
Flops later_draft_flops(const ModelConfig& config, int64_t anchor, DraftSelection selection,
                        AttentionMode mode = AttentionMode::sparse);

}  // namespace indexshare
