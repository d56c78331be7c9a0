// SPDX-License-Identifier: Apache-2.0
#include "analysis/flops.h"

#include <algorithm>

#include "base/check.h"

namespace indexshare {

namespace {

// Multiply-adds of one token, by part, over all layers.
struct LinearSizes {
  int64_t projections = 0, mlp = 0, head = 0;
  int64_t indexer = 0;  // one full layer's
};

bool has_indexer(const ModelConfig& c) { return c.indexer.topk > 0; }

int num_indexers(const ModelConfig& c) { return has_indexer(c) ? c.plan.num_full() : 0; }

LinearSizes linear_sizes(const ModelConfig& c) {
  LinearSizes sizes;
  sizes.projections =
      c.num_layers *
      (c.hidden_dim * c.q_lora_rank + c.q_lora_rank * c.num_heads * c.qk_dim() +
       c.hidden_dim * c.latent_row_dim() + c.kv_lora_rank * c.num_heads * (c.nope_dim + c.v_dim) +
       c.num_heads * c.v_dim * c.hidden_dim);
  const int64_t moe =
      3 * c.hidden_dim * c.moe.expert_dim * (c.moe.experts_per_token + c.moe.num_shared_experts) +
      c.hidden_dim * c.moe.num_experts;
  for (const bool is_moe : c.is_moe_layer) sizes.mlp += is_moe ? moe : 3 * c.hidden_dim * c.dense_dim;
  sizes.head = c.hidden_dim * c.vocab_size;
  if (has_indexer(c))
    sizes.indexer = c.q_lora_rank * c.indexer.num_heads * c.indexer.head_dim +
                    c.hidden_dim * c.indexer.head_dim + c.hidden_dim * c.indexer.num_heads;
  return sizes;
}

// |Set(t)|, no overlap of pattern and top-k assumed.
int64_t selected_positions(const ModelConfig& c, int64_t t) {
  return std::min(t + 1, c.indexer.topk + (c.pattern.active() ? fixed_set_size(c.pattern, t) : 0));
}

double sum_selected(const ModelConfig& c, int64_t context) {
  if (!c.pattern.active()) {
    const auto k = static_cast<double>(std::min(c.indexer.topk, context));
    return k * (k + 1) / 2 + (static_cast<double>(context) - k) * k;
  }
  double sum = 0;
  for (int64_t t = 0; t < context; ++t) sum += static_cast<double>(selected_positions(c, t));
  return sum;
}

// 2 * heads * (key dims + value dims), times layers: the core's FLOPs for each selected position.
double core_flops_per_position(const ModelConfig& c, AttentionForm form) {
  const int64_t dims =
      form == AttentionForm::mha ? c.qk_dim() + c.v_dim : c.latent_row_dim() + c.kv_lora_rank;
  return 2.0 * c.num_layers * static_cast<double>(c.num_heads * dims);
}

PlanCost with_indexers(const ModelConfig& c, double rest, double one_indexer) {
  return {.every_layer = rest + (has_indexer(c) ? c.num_layers : 0) * one_indexer,
          .shared = rest + num_indexers(c) * one_indexer};
}

double score_flops_per_pair(const ModelConfig& c) {
  return 2.0 * static_cast<double>(c.indexer.num_heads * c.indexer.head_dim);
}

}  // namespace

PlanCost decode_flops(const ModelConfig& config, int64_t context, AttentionForm form) {
  const LinearSizes sizes = linear_sizes(config);
  const double rest =
      2.0 * static_cast<double>(sizes.projections + sizes.mlp + sizes.head) +
      core_flops_per_position(config, form) * static_cast<double>(selected_positions(config, context - 1));
  return with_indexers(
      config, rest,
      2.0 * static_cast<double>(sizes.indexer) + score_flops_per_pair(config) * static_cast<double>(context));
}

PlanCost prefill_flops(const ModelConfig& config, int64_t context, AttentionForm form) {
  const LinearSizes sizes = linear_sizes(config);
  const auto rows = static_cast<double>(context);
  const double rest = 2.0 * rows * static_cast<double>(sizes.projections + sizes.mlp) +
                      2.0 * static_cast<double>(sizes.head) +
                      core_flops_per_position(config, form) * sum_selected(config, context);
  return with_indexers(config, rest,
                       2.0 * rows * static_cast<double>(sizes.indexer) +
                           score_flops_per_pair(config) * (rows * (rows + 1) / 2));
}

Flops forward_flops(const ModelConfig& config, int64_t first_position, int64_t num_rows,
                    int64_t num_logits_rows, AttentionMode mode) {
  ENSURE(first_position >= 0 && num_rows >= 0 && num_logits_rows >= 0, "rows [{}, +{}), logits of {}",
         first_position, num_rows, num_logits_rows);
  const LinearSizes sizes = linear_sizes(config);
  const bool sparse = mode == AttentionMode::sparse;
  const auto indexers = static_cast<uint64_t>(sparse ? num_indexers(config) : 0);
  uint64_t selected = 0, scored = 0;
  for (int64_t t = first_position; t < first_position + num_rows; ++t) {
    selected += static_cast<uint64_t>(sparse ? selected_positions(config, t) : t + 1);
    if (t + 1 > config.indexer.topk) scored += static_cast<uint64_t>(t + 1);
  }
  const auto rows = static_cast<uint64_t>(num_rows);
  const auto core = static_cast<uint64_t>(config.num_layers * config.num_heads *
                                          (config.latent_row_dim() + config.kv_lora_rank));
  const auto score = static_cast<uint64_t>(config.indexer.num_heads * config.indexer.head_dim);
  return {.projections = 2 * rows * static_cast<uint64_t>(sizes.projections),
          .indexer_projections = 2 * rows * indexers * static_cast<uint64_t>(sizes.indexer),
          .index_scores = 2 * indexers * score * scored,
          .attention = 2 * core * selected,
          .mlp = 2 * rows * static_cast<uint64_t>(sizes.mlp),
          .head = 2 * static_cast<uint64_t>(num_logits_rows) * static_cast<uint64_t>(sizes.head)};
}

int64_t fixed_set_size(const FixedPattern& pattern, int64_t t) {
  const int64_t sinks_end = std::min(pattern.sinks, t + 1);
  const int64_t window_begin = std::max<int64_t>(0, t + 1 - pattern.window);
  if (sinks_end >= window_begin) return t + 1;
  int64_t size = sinks_end + (t + 1 - window_begin);
  if (pattern.stride == 0 || t < pattern.stride_phase) return size;
  // Strided positions are phase + j * stride for j in [first, last]; those between sinks and window are
  // extra.
  const int64_t last_of_all = (t - pattern.stride_phase) / pattern.stride;
  const int64_t first =
      pattern.stride_cap > 0 ? std::max<int64_t>(0, last_of_all + 1 - pattern.stride_cap) : 0;
  const int64_t beyond_sinks = std::max<int64_t>(0, sinks_end - pattern.stride_phase);
  const int64_t begin = std::max(first, (beyond_sinks + pattern.stride - 1) / pattern.stride);
  if (window_begin - 1 < pattern.stride_phase) return size;
  const int64_t end = std::min(last_of_all, (window_begin - 1 - pattern.stride_phase) / pattern.stride);
  return size + std::max<int64_t>(0, end - begin + 1);
}

ParameterCounts parameter_counts(const ModelConfig& config) {
  const LinearSizes one = linear_sizes(config);
  const MoeConfig& moe = config.moe;
  const int64_t hidden = config.hidden_dim;
  const int64_t biases =
      config.attention_bias ? config.q_lora_rank + config.latent_row_dim() + config.hidden_dim : 0;
  const int64_t norms = config.q_lora_rank + config.kv_lora_rank + 2 * hidden;
  const int64_t attention = one.projections / config.num_layers + biases + norms;
  const int64_t indexer = one.indexer + (has_indexer(config) ? 2 * config.indexer.head_dim : 0);
  const int64_t experts =
      moe.num_experts * hidden + 3 * hidden * moe.expert_dim * (moe.num_experts + moe.num_shared_experts);
  const auto mlp = [&](bool is_moe) { return is_moe ? experts : 3 * hidden * config.dense_dim; };

  ParameterCounts counts;
  counts.mtp = config.num_mtp_layers *
               (attention + indexer + mlp(config.is_moe_layer.back()) + 3 * hidden + 2 * hidden * hidden);
  counts.total = counts.mtp + config.num_layers * attention + num_indexers(config) * indexer +
                 (config.tied_head ? 1 : 2) * config.vocab_size * hidden + hidden;
  for (const bool is_moe : config.is_moe_layer) counts.total += mlp(is_moe);
  counts.active = one.projections + one.mlp + one.head + num_indexers(config) * one.indexer;
  return counts;
}

}  // namespace indexshare
