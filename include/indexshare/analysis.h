// SPDX-License-Identifier: Apache-2.0
// What a checkpoint is and what running it costs, from its config.json alone (inspect_model; FLOPs count a
// multiply-add as two); what sharing changes on a text (analyze_sharing); and which layers had best share
// (search_plan).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "indexshare/engine.h"
#include "indexshare/error.h"
#include "indexshare/estimate.h"

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
  FixedPattern fixed_pattern;  // joined to what the indexers select
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

/// Layers whose indexer the checkpoint carries, those that its plan does not use included. All of them: the
/// engine can load PlanChoice::every_layer, and every plan can be tried on it.
std::vector<int> layers_with_indexers(const ModelSummary& summary);

/// Of two selections a and b of one row, or its mean over rows.
struct Overlap {
  double share = 0;    // |a and b| / max(|a|, |b|): of k
  double jaccard = 0;  // |a and b| / |a or b|
};

/// The probability that dense attention puts on a selection.
struct Coverage {
  double mean = 0, worst = 0;  // over the heads of a row; then the mean of each over rows
};

struct SharingOptions {
  std::string pattern;          // the shared plan, F or S a layer
  int64_t num_rows = 64;        // query rows looked at, spread evenly over those that have to choose
  std::vector<int64_t> needle;  // positions of the tokens to be found, ascending; none: no recall
  int64_t needle_rows = 1;      // the last rows of the text, at which they should be found
  bool dense = true;            // compare outputs with dense attention too: quadratic in the text's length
  Progress progress;            // tokens, over all passes
};

/// One layer. `own` is what its indexer chooses and `shared` what its source's does, both in one pass in
/// which every layer attends with its own; as_run belongs to the shared plan's own pass, whose hidden states
/// differ. An oracle is the best selection of the same size by the head mean of the dense probabilities.
struct LayerSharing {
  int layer = 0, source = 0;
  std::optional<Overlap> own_and_shared;
  std::optional<Coverage> own, shared, oracle;
  Coverage as_run, as_run_oracle;
  std::optional<double> needle_own, needle_as_run;  // share of the needle's tokens that are selected
};

/// Selections of two layers, by how far apart they are.
struct DistanceOverlap {
  int distance = 0, num_pairs = 0;
  Overlap mean;
  double lowest = 0, highest = 0;  // share of k, of one pair
};

/// Next-token distributions of one way to run the model against another's, over the same rows.
struct OutputComparison {
  std::string reference, tested;  // "dense", "every_layer", "shared"
  Estimate kl;                    // KL(reference || tested), nats
  double top1_agreement = 0;      // rows whose most likely token is the same
  Estimate loss_difference;       // tested - reference, nats a token
};

struct NamedLoss {
  std::string name;
  Estimate loss;  // negative log-likelihood of the text's tokens, nats a token
};

struct SharingReport {
  std::string pattern;      // of the shared plan
  bool has_own = false;     // every layer has an indexer: own selections are known
  std::vector<int> layers;  // whose selections are compared: all, or the plan's full layers
  int64_t num_tokens = 0, topk = 0;
  int64_t num_rows = 0;         // looked at
  int64_t first_row = 0;        // the first that has to choose: those before see at most topk positions
  int64_t num_output_rows = 0;  // compared by output: all from first_row on whose next token is known
  std::vector<std::vector<Overlap>> overlap;  // [layers, layers]
  std::vector<DistanceOverlap> distances;
  std::vector<LayerSharing> per_layer;
  std::vector<NamedLoss> losses;
  std::vector<OutputComparison> outputs;
};

/// Runs the tokens through the model under each plan at once, chunk by chunk, and compares.
/// @param engine loaded with PlanChoice::every_layer where the checkpoint allows; its cache must hold the
/// tokens three times over.
/// @throws Error{invalid_argument} for a text of no more than index_topk tokens or a bad option.
SharingReport analyze_sharing(Engine& engine, std::span<const int32_t> tokens, const SharingOptions& options);

/// Positions of the tokens that hold some part of the last occurrence of `needle`; none where it does not
/// occur.
std::vector<int64_t> find_needle(const Tokenizer& tokenizer, std::span<const int32_t> tokens,
                                 std::string_view needle);

struct CandidateLoss {
  int layer = 0;  // made shared
  double loss = 0;
};

struct PlanSearchStep {
  std::string pattern;  // after the step
  int layer = 0;        // that it made shared
  double loss = 0;      // nats a token
  std::vector<CandidateLoss> candidates;
};

/// How far a search has come: all that is needed to go on with it.
struct PlanSearchState {
  double every_layer_loss = 0;
  std::vector<PlanSearchStep> steps;
  std::vector<CandidateLoss> pending;  // candidates of the step after those
};

struct PlanSearchOptions {
  int num_flips = 0;  // layers to make shared, 1 to num_layers - 1
  /// 0: each candidate reads its windows as it would when deployed (the first index_topk rows, which are the
  /// same under every plan, are read once for all). n: only the last n rows of a window run under the
  /// candidate, behind rows that ran under the plan of the step before: an approximation, much faster.
  int64_t tail_rows = 0;
  PlanSearchState resume;                                     // of the same search
  std::vector<std::pair<std::string, std::string>> compared;  // name and pattern of plans to set beside it
  std::function<void(const PlanSearchState&)> on_candidate;   // after each
  Progress progress;                                          // tokens run
};

struct PlanLoss {
  std::string name, pattern;
  double loss = 0;  // exact, tail_rows or not
};

struct PlanSearchResult {
  PlanSearchState state;
  std::string pattern;
  int64_t scored_tokens = 0;  // of one exact evaluation
  std::vector<PlanLoss>
      comparisons;  // every layer, searched, uniform of as many full layers, then `compared`
};

/// Greedy search (IndexCache, arXiv 2603.12201): from an indexer in every layer, num_flips times the layer is
/// made shared that raises the loss on the windows least; of equal ones the first. Layer 0 stays full.
/// @param windows tokens of texts, each longer than index_topk; the cache must hold the longest twice and the
/// first index_topk (or, with tail_rows, all) of each.
/// @throws Error{unsupported} where a layer has no indexer loaded, Error{invalid_argument} for bad options or
/// a `resume` that this model does not reproduce.
PlanSearchResult search_plan(Engine& engine, std::span<const std::vector<int32_t>> windows,
                             const PlanSearchOptions& options);

/// `num_full` full layers spread evenly, layer 0 the first: "FSSFSS".
std::string uniform_pattern(int num_layers, int num_full);

}  // namespace indexshare
