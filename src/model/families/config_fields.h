// SPDX-License-Identifier: Apache-2.0
// The keys of config.json that the DSA families spell alike. Every reader throws Error{unsupported} with
// file, field, what was expected and what was found. Sizes are bounded so that no product of them can
// overflow or allocate much.
#pragma once

#include "base/json.h"
#include "model/model_config.h"

namespace indexshare {

/// Where families differ in what an absent key means.
struct DsaDefaults {
  RopeLayout indexer_rope_layout = RopeLayout::interleaved;
  bool groups_required = false;  // n_group and topk_group: required, or 1
  DraftHidden draft_hidden = DraftHidden::normed;
};

/// The whole config. Notes about keys that are accepted but ignored are added to ModelConfig::notes.
ModelConfig read_dsa_config(const JsonObject& json, const DsaDefaults& defaults);

/// rope_parameters (transformers 5), or rope_theta and rope_scaling; default and YaRN. Fills rope and
/// softmax_scale.
void read_rope(const JsonObject& json, ModelConfig& config);

/// mlp_layer_types, or first_k_dense_replace and moe_layer_freq, then the experts' fields where a layer has
/// them.
void read_moe(const JsonObject& json, const DsaDefaults& defaults, ModelConfig& config);

/// dtype and quantization_config: weights_dtype and packed_schemes.
void read_quantization(const JsonObject& json, ModelConfig& config);

/// index_fixed_pattern, the indexer's sizes and the share plan.
void read_selection(const JsonObject& json, const DsaDefaults& defaults, ModelConfig& config);

}  // namespace indexshare
