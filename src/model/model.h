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

  const std::vector<int64_t>& invalid_rows() const { return invalid_rows_; }
  const ModelConfig& config() const { return config_; }
  const Weights& weights() const { return weights_; }
  const ForwardCounters& counters() const { return counters_; }
  int64_t selection_width() const { return selection_.width(); }

 private:
  bool selects() const { return attention_ == AttentionMode::sparse; }
  bool has_indexers() const { return selects() && config_.indexer.topk > 0; }

  void attention(int layer, const Batch& batch, PagedCache& cache);      // attention.cpp
  void project_queries(const AttentionWeights& w, const Batch& batch);   // attention.cpp
  void write_latents(int layer, const Batch& batch, PagedCache& cache);  // attention.cpp
  void attend(int layer, const Batch& batch, PagedCache& cache);         // attention.cpp
  void absorb_keys(const AttentionWeights& w, int64_t num_rows);         // attention.cpp
  void linear_per_head(const float* x, int64_t x_dim, std::span<const MatrixPtr> weights, float* y,
                       int64_t num_rows);                                     // attention.cpp
  void project_output(const AttentionWeights& w, int64_t num_rows);           // attention.cpp
  void select(int layer, const Batch& batch, PagedCache& cache);              // indexer.cpp
  void index_projections(int layer, const Batch& batch, PagedCache& cache);   // indexer.cpp
  void run_selection_hook(int layer, const Batch& batch);                     // indexer.cpp
  void mlp(int layer, const Batch& batch);                                    // mlp.cpp
  void dense_mlp(const DenseMlpWeights& w, int64_t num_rows, float* output);  // mlp.cpp
  void moe(const MoeWeights& w, int64_t num_rows);                            // mlp.cpp

  void linear(const float* x, const Matrix& weight, float* y, int64_t num_rows, uint64_t& flops);
  void add_bias(float* x, const Vector& bias, int64_t num_rows);
  void rope(float* x, int64_t row_stride, int64_t head_stride, int64_t num_heads, RopeLayout layout,
            const Batch& batch);

  ModelConfig config_;
  Weights weights_;
  Backend& backend_;
  AttentionMode attention_;
  std::vector<float> inv_freq_;  // [rope / 2]
  Workspace workspace_;
  TopkIndices selection_;
  ForwardCounters counters_;
  uint64_t step_ = 0;
  std::vector<int64_t> invalid_rows_;
  std::vector<LinearArgs> head_products_;  // of one linear_per_head(), kept so that it allocates once
};

/// Rotary frequencies theta^(-2j/d), j < d/2, with YaRN's interpolation where the config has it.
std::vector<float> rope_frequencies(const RopeConfig& rope, int64_t rope_dim);

}  // namespace indexshare
