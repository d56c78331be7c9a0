// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/check.h"
#include "model/families/config_fields.h"

namespace indexshare {

namespace {

constexpr int64_t kMaxExperts = 1 << 13;
constexpr int64_t kMaxExpertDim = 1 << 17;

std::vector<bool> read_layer_kinds(const JsonObject& json, int num_layers) {
  std::vector<bool> is_moe;
  if (json.has("mlp_layer_types")) {
    const std::vector<std::string> types = json.required_string_list("mlp_layer_types");
    if (types.size() != static_cast<size_t>(num_layers))
      json.reject("mlp_layer_types", fmt::format("{} entries (num_hidden_layers)", num_layers));
    for (const std::string& type : types) {
      if (type != "dense" && type != "sparse")
        fail(ErrorCode::unsupported, "{}: {}[{}]: expected \"dense\" or \"sparse\", found {}", json.what(),
             json.path_of("mlp_layer_types"), is_moe.size(), describe_json(Json(type)));
      is_moe.push_back(type == "sparse");
    }
    return is_moe;
  }
  const int64_t num_dense = json.required_int("first_k_dense_replace");
  const int64_t freq = json.optional_int("moe_layer_freq", 1).value_or(1);
  for (int64_t layer = 0; layer < num_layers; ++layer)
    is_moe.push_back(layer >= num_dense && layer % freq == 0);
  return is_moe;
}

}  // namespace

void read_moe(const JsonObject& json, const DsaDefaults& defaults, ModelConfig& config) {
  config.is_moe_layer = read_layer_kinds(json, config.num_layers);
  if (std::find(config.is_moe_layer.begin(), config.is_moe_layer.end(), true) == config.is_moe_layer.end())
    return;

  if (json.optional_string("scoring_func").value_or("sigmoid") != "sigmoid")
    json.reject("scoring_func", "\"sigmoid\"");
  if (json.optional_string("topk_method").value_or("noaux_tc") != "noaux_tc")
    json.reject("topk_method", "\"noaux_tc\"");
  MoeConfig& moe = config.moe;
  moe.num_experts = json.required_int("n_routed_experts", 1, kMaxExperts);
  moe.experts_per_token = json.required_int("num_experts_per_tok", 1);
  if (moe.experts_per_token > moe.num_experts)
    json.reject("num_experts_per_tok", fmt::format("at most n_routed_experts = {}", moe.num_experts));
  moe.num_shared_experts = json.optional_int("n_shared_experts", 0, 64).value_or(0);
  moe.expert_dim = json.required_int("moe_intermediate_size", 1, kMaxExpertDim);
  moe.routed_scale = static_cast<float>(json.required_double("routed_scaling_factor", 1e-6, 1e6));
  moe.normalize_weights = json.optional_bool("norm_topk_prob").value_or(true);

  const bool grouped = defaults.groups_required || json.has("n_group") || json.has("topk_group");
  if (!grouped) return;
  moe.num_groups = json.required_int("n_group", 1);
  if (moe.num_experts % moe.num_groups != 0)
    json.reject("n_group", fmt::format("a divisor of n_routed_experts = {}", moe.num_experts));
  moe.groups_per_token = json.required_int("topk_group", 1);
  if (moe.groups_per_token > moe.num_groups)
    json.reject("topk_group", fmt::format("at most n_group = {}", moe.num_groups));
  const int64_t group_size = moe.num_experts / moe.num_groups;
  if (moe.num_groups > 1 && group_size < 2)
    json.reject("n_group", "groups of at least 2 experts (a group's score is the sum of its two best)");
  if (moe.experts_per_token > group_size * moe.groups_per_token)
    json.reject("num_experts_per_tok",
                fmt::format("at most the {} experts of the kept groups (topk_group = {})",
                            group_size * moe.groups_per_token, moe.groups_per_token));
}

}  // namespace indexshare
