// SPDX-License-Identifier: Apache-2.0
// ModelConfig: everything the forward pass needs to know of a checkpoint, family differences resolved. A
// family's file (families/) turns its config.json into this; nothing above asks which family it was.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/packed_weights.h"
#include "indexshare/options.h"
#include "model/share_plan.h"

namespace indexshare {

enum class RopeLayout {
  interleaved,  // pairs (x[2j], x[2j+1])
  half_split,   // pairs (x[j], x[j + d/2])
};

struct RopeConfig {
  double theta = 10000;
  // YaRN, off where factor == 1 (DeepSeek-V3.2): low frequencies are divided by factor.
  double yarn_factor = 1, yarn_beta_fast = 32, yarn_beta_slow = 1;
  double yarn_amplitude =
      1;  // of cos and sin: 1 where mscale and mscale_all_dim are equal, as DeepSeek's are
  bool yarn_truncate = true;  // the ramp between the two betas begins and ends at whole frequencies
  int64_t yarn_original_positions = 4096;
};

struct IndexerConfig {
  // topk == 0: no indexer at all. Nothing of it is read or cached, every set is the fixed pattern alone, and
  // the plan is FSS…S: layer 0 finds the set for all.
  int64_t num_heads = 0, head_dim = 0, topk = 0;
  RopeLayout rope_layout = RopeLayout::interleaved;
  float k_norm_eps = 1e-6f;  // LayerNorm of the index key
};

/// What a later draft step takes in place of the target's final hidden state: the MTP layer's own output
/// after shared_head.norm (GLM), or before it (DeepSeek). The wrong one costs acceptance, never correctness.
enum class DraftHidden { normed, residual };

struct MoeConfig {
  int64_t num_experts = 0, experts_per_token = 0, num_shared_experts = 0, expert_dim = 0;
  int64_t num_groups = 1, groups_per_token = 1;
  float routed_scale = 1;
  bool normalize_weights = true;  // norm_topk_prob
};

struct ModelConfig {
  std::string family;  // config.json's model_type
  int64_t vocab_size = 0, hidden_dim = 0, dense_dim = 0;
  int num_layers = 0;              // without the MTP layers
  int num_mtp_layers = 0;          // num_nextn_predict_layers; the first of them drafts
  bool share_draft_index = false;  // index_share_for_mtp_iteration: trained so
  DraftHidden draft_hidden = DraftHidden::normed;
  std::vector<bool> is_moe_layer;  // [num_layers]
  int64_t num_heads = 0, q_lora_rank = 0, kv_lora_rank = 0;
  int64_t nope_dim = 0, rope_dim = 0, v_dim = 0;  // per head
  RopeLayout rope_layout = RopeLayout::interleaved;
  RopeConfig rope;
  float softmax_scale = 0;      // (nope + rope)^-0.5, times YaRN's mscale squared
  float rms_norm_eps = 1e-5f;   // block and final norms
  bool attention_bias = false;  // q_a, kv_a and o have biases
  float lora_norm_eps =
      1e-6f;  // q_a and kv_a norms: transformers' value; key "lora_norm_eps" overrides (docs/decisions.md)
  int64_t max_positions = 0;
  bool tied_head = false;
  std::vector<int32_t> eos_token_ids;
  IndexerConfig indexer;
  MoeConfig moe;
  SharePlan plan;
  FixedPattern pattern;       // config section "index_fixed_pattern", off by default
  std::string weights_dtype;  // config's dtype, or what quantization_config says: "fp8", "int8", "int4"; for
                              // inspect alone
  std::vector<PackedScheme> packed_schemes;  // of weights quantised before; empty where there are none
  std::vector<std::string>
      notes;  // one line each: things accepted but worth saying (auto_map, head_dim, ...)

  int64_t qk_dim() const { return nope_dim + rope_dim; }
  int64_t latent_row_dim() const { return kv_lora_rank + rope_dim; }  // a cache row: latent, then rope
};

/// Reads DIR/config.json (or the file itself), applies `overrides` (JSON object, --hf-overrides) and
/// validates.
/// @throws Error{unsupported} naming file and field; Error{invalid_argument} for malformed overrides.
ModelConfig load_model_config(const std::filesystem::path& path, std::string_view overrides = "");

/// The same from text; `what` names it in messages. Used by tests and fuzzing.
ModelConfig parse_model_config(std::string_view json, const std::string& what,
                               std::string_view overrides = "");

}  // namespace indexshare
