// SPDX-License-Identifier: Apache-2.0
// What a checkpoint is and what running it costs, from its config.json alone. FLOPs count a multiply-add as
// two.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "indexshare/error.h"

namespace indexshare {

struct InspectOptions {
  std::string hf_overrides;                // JSON object laid over config.json
  std::string kv_cache_dtype = "bf16";     // latents: "f32" | "bf16" | "int8"; "auto" is bf16 here
  std::string index_cache_dtype = "auto";  // index keys: the same, "auto" as the latents
  std::vector<int64_t> contexts;           // lengths to cost, each from 1 to 2^31 - 1
};

/// Bytes that one more token takes in each cache, over all layers; the MTP layers' rows are apart.
struct CacheBytes {
  int64_t mla = 0;                     // latent and rope rows of every layer
  int64_t index_keys = 0;              // of full layers
  int64_t index_keys_every_layer = 0;  // if every layer were full
  int64_t mtp_mla = 0, mtp_index_keys = 0;
};

/// One quantity under both plans: an indexer in every layer, and the plan of the config.
struct PlanCost {
  double every_layer = 0, shared = 0;
  double ratio() const { return every_layer / shared; }
};

struct ContextCost {
  int64_t context = 0;
  PlanCost decode;   // FLOPs of one token that sees `context` positions, its own included
  PlanCost prefill;  // FLOPs of a whole prompt of `context` tokens with the logits of its last
};

struct ParameterCounts {
  int64_t total = 0;   // with MTP layers
  int64_t active = 0;  // multiplied for one token: without MTP, embedding table and norms; with the head
  int64_t mtp = 0;
};

struct WeightSummary {
  size_t num_tensors = 0, bytes = 0;
  // By stored type ("bf16", "f8_e4m3", ...) with the scales beside it; packed weights as "int8" and "int4".
  std::map<std::string, size_t> bytes_by_format;
  std::vector<std::string> surplus_indexer_tensors;  // of shared layers: not read
  std::vector<int> surplus_indexer_layers;
  std::vector<std::string> missing_tensors;  // a model cannot run without these; the first 1000
};

struct ModelSummary {
  std::string path;    // the config.json that was read
  std::string family;  // its model_type
  std::string weights_dtype;
  int num_layers = 0, num_mtp_layers = 0;
  std::vector<int> full_layers;  // those with an indexer; none where index_topk is 0
  std::vector<int> source;       // [num_layers] whose selection each layer attends with
  std::string pattern;           // [num_layers] F or S
  int64_t vocab_size = 0, hidden_dim = 0, num_heads = 0, max_positions = 0;
  int64_t index_topk = 0, index_heads = 0, index_head_dim = 0;
  int num_moe_layers = 0;
  int64_t num_experts = 0, experts_per_token = 0;
  ParameterCounts parameters;
  std::string kv_cache_dtype, index_cache_dtype;
  CacheBytes cache_bytes_per_token;                                       // in these formats
  std::vector<std::pair<std::string, CacheBytes>> cache_bytes_by_format;  // f32, bf16, int8: both in the same
  std::vector<ContextCost> flops;           // attention as published: keys and values per head
  std::vector<ContextCost> flops_absorbed;  // attention as this engine runs it, over latents
  std::optional<WeightSummary> weights;     // where the directory has any
  std::vector<std::string> notes;           // one line each
};

/// @param model a directory, a config.json, or a name in the local Hugging Face cache.
/// @throws Error{not_found}, Error{unsupported} naming file and field, Error{invalid_argument} for bad
/// options.
ModelSummary inspect_model(const std::string& model, const InspectOptions& options = {});

}  // namespace indexshare
