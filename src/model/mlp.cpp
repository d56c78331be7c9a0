// SPDX-License-Identifier: Apache-2.0
// Feed-forward blocks: dense, W_down(silu(W_gate b) * W_up b), or routed experts plus an ungated shared one.
#include "model/model.h"

namespace indexshare {

void Model::mlp(int layer, const Batch& batch) {
  const Timed timed(counters_->seconds.mlp);
  const auto& w = layer_weights(layer).mlp;
  if (const auto* dense = std::get_if<DenseMlpWeights>(&w))
    dense_mlp(*dense, batch.num_rows(), workspace_.block_output);
  else
    moe(std::get<MoeWeights>(w), batch.num_rows());
}

void Model::dense_mlp(const DenseMlpWeights& w, int64_t num_rows, float* output) {
  Workspace& ws = workspace_;
  const int64_t dim = w.gate->out_dim(), hidden = config_.hidden_dim;
  const LinearArgs products[] = {{.x = ws.normed,
                                  .x_stride = hidden,
                                  .weight = w.gate.get(),
                                  .y = ws.mlp_gate,
                                  .y_stride = dim,
                                  .num_rows = num_rows},
                                 {.x = ws.normed,
                                  .x_stride = hidden,
                                  .weight = w.up.get(),
                                  .y = ws.mlp_up,
                                  .y_stride = dim,
                                  .num_rows = num_rows}};
  backend_.linear(products);
  counters_->mlp += 4ull * num_rows * hidden * dim;
  backend_.silu_multiply(
      {.gate = ws.mlp_gate, .up = ws.mlp_up, .y = ws.mlp_gate, .num_rows = num_rows, .dim = dim});
  linear(ws.mlp_gate, *w.down, output, num_rows, counters_->mlp);
}

void Model::moe(const MoeWeights& w, int64_t num_rows) {
  const MoeConfig& c = config_.moe;
  const int64_t hidden = config_.hidden_dim;
  Workspace& ws = workspace_;
  linear(ws.normed, *w.router, ws.router_logits, num_rows, counters_->mlp);
  backend_.route({.logits = ws.router_logits,
                  .bias = w.router_bias.data(),
                  .num_rows = num_rows,
                  .num_experts = c.num_experts,
                  .experts_per_token = c.experts_per_token,
                  .num_groups = c.num_groups,
                  .groups_per_token = c.groups_per_token,
                  .scale = c.routed_scale,
                  .normalize = c.normalize_weights,
                  .experts = ws.expert_ids,
                  .weights = ws.expert_weights});
  backend_.experts({.x = ws.normed,
                    .experts = ws.expert_ids,
                    .weights = ws.expert_weights,
                    .table = w.table,
                    .num_rows = num_rows,
                    .experts_per_token = c.experts_per_token,
                    .hidden = hidden,
                    .expert_dim = c.expert_dim,
                    .y = ws.block_output});
  counters_->mlp += 6ull * num_rows * c.experts_per_token * hidden * c.expert_dim;
  if (!w.shared) return;
  dense_mlp(*w.shared, num_rows, ws.shared_output);
  backend_.add({.x = ws.block_output, .y = ws.shared_output, .count = num_rows * hidden});
}

}  // namespace indexshare
