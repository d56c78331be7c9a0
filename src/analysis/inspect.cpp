// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>
#include <set>

#include "analysis/cache_bytes.h"
#include "analysis/flops.h"
#include "analysis/inventory.h"
#include "base/check.h"
#include "cache/row_formats.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/packed_weights.h"
#include "indexshare/analysis.h"

namespace indexshare {

namespace fs = std::filesystem;

namespace {

constexpr size_t kMaxMissingTensors = 1000;

// "q_a_proj.weight_packed", "…_scale" and "…_shape" are one weight; so are an FP8 weight and its
// "…_scale_inv".
std::string format_of_tensor(const ModelConfig& config, const Checkpoint& checkpoint,
                             const TensorView& tensor) {
  const std::string& name = tensor.name;
  for (const char* suffix : {"_packed", "_scale", "_shape"}) {
    if (!name.ends_with(suffix)) continue;
    const std::string weight = name.substr(0, name.size() - std::strlen(suffix));
    if (!has_packed_weight(checkpoint, weight)) continue;
    return find_packed_weight(checkpoint, weight, config.packed_schemes).num_bits == 8 ? "int8" : "int4";
  }
  constexpr std::string_view kScale = "_scale_inv";
  if (name.ends_with(kScale))
    if (const TensorView* weight = checkpoint.find(name.substr(0, name.size() - kScale.size())))
      return std::string(dtype_name(weight->dtype));
  return std::string(dtype_name(tensor.dtype));
}

WeightSummary summarize_weights(const ModelConfig& config, const fs::path& directory) {
  const Checkpoint checkpoint = Checkpoint::open(directory);
  WeightSummary summary{.num_tensors = checkpoint.tensors().size(), .bytes = checkpoint.total_bytes()};
  for (const TensorView& tensor : checkpoint.tensors())
    summary.bytes_by_format[format_of_tensor(config, checkpoint, tensor)] += tensor.num_bytes();
  visit_implied_tensors(config, [&](const ImpliedTensor& tensor) {
    const bool is_there = checkpoint.find(tensor.name) || has_packed_weight(checkpoint, tensor.name);
    if (!tensor.is_mtp && !is_there) summary.missing_tensors.push_back(tensor.name);
    return summary.missing_tensors.size() < kMaxMissingTensors;
  });
  for (int layer = 0; layer < config.num_layers; ++layer) {
    if (config.indexer.topk > 0 && config.plan.is_full(layer)) continue;
    const std::string prefix = fmt::format("model.layers.{}.self_attn.indexer.", layer);
    for (const TensorView& tensor : checkpoint.tensors())
      if (tensor.name.starts_with(prefix)) summary.surplus_indexer_tensors.push_back(tensor.name);
    if (!summary.surplus_indexer_tensors.empty() &&
        summary.surplus_indexer_tensors.back().starts_with(prefix))
      summary.surplus_indexer_layers.push_back(layer);
  }
  return summary;
}

void note_mismatches(const WeightSummary& weights, std::vector<std::string>& notes) {
  const auto& missing = weights.missing_tensors;
  if (!missing.empty())
    notes.push_back(fmt::format("{}{} tensors are missing, the first is {}: this model cannot run",
                                missing.size() >= kMaxMissingTensors ? "at least " : "", missing.size(),
                                missing.front()));
  if (const auto& surplus = weights.surplus_indexer_tensors; !surplus.empty())
    notes.push_back(fmt::format("{} indexer tensors of {} shared layers are not read, the first is {}",
                                surplus.size(), weights.surplus_indexer_layers.size(), surplus.front()));
}

void fill_from_config(const ModelConfig& config, ModelSummary& summary) {
  summary.family = config.family;
  summary.weights_dtype = config.weights_dtype;
  summary.num_layers = config.num_layers;
  summary.num_mtp_layers = config.num_mtp_layers;
  if (config.indexer.topk > 0) summary.full_layers = config.plan.full_layers();
  summary.source = config.plan.source;
  summary.pattern = config.plan.pattern();
  summary.vocab_size = config.vocab_size;
  summary.hidden_dim = config.hidden_dim;
  summary.num_heads = config.num_heads;
  summary.max_positions = config.max_positions;
  summary.index_topk = config.indexer.topk;
  summary.index_heads = config.indexer.num_heads;
  summary.index_head_dim = config.indexer.head_dim;
  summary.fixed_pattern = config.pattern;
  summary.num_moe_layers =
      static_cast<int>(std::count(config.is_moe_layer.begin(), config.is_moe_layer.end(), true));
  summary.num_experts = config.moe.num_experts;
  summary.experts_per_token = config.moe.experts_per_token;
  summary.notes = config.notes;
}

}  // namespace

ModelSummary inspect_model(const std::string& model, const InspectOptions& options) {
  for (const int64_t context : options.contexts)
    if (context < 1 || context > std::numeric_limits<int32_t>::max())
      fail(ErrorCode::invalid_argument, "context: expected lengths from 1 to {}, found {}",
           std::numeric_limits<int32_t>::max(), context);
  ModelSummary summary;
  // One format for both unless asked otherwise, so that the caches can be compared.
  const RowFormat latents = choose_latent_format(options.kv_cache_dtype, /*exact_weights=*/false);
  const RowFormat index_keys = options.index_cache_dtype == "auto"
                                   ? latents
                                   : choose_index_key_format(options.index_cache_dtype, latents);
  summary.kv_cache_dtype = row_format_name(latents);
  summary.index_cache_dtype = row_format_name(index_keys);

  std::error_code error;
  const bool is_config = fs::path(model).extension() == ".json" && fs::is_regular_file(model, error);
  const fs::path directory = is_config ? fs::path() : resolve_model(model);
  const fs::path file = is_config ? fs::path(model) : directory / "config.json";
  const ModelConfig config = load_model_config(file, options.hf_overrides);
  summary.path = file.string();
  fill_from_config(config, summary);
  summary.parameters = parameter_counts(config);
  summary.cache_bytes_per_token = cache_bytes_per_token(config, latents, index_keys);
  for (const RowFormat format : {RowFormat::f32, RowFormat::bf16, RowFormat::int8})
    summary.cache_bytes_by_format.emplace_back(row_format_name(format),
                                               cache_bytes_per_token(config, format, format));
  for (const int64_t context : options.contexts) {
    summary.flops.push_back({.context = context,
                             .decode = decode_flops(config, context, AttentionForm::mha),
                             .prefill = prefill_flops(config, context, AttentionForm::mha)});
    summary.flops_absorbed.push_back({.context = context,
                                      .decode = decode_flops(config, context, AttentionForm::absorbed),
                                      .prefill = prefill_flops(config, context, AttentionForm::absorbed)});
  }
  if (!is_config && (fs::exists(directory / "model.safetensors", error) ||
                     fs::exists(directory / "model.safetensors.index.json", error))) {
    summary.weights = summarize_weights(config, directory);
    note_mismatches(*summary.weights, summary.notes);
  }
  return summary;
}

std::vector<int> layers_with_indexers(const ModelSummary& summary) {
  std::set<int> layers(summary.full_layers.begin(), summary.full_layers.end());
  if (summary.weights)
    layers.insert(summary.weights->surplus_indexer_layers.begin(),
                  summary.weights->surplus_indexer_layers.end());
  return {layers.begin(), layers.end()};
}

}  // namespace indexshare
