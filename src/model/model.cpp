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
      inv_freq_(rope_frequencies(config_.rope, config_.rope_dim)),
      workspace_(backend, config_, limits.max_rows, limits.max_logits_rows) {
  if (selects())
    selection_ =
        TopkIndices(backend, limits.max_rows,
                    indexshare::selection_width(config_.pattern, config_.indexer.topk, limits.max_positions));
}

CacheConfig Model::cache_config(RowFormat latents, RowFormat index_keys, int64_t page_size,
                                int64_t num_positions) const {
  return {.num_layers = config_.num_layers,
          .num_index_slots = has_indexers() ? config_.plan.num_full() : 0,
          .latent_row_dim = config_.latent_row_dim(),
          .index_key_dim = config_.indexer.head_dim,
          .rope_dim = config_.rope_dim,
          .latent_format = latents,
          .index_key_format = index_keys,
          .page_size = page_size,
          .num_positions = num_positions};
}

void Model::forward(const Batch& batch, PagedCache& cache) {
  const Timed timed(counters_.seconds.forward);
  const int64_t rows = batch.num_rows();
  const int64_t hidden = config_.hidden_dim;
  ENSURE(rows > 0 && rows <= workspace_.max_rows, "batch of {} rows, at most {}", rows, workspace_.max_rows);
  Workspace& ws = workspace_;
  ++step_;
  invalid_rows_.clear();

  backend_.embed(
      {.tokens = batch.tokens.data(), .table = weights_.embedding.get(), .y = ws.residual, .num_rows = rows});
  const auto norm = [&](const Vector& weight) {
    backend_.rms_norm({.x = ws.residual,
                       .x_stride = hidden,
                       .weight = weight.data(),
                       .y = ws.normed,
                       .y_stride = hidden,
                       .num_rows = rows,
                       .dim = hidden,
                       .eps = config_.rms_norm_eps});
  };
  const auto add_to_residual = [&] {
    backend_.add({.x = ws.residual, .y = ws.block_output, .count = rows * hidden});
  };
  for (int layer = 0; layer < config_.num_layers; ++layer) {
    norm(weights_.layers[layer].input_norm);
    attention(layer, batch, cache);
    add_to_residual();
    norm(weights_.layers[layer].post_attention_norm);
    mlp(layer, batch);
    add_to_residual();
  }
  counters_.tokens += rows;
  ++counters_.forward_passes;
}

std::span<const float> Model::logits(std::span<const int64_t> rows) {
  const Timed timed(counters_.seconds.head);
  const int64_t n = std::ssize(rows), hidden = config_.hidden_dim;
  ENSURE(n <= workspace_.max_logits_rows, "logits of {} rows, at most {}", n, workspace_.max_logits_rows);
  for (int64_t i = 0; i < n; ++i)
    backend_.rms_norm({.x = workspace_.residual + rows[i] * hidden,
                       .x_stride = hidden,
                       .weight = weights_.final_norm.data(),
                       .y = workspace_.final_hidden + i * hidden,
                       .y_stride = hidden,
                       .num_rows = 1,
                       .dim = hidden,
                       .eps = config_.rms_norm_eps});
  linear(workspace_.final_hidden, *weights_.head, workspace_.logits, n, counters_.head);
  return {workspace_.logits, static_cast<size_t>(n * config_.vocab_size)};
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
