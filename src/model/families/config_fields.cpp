// SPDX-License-Identifier: Apache-2.0
#include "model/families/config_fields.h"

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace indexshare {

namespace {

constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHidden = 1 << 17;
constexpr int64_t kMaxMlp = 1 << 19;
constexpr int64_t kMaxVocab = 1 << 22;
constexpr int64_t kMaxHeads = 1 << 11;
constexpr int64_t kMaxHeadDim = 1 << 12;
constexpr int64_t kMaxLora = 1 << 15;
constexpr double kSmallestEps = 1e-30;

// A key that may be absent but, where present, can only have the one value this engine computes.
void require_bool(const JsonObject& json, std::string_view key, bool wanted) {
  if (json.optional_bool(key).value_or(wanted) != wanted) json.reject(key, wanted ? "true" : "false");
}

void require_string(const JsonObject& json, std::string_view key, const std::string& wanted) {
  if (json.optional_string(key).value_or(wanted) != wanted) json.reject(key, "\"" + wanted + "\"");
}

// Keys of related models whose mathematics differ from ours: silence would mean wrong logits.
void refuse_other_mathematics(const JsonObject& json) {
  require_string(json, "hidden_act", "silu");
  require_bool(json, "mlp_bias", false);
  for (const char* key : {"swiglu_limit", "index_kpool", "sliding_window"})
    if (json.has(key)) json.reject(key, "no such key (this build does not compute it)");
  if (const Json* types = json.optional_array("layer_types"))
    for (const Json& type : *types)
      if (!type.is_string() || type.get_ref<const std::string&>() != "deepseek_sparse_attention")
        fail(ErrorCode::unsupported, "{}: {}: expected only \"deepseek_sparse_attention\", found {}",
             json.what(), json.path_of("layer_types"), describe_json(type));
}

void read_sizes(const JsonObject& json, ModelConfig& config) {
  config.vocab_size = json.required_int("vocab_size", 1, kMaxVocab);
  config.hidden_dim = json.required_int("hidden_size", 1, kMaxHidden);
  config.num_layers = static_cast<int>(json.required_int("num_hidden_layers", 1, kMaxLayers));
  config.num_mtp_layers = static_cast<int>(json.optional_int("num_nextn_predict_layers", 0, 16).value_or(0));
  config.share_draft_index = json.optional_bool("index_share_for_mtp_iteration").value_or(false);
  // Positions are int32 throughout.
  config.max_positions = json.required_int("max_position_embeddings", 1, std::numeric_limits<int32_t>::max());
  config.rms_norm_eps = static_cast<float>(json.required_double("rms_norm_eps", kSmallestEps, 1));
  if (const auto eps = json.optional_double("lora_norm_eps", kSmallestEps, 1))
    config.lora_norm_eps = static_cast<float>(*eps);
  config.tied_head = json.optional_bool("tie_word_embeddings").value_or(false);
}

void read_attention(const JsonObject& json, ModelConfig& config) {
  config.num_heads = json.required_int("num_attention_heads", 1, kMaxHeads);
  config.q_lora_rank = json.required_int("q_lora_rank", 1, kMaxLora);
  config.kv_lora_rank = json.required_int("kv_lora_rank", 1, kMaxLora);
  config.nope_dim = json.required_int("qk_nope_head_dim", 1, kMaxHeadDim);
  config.rope_dim = json.required_int("qk_rope_head_dim", 2, kMaxHeadDim);
  if (config.rope_dim % 2 != 0) json.reject("qk_rope_head_dim", "an even number");
  config.v_dim = json.required_int("v_head_dim", 1, kMaxHeadDim);
  config.rope_layout =
      json.optional_bool("rope_interleave").value_or(true) ? RopeLayout::interleaved : RopeLayout::half_split;
  config.attention_bias = json.optional_bool("attention_bias").value_or(false);
  // Two keys of transformers' bookkeeping; GLM-5.2's head_dim misleads, and neither is part of the
  // mathematics.
  for (const char* key : {"qk_head_dim", "head_dim"}) {
    const int64_t value = json.optional_int(key).value_or(config.qk_dim());
    if (value != config.qk_dim() && value != config.rope_dim)
      config.notes.push_back(fmt::format("config.json: {} {} is ignored: a query head has {} + {} values",
                                         key, value, config.nope_dim, config.rope_dim));
  }
  const int64_t kv_heads = json.optional_int("num_key_value_heads").value_or(config.num_heads);
  if (kv_heads != config.num_heads)
    config.notes.push_back(
        fmt::format("config.json: num_key_value_heads {} is ignored: all {} heads share one latent", kv_heads,
                    config.num_heads));
}

void read_eos(const JsonObject& json, ModelConfig& config) {
  const Json* value = json.find("eos_token_id");
  if (!value) return;
  constexpr int64_t kMaxId = std::numeric_limits<int32_t>::max();
  const std::vector<int64_t> ids = value->is_array()
                                       ? json.required_int_list("eos_token_id", 0, kMaxId)
                                       : std::vector<int64_t>{json.required_int("eos_token_id", 0, kMaxId)};
  if (ids.size() > 1024) json.reject("eos_token_id", "at most 1024 ids");
  size_t num_beyond = 0;
  for (const int64_t id : ids) {
    if (id < config.vocab_size) {
      config.eos_token_ids.push_back(static_cast<int32_t>(id));
    } else {
      ++num_beyond;  // shrunken test models keep the ids of the model they came from
    }
  }
  if (num_beyond > 0)
    config.notes.push_back(
        fmt::format("config.json: {} of {} eos_token_id are beyond vocab_size {} and ignored", num_beyond,
                    ids.size(), config.vocab_size));
}

}  // namespace

ModelConfig read_dsa_config(const JsonObject& json, const DsaDefaults& defaults) {
  ModelConfig config;
  refuse_other_mathematics(json);
  read_sizes(json, config);
  read_attention(json, config);
  read_rope(json, config);
  config.draft_hidden = defaults.draft_hidden;
  read_moe(json, defaults, config);
  read_selection(json, defaults, config);
  read_eos(json, config);
  read_quantization(json, config);
  if (std::find(config.is_moe_layer.begin(), config.is_moe_layer.end(), false) != config.is_moe_layer.end())
    config.dense_dim = json.required_int("intermediate_size", 1, kMaxMlp);
  return config;
}

}  // namespace indexshare
