// SPDX-License-Identifier: Apache-2.0
// Workspace: every intermediate of a forward pass, allocated once for the largest batch. Names follow
// docs/architecture.md.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "model/model_config.h"

namespace indexshare {

struct Workspace {
  struct Rows {
    int64_t forward = 0, logits = 0;
    int64_t drafts = 0;  // of one pass of the MTP layer; 0: no drafting
  };
  Workspace(Backend& backend, const ModelConfig& config, const Rows& rows);

  int64_t max_rows = 0, max_logits_rows = 0;

  float* residual = nullptr;      // [rows, hidden] the stream x
  float* normed = nullptr;        // [rows, hidden] input of a block
  float* block_output = nullptr;  // [rows, hidden]

  float* q_latent = nullptr;      // [rows, q_lora_rank] normalised; also feeds the indexer
  float* kv_row = nullptr;        // [rows, kv_lora_rank + rope] what the cache keeps
  float* query = nullptr;         // [rows, heads, nope + rope]
  float* query_latent = nullptr;  // [rows, heads, kv_lora_rank] absorbed
  float* attended = nullptr;      // [rows, heads, kv_lora_rank]
  float* head_output = nullptr;   // [rows, heads, v]

  float* index_query = nullptr;    // [rows, index heads, index dim]
  float* index_key = nullptr;      // [rows, index dim]
  float* index_weights = nullptr;  // [rows, index heads]

  float* mlp_gate = nullptr;        // [rows, widest mlp]
  float* mlp_up = nullptr;          // [rows, widest mlp]
  float* shared_output = nullptr;   // [rows, hidden] of the shared expert
  float* router_logits = nullptr;   // [rows, experts]
  float* expert_weights = nullptr;  // [rows, experts per token]
  int32_t* expert_ids = nullptr;    // [rows, experts per token]

  float* final_hidden = nullptr;  // [logits rows, hidden]
  float* logits = nullptr;        // [logits rows, vocab]

  float* draft_hidden = nullptr;  // [draft rows, hidden] what the MTP layer joins with the next token
  float* joined = nullptr;        // [draft rows, 2 * hidden] embedding | hidden, each normalised

 private:
  std::vector<std::unique_ptr<Buffer>> buffers_;
};

}  // namespace indexshare
