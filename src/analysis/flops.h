// SPDX-License-Identifier: Apache-2.0
// The cost model of docs/index_sharing.md: FLOPs (2 a multiply-add) and parameters as pure functions of a
// config.
//   linear   projections, MLP or routed experts with router and shared expert, head: per token
//   core     2 * heads * selected * (dims of a key + dims of a value), per layer
//   indexer  2 * projections + 2 * index heads * index dim * visible, per full layer
// Keys and values have (nope + rope) and v dims in MHA form, (latent + rope) and latent dims absorbed.
#pragma once

#include <cstdint>

#include "indexshare/analysis.h"
#include "model/model_config.h"

namespace indexshare {

enum class AttentionForm { mha, absorbed };

/// One token that sees `context` positions, its own included; every visible key is scored.
PlanCost decode_flops(const ModelConfig& config, int64_t context, AttentionForm form);

/// A prompt of `context` tokens, every visible key of every row scored, the head once.
PlanCost prefill_flops(const ModelConfig& config, int64_t context, AttentionForm form);

/// By the parts of the engine's counters.
struct Flops {
  uint64_t projections = 0, indexer_projections = 0, index_scores = 0, attention = 0;
  uint64_t mlp = 0;  // routers included
  uint64_t head = 0;
  uint64_t total() const { return projections + indexer_projections + index_scores + attention + mlp + head; }
  bool operator==(const Flops&) const = default;
};

/// What the engine's counters must show for a forward pass over positions [first_position, first_position +
/// num_rows) with the logits of `num_logits_rows` rows: absorbed form, the config's plan. A row is scored
/// where it sees more than topk positions. Exact, but for UNION patterns, whose overlap depends on the
/// scores: there attention is an upper bound (no overlap).
Flops forward_flops(const ModelConfig& config, int64_t first_position, int64_t num_rows,
                    int64_t num_logits_rows, AttentionMode mode = AttentionMode::sparse);

/// |Fix(t)| of a query at position t >= 0: how many positions the pattern alone selects.
int64_t fixed_set_size(const FixedPattern& pattern, int64_t t);

/// Indexers of full layers (and of MTP layers) count, the routers' correction biases do not.
ParameterCounts parameter_counts(const ModelConfig& config);

}  // namespace indexshare
