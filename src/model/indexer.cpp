// SPDX-License-Identifier: Apache-2.0
// The lightning indexer of a full layer (DeepSeek-V3.2): one key a token, a few light heads of queries,
//   score(t, s) = sum_h g_h relu(q_h . k_s),  q = rope(W_q r),  k = rope(LayerNorm(W_k a)),  g = W_g a.
// The constants dim^-0.5 and heads^-0.5 of the papers are left out: being positive they change no choice.
#include "model/model.h"

namespace indexshare {

void Model::select(int layer, const Batch& batch, PagedCache& cache, TopkIndices& selection) {
  const IndexerConfig& c = config_.indexer;
  const int64_t rows = batch.num_rows();
  IndexSelectArgs args{.sequences = batch.sequences,
                       .num_rows = rows,
                       .num_heads = c.num_heads,
                       .head_dim = c.head_dim,
                       .topk = c.topk,
                       .pattern = config_.pattern,
                       .width = selection.width(),
                       .positions = selection.positions(),
                       .counts = selection.counts()};
  if (has_indexers()) {
    // Keys are written for every token, also while nothing needs scoring yet: later queries will read them.
    index_projections(layer, batch, cache);
    args.queries = workspace_.index_query;
    args.head_weights = workspace_.index_weights;
    args.keys = cache.index_keys(index_slot_of(layer));
    ++counters_->indexer_passes;
    batch.for_each_row([&](int64_t, int64_t visible) {
      if (visible > c.topk) counters_->index_scores += 2ull * c.num_heads * c.head_dim * visible;
    });
  }
  {
    const Timed timed(counters_->seconds.index_selection);
    backend_.index_select(args);
  }
  if (batch.selection_hook) run_selection_hook(layer, batch, selection);
  backend_.translate({.positions = selection.positions(),
                      .counts = selection.counts(),
                      .width = selection.width(),
                      .page_size = cache.config().page_size,
                      .sequences = batch.sequences,
                      .slots = selection.slots()});
  selection.stamp(layer, step_);
  for (int64_t row = 0; row < rows; ++row)
    if (args.counts[row] < 0) invalid_rows_.push_back(row);
}

void Model::index_projections(int layer, const Batch& batch, PagedCache& cache) {
  const Timed timed(counters_->seconds.indexer_projections);
  const IndexerWeights& w = *layer_weights(layer).attention.indexer;
  const IndexerConfig& c = config_.indexer;
  const int64_t rows = batch.num_rows(), hidden = config_.hidden_dim;
  Workspace& ws = workspace_;
  const LinearArgs products[] = {{.x = ws.q_latent,
                                  .x_stride = config_.q_lora_rank,
                                  .weight = w.query.get(),
                                  .y = ws.index_query,
                                  .y_stride = c.num_heads * c.head_dim,
                                  .num_rows = rows},
                                 {.x = ws.normed,
                                  .x_stride = hidden,
                                  .weight = w.head_weights.get(),
                                  .y = ws.index_weights,
                                  .y_stride = c.num_heads,
                                  .num_rows = rows},
                                 {.x = ws.normed,
                                  .x_stride = hidden,
                                  .weight = w.key.get(),
                                  .y = ws.index_key,
                                  .y_stride = c.head_dim,
                                  .num_rows = rows}};
  const int64_t key_dim = batch.leaves_keys ? c.head_dim : 0;
  backend_.linear(std::span(products).first(key_dim > 0 ? 3 : 2));
  counters_->indexer_projections +=
      2ull * rows *
      (c.num_heads * c.head_dim * config_.q_lora_rank + hidden * key_dim + hidden * c.num_heads);

  rope(ws.index_query, c.num_heads * c.head_dim, c.head_dim, c.num_heads, c.rope_layout, batch);
  if (!batch.leaves_keys) return;
  backend_.layer_norm({.x = ws.index_key,
                       .x_stride = c.head_dim,
                       .weight = w.key_norm_weight.data(),
                       .bias = w.key_norm_bias.data(),
                       .y = ws.index_key,
                       .y_stride = c.head_dim,
                       .num_rows = rows,
                       .dim = c.head_dim,
                       .eps = c.k_norm_eps});
  rope(ws.index_key, c.head_dim, c.head_dim, 1, c.rope_layout, batch);
  backend_.write_index_keys({.x = ws.index_key,
                             .x_stride = c.head_dim,
                             .cache = cache.index_keys(index_slot_of(layer)),
                             .sequences = batch.sequences});
}

void Model::run_selection_hook(int layer, const Batch& batch, TopkIndices& selection) {
  const int64_t width = selection.width();
  for (const SequenceRows& s : batch.sequences) {
    const int64_t num_rows = s.row_end - s.row_begin;
    int32_t* positions = selection.positions() + s.row_begin * width;
    batch.selection_hook(layer, s.first_position, num_rows, width,
                         {positions, static_cast<size_t>(num_rows * width)});
    for (int64_t row = 0; row < num_rows; ++row) {  // the hook may have changed how many there are
      int32_t count = 0;
      while (count < width && positions[row * width + count] >= 0) ++count;
      int32_t& stored = selection.counts()[s.row_begin + row];
      if (stored >= 0) stored = count;
    }
  }
}

}  // namespace indexshare
