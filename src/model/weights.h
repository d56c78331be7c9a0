// SPDX-License-Identifier: Apache-2.0
// Weights: what the forward pass multiplies with, found in the checkpoint by Hugging Face's names,
// checked for shape and type, and handed to the backend. The share plan decides which indexers are read.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "backend/backend.h"
#include "checkpoint/checkpoint.h"
#include "model/model_config.h"

namespace indexshare {

using MatrixPtr = std::shared_ptr<const Matrix>;  // shared: a tied head is the embedding
using Vector = std::vector<float>;

struct IndexerWeights {
  MatrixPtr query;  // wq_b [index heads * index dim, q_lora_rank], rope first within a head
  MatrixPtr key;    // wk [index dim, hidden]
  Vector key_norm_weight, key_norm_bias;  // [index dim]
  MatrixPtr head_weights;                 // weights_proj [index heads, hidden]
};

struct AttentionWeights {
  MatrixPtr q_a;     // [q_lora_rank, hidden]
  Vector q_a_norm;   // [q_lora_rank]
  MatrixPtr q_b;     // [heads * (nope + rope), q_lora_rank]
  MatrixPtr kv_a;    // [kv_lora_rank + rope, hidden]
  Vector kv_a_norm;  // [kv_lora_rank]
  // kv_b_proj cut by head for absorption: query_latent = W_k^T query_nope, value = W_v latent.
  std::vector<MatrixPtr> key_up;                  // [heads] of [kv_lora_rank, nope], transposed
  std::vector<MatrixPtr> value_up;                // [heads] of [v, kv_lora_rank]
  MatrixPtr o;                                    // [hidden, heads * v]
  Vector q_a_bias, kv_a_bias, o_bias;             // empty where the model has none
  std::shared_ptr<const IndexerWeights> indexer;  // full layers only
};

struct DenseMlpWeights {
  MatrixPtr gate, up;  // [dim, hidden]
  MatrixPtr down;      // [hidden, dim]
};

struct MoeWeights {
  MatrixPtr router;    // [experts, hidden]
  Vector router_bias;  // [experts] e_score_correction_bias: selects, never weighs
  std::vector<DenseMlpWeights> experts;
  std::vector<Expert> table;              // the same for the backend
  std::optional<DenseMlpWeights> shared;  // ungated
};

struct LayerWeights {
  Vector input_norm, post_attention_norm;  // [hidden]
  AttentionWeights attention;
  std::variant<DenseMlpWeights, MoeWeights> mlp;
};

/// The layer that drafts (mtp.cpp). Embedding and head are the model's own.
struct MtpWeights {
  Vector embedding_norm, hidden_norm;  // [hidden] enorm, hnorm
  MatrixPtr join;                      // [hidden, 2 * hidden] eh_proj: embedding first
  LayerWeights layer;                  // always with an indexer of its own
  Vector output_norm;                  // [hidden] shared_head.norm
};

struct Weights {
  MatrixPtr embedding;  // [vocab, hidden]
  MatrixPtr head;       // [vocab, hidden]; the embedding where tied
  Vector final_norm;    // [hidden]
  std::vector<LayerWeights> layers;
  std::optional<MtpWeights> mtp;   // where asked for
  bool cost_only = false;          // a full layer borrowed another layer's indexer
  std::vector<std::string> notes;  // surplus tensors, in one line each

  // What they take in memory by format ("bf16", "int8", ...): all of them, and those that may be quantised.
  std::map<std::string, size_t> bytes_by_format;
  struct Format {
    size_t bytes = 0;
    int activation_bits = 32;
  };
  std::map<std::string, Format> formats;

  // What the matrices point into, where the backend uses the mapped file: the file, and what was unpacked or
  // dequantised at load.
  std::shared_ptr<const Checkpoint> checkpoint;
  std::vector<std::shared_ptr<const void>> kept;

  size_t num_bytes() const;
  const std::pair<const std::string, Format>& main_format() const;  // the one with most bytes
};

struct WeightOptions {
  // Of projections, experts and MLPs; weight_formats.h says what others get. as_stored keeps weights that the
  // checkpoint has quantised.
  WeightFormat format = WeightFormat::as_stored;
  int activation_bits = 0;  // 0: by format
  bool borrow_indexers =
      false;         // a full layer without indexer tensors takes those of the nearest layer before it
  bool mtp = false;  // the first MTP layer, too
  bool check_tensors = false;                               // refuse NaN and infinite values
  std::function<void(size_t done, size_t total)> progress;  // bytes
};

/// Whether the checkpoint carries the indexer of this layer.
bool has_indexer(const Checkpoint& checkpoint, int layer);

/// @throws Error{unsupported}: `layers.7.indexer.wk: expected [128, 6144], file has [64, 6144]` and the like.
Weights load_weights(const ModelConfig& config, std::shared_ptr<const Checkpoint> checkpoint,
                     Backend& backend, const WeightOptions& options);

}  // namespace indexshare
