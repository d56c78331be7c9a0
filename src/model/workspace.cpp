// SPDX-License-Identifier: Apache-2.0
#include "model/workspace.h"

#include <algorithm>

namespace indexshare {

Workspace::Workspace(Backend& backend, const ModelConfig& c, const Rows& wanted)
    : max_rows(std::max(wanted.forward, wanted.drafts)), max_logits_rows(wanted.logits) {
  const int64_t rows = max_rows;
  const auto allocate = [&]<class T>(T*& field, int64_t count) {
    buffers_.push_back(backend.allocate(sizeof(T) * static_cast<size_t>(count)));
    field = static_cast<T*>(buffers_.back()->data());
  };
  allocate(residual, rows * c.hidden_dim);
  allocate(normed, rows * c.hidden_dim);
  allocate(block_output, rows * c.hidden_dim);

  allocate(q_latent, rows * c.q_lora_rank);
  allocate(kv_row, rows * c.latent_row_dim());
  allocate(query, rows * c.num_heads * c.qk_dim());
  allocate(query_latent, rows * c.num_heads * c.kv_lora_rank);
  allocate(attended, rows * c.num_heads * c.kv_lora_rank);
  allocate(head_output, rows * c.num_heads * c.v_dim);

  allocate(index_query, rows * c.indexer.num_heads * c.indexer.head_dim);
  allocate(index_key, rows * c.indexer.head_dim);
  allocate(index_weights, rows * c.indexer.num_heads);

  const int64_t mlp_dim = std::max(c.dense_dim, c.moe.expert_dim * c.moe.num_shared_experts);
  allocate(mlp_gate, rows * mlp_dim);
  allocate(mlp_up, rows * mlp_dim);
  allocate(shared_output, rows * c.hidden_dim);
  allocate(router_logits, rows * c.moe.num_experts);
  allocate(expert_weights, rows * c.moe.experts_per_token);
  allocate(expert_ids, rows * c.moe.experts_per_token);

  allocate(final_hidden, max_logits_rows * c.hidden_dim);
  allocate(logits, max_logits_rows * c.vocab_size);

  allocate(draft_hidden, wanted.drafts * c.hidden_dim);
  allocate(joined, wanted.drafts * 2 * c.hidden_dim);
}

}  // namespace indexshare
