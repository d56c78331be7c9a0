// SPDX-License-Identifier: Apache-2.0
// Multi-head latent attention in absorbed form (DeepSeek-V2/V3), over the selection of the layer's source.
//   r = norm(W_qa a), q = W_qb r;  latent | rope = W_kva a;  query_latent_h = W_k,h^T q_nope,h
//   attended_h = sum_s softmax(query_latent_h . latent_s + q_rope,h . rope_s) latent_s
//   out = W_o [W_v,h attended_h]
#include <algorithm>

#include "model/model.h"

namespace indexshare {

void Model::attention(int layer, const Batch& batch, PagedCache& cache, TopkIndices& selection) {
  const AttentionWeights& w = layer_weights(layer).attention;
  project_queries(w, batch);
  if (batch.leaves_keys) write_latents(layer, batch, cache);
  if (selects(batch) && source_of(layer, batch) == layer && !selection.is_of(layer, step_))
    select(layer, batch, cache, selection);
  absorb_keys(w, batch.num_rows());
  attend(layer, batch, cache, selection);
  if (batch.attention_probe) probe_attention(layer, batch, cache, selection);
  project_output(w, batch.num_rows());
}

void Model::project_queries(const AttentionWeights& w, const Batch& batch) {
  const Timed timed(counters_->seconds.projections);
  const int64_t rows = batch.num_rows(), rank = config_.q_lora_rank, qk = config_.qk_dim();
  Workspace& ws = workspace_;
  const LinearArgs products[] = {{.x = ws.normed,
                                  .x_stride = config_.hidden_dim,
                                  .weight = w.q_a.get(),
                                  .y = ws.q_latent,
                                  .y_stride = rank,
                                  .num_rows = rows},
                                 {.x = ws.normed,
                                  .x_stride = config_.hidden_dim,
                                  .weight = w.kv_a.get(),
                                  .y = ws.kv_row,
                                  .y_stride = config_.latent_row_dim(),
                                  .num_rows = rows}};
  const int64_t kv_dim = batch.leaves_keys ? config_.latent_row_dim() : 0;
  backend_.linear(std::span(products).first(kv_dim > 0 ? 2 : 1));
  counters_->projections += 2ull * rows * config_.hidden_dim * (rank + kv_dim);
  add_bias(ws.q_latent, w.q_a_bias, rows);
  if (kv_dim > 0) add_bias(ws.kv_row, w.kv_a_bias, rows);
  backend_.rms_norm({.x = ws.q_latent,
                     .x_stride = rank,
                     .weight = w.q_a_norm.data(),
                     .y = ws.q_latent,
                     .y_stride = rank,
                     .num_rows = rows,
                     .dim = rank,
                     .eps = config_.lora_norm_eps});
  linear(ws.q_latent, *w.q_b, ws.query, rows, counters_->projections);
  rope(ws.query + config_.nope_dim, config_.num_heads * qk, qk, config_.num_heads, config_.rope_layout,
       batch);
}

void Model::write_latents(int layer, const Batch& batch, PagedCache& cache) {
  const Timed timed(counters_->seconds.projections);
  const AttentionWeights& w = layer_weights(layer).attention;
  const int64_t dim = config_.latent_row_dim();
  float* row = workspace_.kv_row;
  backend_.rms_norm({.x = row,
                     .x_stride = dim,
                     .weight = w.kv_a_norm.data(),
                     .y = row,
                     .y_stride = dim,
                     .num_rows = batch.num_rows(),
                     .dim = config_.kv_lora_rank,
                     .eps = config_.lora_norm_eps});
  rope(row + config_.kv_lora_rank, dim, dim, 1, config_.rope_layout, batch);
  backend_.write_latents(
      {.x = row, .x_stride = dim, .cache = cache.latents(layer), .sequences = batch.sequences});
}

// W_k goes into the queries, so that they meet the cached latents directly.
void Model::absorb_keys(const AttentionWeights& w, int64_t num_rows) {
  const Timed timed(counters_->seconds.projections);
  linear_per_head(workspace_.query, config_.qk_dim(), w.key_up, workspace_.query_latent, num_rows);
}

// y_h = W_h x_h for every head; x [rows, heads, x_dim], of which W_h takes the first in_dim, y [rows, heads,
// out_dim].
void Model::linear_per_head(const float* x, int64_t x_dim, std::span<const MatrixPtr> weights, float* y,
                            int64_t num_rows) {
  const int64_t heads = std::ssize(weights), y_dim = weights[0]->out_dim();
  head_products_.clear();
  for (int64_t h = 0; h < heads; ++h)
    head_products_.push_back({.x = x + h * x_dim,
                              .x_stride = heads * x_dim,
                              .weight = weights[h].get(),
                              .y = y + h * y_dim,
                              .y_stride = heads * y_dim,
                              .num_rows = num_rows});
  backend_.linear(head_products_);
  counters_->projections += 2ull * num_rows * heads * weights[0]->in_dim() * y_dim;
}

void Model::attend(int layer, const Batch& batch, PagedCache& cache, TopkIndices& selection) {
  const Timed timed(counters_->seconds.attention);
  const int64_t rows = batch.num_rows(), heads = config_.num_heads, qk = config_.qk_dim();
  SparseAttentionArgs args{.query_latent = workspace_.query_latent,
                           .query_rope = workspace_.query + config_.nope_dim,
                           .rope_row_stride = heads * qk,
                           .rope_head_stride = qk,
                           .cache = cache.latents(layer),
                           .sequences = batch.sequences,
                           .num_rows = rows,
                           .num_heads = heads,
                           .latent_dim = config_.kv_lora_rank,
                           .rope_dim = config_.rope_dim,
                           .scale = config_.softmax_scale,
                           .output = workspace_.attended};
  uint64_t attended_positions = 0;
  if (selects(batch)) {
    selection.expect(source_of(layer, batch), step_);
    args.slots = selection.slots();
    args.counts = selection.counts();
    args.width = selection.width();
    for (int64_t row = 0; row < rows; ++row) attended_positions += std::max(args.counts[row], 0);
  } else {
    batch.for_each_row([&](int64_t, int64_t visible) { attended_positions += visible; });
  }
  backend_.sparse_attention(args);
  counters_->attention +=
      2ull * heads * attended_positions * (config_.latent_row_dim() + config_.kv_lora_rank);
}

void Model::project_output(const AttentionWeights& w, int64_t num_rows) {
  const Timed timed(counters_->seconds.projections);
  linear_per_head(workspace_.attended, config_.kv_lora_rank, w.value_up, workspace_.head_output, num_rows);
  linear(workspace_.head_output, *w.o, workspace_.block_output, num_rows, counters_->projections);
  add_bias(workspace_.block_output, w.o_bias, num_rows);
}

}  // namespace indexshare
