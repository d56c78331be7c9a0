// SPDX-License-Identifier: Apache-2.0
// Model: the forward pass of DeepSeek-V3.2 and GLM-5 (MLA + DSA + MoE) with the selection shared as the plan
// says.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cache/paged_cache.h"
#include "model/batch.h"
#include "model/forward_counters.h"
#include "model/model_config.h"
#include "model/topk_indices.h"
#include "model/weights.h"
#include "model/workspace.h"

namespace indexshare {

struct ModelLimits {
  int64_t max_rows = 512;        // of one forward pass
  int64_t max_logits_rows = 64;  // of one logits() call
  int64_t max_positions = 0;     // of one sequence
  int64_t max_draft_rows = 0;    // of one pass of the MTP layer; 0 where there is no drafting
};

/// Where a draft pass after the first gets its selection from.
enum class DraftSelection {
  shared,  // the row of the first pass that the round goes on from
  own,     // the MTP layer's indexer runs again
};

class Model {
 public:
  Model(ModelConfig config, Weights weights, Backend& backend, AttentionMode attention,
        const ModelLimits& limits);

  /// The cache this model writes: index keys for full layers only, none in dense mode.
  CacheConfig cache_config(RowFormat latents, RowFormat index_keys, int64_t page_size,
                           int64_t num_positions) const;

  /// Runs the batch through all layers and writes its cache rows. Afterwards logits() may be asked of any
  /// row. Rows whose index scores were NaN are listed in invalid_rows().
  void forward(const Batch& batch, PagedCache& cache);

  /// Logits of `rows` of the last batch, at most max_logits_rows of them.
  /// @return [rows.size(), vocab], valid until the next call.
  std::span<const float> logits(std::span<const int64_t> rows);

  // The MTP layer (mtp.cpp): row t joins the final hidden state of position t with the token at t + 1.

  bool has_mtp() const { return weights_.mtp.has_value(); }
  /// Hidden states after the final norm of rows [first, first + count) of the last forward pass, which no
  /// pass of the MTP layer has followed. @param hidden [count, hidden]
  void final_hidden(int64_t first, int64_t count, float* hidden);
  /// The first pass of a round: writes the layer's cache rows and selects with its own indexer.
  /// @param batch tokens are those behind the rows' positions; @param hidden [num_rows, hidden]
  void draft_first(const Batch& batch, const float* hidden, PagedCache& cache);
  /// The rows of that pass from which later passes go on, in this order: their selection and their hidden
  /// state are kept. @return their draft logits [rows.size(), vocab], valid until the next call
  std::span<const float> begin_drafts(std::span<const int64_t> rows);
  /// A later pass, one position on: row i goes on from row i of the pass before (a prefix of its rows may go
  /// on alone). Attends with the selection kept by begin_drafts, or finds its own among the same keys.
  /// @param batch each row a sequence of its own, first_position that of the row the round began with
  std::span<const float> draft_later(const Batch& batch, PagedCache& cache, DraftSelection selection);
  /// Positions that row i of the round attends to, ascending, -1 padded.
  std::span<const int32_t> drafts_selection(int64_t row) { return round_selection_.row(row); }
  const ForwardCounters& draft_counters() const { return draft_counters_; }

  const std::vector<int64_t>& invalid_rows() const { return invalid_rows_; }
  const ModelConfig& config() const { return config_; }
  const Weights& weights() const { return weights_; }
  const ForwardCounters& counters() const { return target_counters_; }
  int64_t selection_width() const { return selection_.width(); }

 private:
  bool selects() const { return attention_ == AttentionMode::sparse; }
  bool selects(const Batch& batch) const { return selects() && !batch.dense; }
  bool has_indexers() const { return selects() && config_.indexer.topk > 0; }
  const SharePlan& plan_of(const Batch& batch) const { return batch.plan ? *batch.plan : config_.plan; }

  // Layer num_layers is the MTP layer: its own source, behind all others in the cache.
  int mtp_layer() const { return config_.num_layers; }
  const LayerWeights& layer_weights(int layer) const {
    return layer < config_.num_layers ? weights_.layers[layer] : weights_.mtp->layer;
  }
  int source_of(int layer, const Batch& batch) const {
    return layer < config_.num_layers ? plan_of(batch).source[layer] : layer;
  }
  int index_slot_of(int layer) const {
    return layer < config_.num_layers ? config_.plan.slot[layer] : config_.plan.num_full();
  }

  void run_layer(int layer, const Batch& batch, PagedCache& cache, TopkIndices& selection);
  void attention(int layer, const Batch& batch, PagedCache& cache, TopkIndices& selection);  // attention.cpp
  void project_queries(const AttentionWeights& w, const Batch& batch);                       // attention.cpp
  void write_latents(int layer, const Batch& batch, PagedCache& cache);                      // attention.cpp
  void attend(int layer, const Batch& batch, PagedCache& cache, TopkIndices& selection);     // attention.cpp
  void absorb_keys(const AttentionWeights& w, int64_t num_rows);                             // attention.cpp
  void linear_per_head(const float* x, int64_t x_dim, std::span<const MatrixPtr> weights, float* y,
                       int64_t num_rows);                            // attention.cpp
  void project_output(const AttentionWeights& w, int64_t num_rows);  // attention.cpp
  void probe_attention(int layer, const Batch& batch, PagedCache& cache,
                       TopkIndices& selection);  // attention_probe.cpp
  void probe_row(int layer, const Batch& batch, int64_t row, PagedCache& cache,
                 TopkIndices& selection);  // attention_probe.cpp
  void select(int layer, const Batch& batch, PagedCache& cache, TopkIndices& selection);  // indexer.cpp
  void index_projections(int layer, const Batch& batch, PagedCache& cache);               // indexer.cpp
  void run_selection_hook(int layer, const Batch& batch, TopkIndices& selection);         // indexer.cpp
  void mlp(int layer, const Batch& batch);                                                // mlp.cpp
  void dense_mlp(const DenseMlpWeights& w, int64_t num_rows, float* output);              // mlp.cpp
  void moe(const MoeWeights& w, int64_t num_rows);                                        // mlp.cpp

  void join(const Batch& batch);                                        // mtp.cpp
  std::span<const float> finish_drafts(std::span<const int64_t> rows);  // mtp.cpp
  void norm(const float* x, const Vector& weight, float* y, int64_t y_stride, int64_t num_rows);
  void linear(const float* x, const Matrix& weight, float* y, int64_t num_rows, uint64_t& flops);
  void add_bias(float* x, const Vector& bias, int64_t num_rows);
  void rope(float* x, int64_t row_stride, int64_t head_stride, int64_t num_heads, RopeLayout layout,
            const Batch& batch);

  ModelConfig config_;
  Weights weights_;
  Backend& backend_;
  AttentionMode attention_;
  ModelLimits limits_;
  std::vector<float> inv_freq_;  // [rope / 2]
  Workspace workspace_;
  TopkIndices selection_;
  // The MTP layer's own: of a first pass, and the rows of it that the later passes of the round go on from.
  TopkIndices draft_selection_, round_selection_;
  ForwardCounters target_counters_, draft_counters_;
  ForwardCounters* counters_ = &target_counters_;  // of the pass that runs
  uint64_t step_ = 0;
  std::vector<int64_t> invalid_rows_;
  std::vector<LinearArgs> head_products_;  // of one linear_per_head(), kept so that it allocates once
};

/// Rotary frequencies theta^(-2j/d), j < d/2, with YaRN's interpolation where the config has it.
std::vector<float> rope_frequencies(const RopeConfig& rope, int64_t rope_dim);

}  // namespace indexshare
