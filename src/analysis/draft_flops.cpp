// SPDX-License-Identifier: Apache-2.0
#include "analysis/draft_flops.h"

namespace indexshare {

namespace {

ModelConfig mtp_layer_alone(ModelConfig config) {
  config.num_layers = 1;
  config.plan = SharePlan::every_layer(1);
  config.is_moe_layer = {config.is_moe_layer.back()};
  return config;
}

}  // namespace

Flops draft_flops(const ModelConfig& config, int64_t first_position, int64_t num_rows,
                  int64_t num_logits_rows, AttentionMode mode) {
  Flops flops = forward_flops(mtp_layer_alone(config), first_position, num_rows, num_logits_rows, mode);
  flops.projections += static_cast<uint64_t>(4 * num_rows * config.hidden_dim * config.hidden_dim);
  return flops;
}

Flops later_draft_flops(const ModelConfig& config, int64_t anchor, DraftSelection selection,
                        AttentionMode mode) {
  Flops flops = draft_flops(config, anchor, 1, 1, mode);
  // It leaves no keys, so makes none.
  flops.projections -= static_cast<uint64_t>(2 * config.hidden_dim * config.latent_row_dim());
  if (selection == DraftSelection::shared) {
    flops.indexer_projections = flops.index_scores = 0;
  } else if (flops.indexer_projections > 0) {
    flops.indexer_projections -= static_cast<uint64_t>(2 * config.hidden_dim * config.indexer.head_dim);
  }
  return flops;
}

}  // namespace indexshare
