// SPDX-License-Identifier: Apache-2.0
#include "model/model.h"

#include <algorithm>

#include "base/check.h"

namespace indexshare {

Model::Model(ModelConfig config, Weights weights, Backend& backend, AttentionMode attention,
             const ModelLimits& limits)
    : config_(std::move(config)),
      weights_(std::move(weights)),
      backend_(backend),
      attention_(attention),
      limits_(limits),
      inv_freq_(rope_frequencies(config_.rope, config_.rope_dim)),
      workspace_(backend, config_,
                 {.forward = limits.max_rows,
                  .logits = limits.max_logits_rows,
                  .drafts = has_mtp() ? limits.max_draft_rows : 0}) {
  if (!selects()) return;
  const int64_t width =
      indexshare::selection_width(config_.pattern, config_.indexer.topk, limits.max_positions);
  selection_ = TopkIndices(backend, limits.max_rows, width);
  if (!has_mtp()) return;
  draft_selection_ = TopkIndices(backend, limits.max_draft_rows, width);
  round_selection_ = TopkIndices(backend, limits.max_logits_rows, width);
}

CacheConfig Model::cache_config(RowFormat latents, RowFormat index_keys, int64_t page_size,
                                int64_t num_positions) const {
  const int num_mtp = has_mtp() ? 1 : 0;
  return {.num_layers = config_.num_layers + num_mtp,
          .num_index_slots = has_indexers() ? config_.plan.num_full() + num_mtp : 0,
          .latent_row_dim = config_.latent_row_dim(),
          .index_key_dim = config_.indexer.head_dim,
          .rope_dim = config_.rope_dim,
          .latent_format = latents,
          .index_key_format = index_keys,
          .page_size = page_size,
          .num_positions = num_positions,
          .late_rows = num_mtp};
}

void Model::forward(const Batch& batch, PagedCache& cache) {
  counters_ = &target_counters_;
  const Timed timed(counters_->seconds.forward);
  const int64_t rows = batch.num_rows();
  ENSURE(rows > 0 && rows <= limits_.max_rows, "batch of {} rows, at most {}", rows, limits_.max_rows);
  ++step_;
  invalid_rows_.clear();

  backend_.embed({.tokens = batch.tokens.data(),
                  .table = weights_.embedding.get(),
                  .y = workspace_.residual,
                  .num_rows = rows});
  for (int layer = 0; layer < config_.num_layers; ++layer) run_layer(layer, batch, cache, selection_);
  counters_->tokens += rows;
  ++counters_->forward_passes;
}

void Model::run_layer(int layer, const Batch& batch, PagedCache& cache, TopkIndices& selection) {
  const LayerWeights& w = layer_weights(layer);
  const int64_t rows = batch.num_rows(), hidden = config_.hidden_dim;
  Workspace& ws = workspace_;
  const auto add_to_residual = [&] {
    backend_.add({.x = ws.residual, .y = ws.block_output, .count = rows * hidden});
  };
  norm(ws.residual, w.input_norm, ws.normed, hidden, rows);
  attention(layer, batch, cache, selection);
  add_to_residual();
  norm(ws.residual, w.post_attention_norm, ws.normed, hidden, rows);
  mlp(layer, batch);
  add_to_residual();
}

std::span<const float> Model::logits(std::span<const int64_t> rows) {
  counters_ = &target_counters_;
  const Timed timed(counters_->seconds.head);
  const int64_t n = std::ssize(rows), hidden = config_.hidden_dim;
  ENSURE(n <= workspace_.max_logits_rows, "logits of {} rows, at most {}", n, workspace_.max_logits_rows);
  for (int64_t i = 0; i < n; ++i)
    norm(workspace_.residual + rows[i] * hidden, weights_.final_norm, workspace_.final_hidden + i * hidden,
         hidden, 1);
  linear(workspace_.final_hidden, *weights_.head, workspace_.logits, n, counters_->head);
  return {workspace_.logits, static_cast<size_t>(n * config_.vocab_size)};
}

void Model::final_hidden(int64_t first, int64_t count, float* hidden) {
  norm(workspace_.residual + first * config_.hidden_dim, weights_.final_norm, hidden, config_.hidden_dim,
       count);
}

void Model::norm(const float* x, const Vector& weight, float* y, int64_t y_stride, int64_t num_rows) {
  backend_.rms_norm({.x = x,
                     .x_stride = config_.hidden_dim,
                     .weight = weight.data(),
                     .y = y,
                     .y_stride = y_stride,
                     .num_rows = num_rows,
                     .dim = config_.hidden_dim,
                     .eps = config_.rms_norm_eps});
}

void Model::linear(const float* x, const Matrix& weight, float* y, int64_t num_rows, uint64_t& flops) {
  const LinearArgs args{.x = x,
                        .x_stride = weight.in_dim(),
                        .weight = &weight,
                        .y = y,
                        .y_stride = weight.out_dim(),
                        .num_rows = num_rows};
  backend_.linear({&args, 1});
  flops += 2ull * num_rows * weight.in_dim() * weight.out_dim();
}

void Model::add_bias(float* x, const Vector& bias, int64_t num_rows) {
  if (bias.empty()) return;
  const int64_t dim = std::ssize(bias);
  for (int64_t row = 0; row < num_rows; ++row)
    backend_.add({.x = x + row * dim, .y = bias.data(), .count = dim});
}

void Model::rope(float* x, int64_t row_stride, int64_t head_stride, int64_t num_heads, RopeLayout layout,
                 const Batch& batch) {
  backend_.rope({.x = x,
                 .row_stride = row_stride,
                 .head_stride = head_stride,
                 .positions = batch.positions.data(),
                 .inv_freq = inv_freq_.data(),
                 .num_rows = batch.num_rows(),
                 .num_heads = num_heads,
                 .rope_dim = config_.rope_dim,
                 .pairs = layout == RopeLayout::interleaved ? RopePairs::interleaved : RopePairs::half_split,
                 .amplitude = static_cast<float>(config_.rope.yarn_amplitude)});
}

}  // namespace indexshare
