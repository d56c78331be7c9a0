// SPDX-License-Identifier: Apache-2.0
// What a caller can choose. Plain structs, every field with its default; unknown names are errors.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace indexshare {

/// How far a blocking call has come. Called at least once a chunk, from the calling thread.
using Progress = std::function<void(int64_t done, int64_t total)>;

/// Positions attended regardless of the indexer's scores (0 = off). With topk they form one set, each
/// position once.
struct FixedPattern {
  enum class Mode {
    fill,    // top-k is chosen among the other positions
    union_,  // top-k is chosen among all, then merged
  };
  int64_t window = 0;  // the last `window` positions, the query's own included
  int64_t sinks = 0;   // the first `sinks` positions
  int64_t stride = 0;  // positions congruent to `stride_phase` modulo `stride`
  int64_t stride_phase = 0;
  int64_t stride_cap = 0;  // at most so many of them, the latest; 0 = all
  Mode mode = Mode::fill;

  bool active() const { return window > 0 || sinks > 0 || stride > 0; }
};

enum class PlanChoice {
  shared,       // as the checkpoint (or hf_overrides) says
  every_layer,  // an indexer in every layer; needs a checkpoint that carries them
};

enum class AttentionMode {
  sparse,  // over the selection
  dense,   // over every visible position, the baseline
};

struct EngineOptions {
  std::string backend = "cpu";  // "cpu" | "reference"
  int threads = 0;              // 0 = what affinity and cgroup allow
  int64_t ctx_size = 0;         // positions of cache over all sequences; 0 = the model's maximum
  int64_t chunk_size = 512;     // tokens of one forward pass (prefill chunks, continuous batching)
  int64_t max_sequences = 64;   // sequences running at once
  std::string kv_cache_dtype =
      "auto";  // latents: "auto" (f32 for f32 weights, else bf16) | "f32" | "bf16" | "int8"
  std::string index_cache_dtype =
      "auto";  // index keys: "auto" (f32 beside f32 latents, else int8) | the same
  // "auto" (as stored, quantised checkpoints included) | "int8" | "int4": quantised at load. The indexers and
  // the head stay at int8 beside int4; routers and norms are never quantised.
  std::string weights = "auto";
  // How finely activations enter products: 32 = as f32, 16 = as bf16, 8 = as int8; 0 = 32 for f32
  // and f16 weights, 16 for others where the machine is faster that way.
  int activation_bits = 0;
  std::string hf_overrides;  // JSON object laid over config.json
  PlanChoice plan = PlanChoice::shared;
  bool allow_cost_only =
      false;  // every_layer without the weights: run the source layer's indexer (costs only)
  AttentionMode attention = AttentionMode::sparse;
  int64_t draft_tokens = 0;  // drafted ahead by the checkpoint's MTP layer and verified in one pass; 0 = off
  // One selection a round of drafts, where the checkpoint was trained so (index_share_for_mtp_iteration).
  bool draft_index_share = true;
  bool check_tensors = false;                   // refuse NaN and infinite weights
  std::function<void(const std::string&)> log;  // one line a call; the library itself never prints
  Progress load_progress;                       // bytes of weights
};

struct SamplingOptions {
  int64_t max_tokens = 128;
  float temperature = 1.0f;  // 0 = greedy
  int64_t top_k = 0;         // 0 = off
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  uint64_t seed = 0;
  int logprobs = -1;  // -1 = none, n = the chosen token's and the n most likely ones'
  bool ignore_eos = false;
  std::vector<std::string> stop;  // generation ends before the first of these strings
  std::map<int32_t, float> logit_bias;
};

/// @throws Error{invalid_argument} naming the first field out of range.
void validate(const EngineOptions& options);
void validate(const SamplingOptions& options, int64_t vocab_size);

}  // namespace indexshare
