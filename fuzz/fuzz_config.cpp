// SPDX-License-Identifier: Apache-2.0
// parse_model_config() on hostile text: an Error, or a config whose plan holds together and whose sizes can
// be costed without overflow. Before a NUL byte: config.json, or nothing for a small good one; after it:
// --hf-overrides.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "analysis/flops.h"
#include "indexshare/error.h"
#include "model/model_config.h"

namespace {

constexpr std::string_view kSmall = R"({"model_type":"glm_moe_dsa","vocab_size":320,"hidden_size":64,
  "intermediate_size":96,"moe_intermediate_size":48,"num_hidden_layers":8,"num_attention_heads":4,"q_lora_rank":48,
  "kv_lora_rank":32,"qk_nope_head_dim":24,"qk_rope_head_dim":8,"v_head_dim":32,"n_routed_experts":8,
  "n_shared_experts":1,"num_experts_per_tok":2,"first_k_dense_replace":2,"routed_scaling_factor":2.5,"n_group":4,
  "topk_group":2,"rms_norm_eps":1e-5,"rope_theta":8000000,"max_position_embeddings":1048576,"index_n_heads":8,
  "index_head_dim":16,"index_topk":8,"index_topk_freq":4,"index_skip_topk_offset":3,"eos_token_id":[256]})";

void check(bool condition) {
  if (!condition) std::abort();
}

void check_config(const indexshare::ModelConfig& config) {
  const indexshare::SharePlan& plan = config.plan;
  check(plan.num_layers() == config.num_layers && config.is_moe_layer.size() == plan.source.size());
  int num_full = 0, source = -1;
  for (int layer = 0; layer < plan.num_layers(); ++layer) {
    if (plan.is_full(layer)) source = layer;
    check(plan.source[layer] == source && plan.slot[layer] == (plan.is_full(layer) ? num_full++ : -1));
  }
  check(plan.num_full() == num_full && num_full > 0);
  check(config.indexer.topk > 0 || indexshare::fixed_set_size(config.pattern, 0) == 1);
  check(indexshare::parameter_counts(config).total > 0);
  check(indexshare::forward_flops(config, config.max_positions - 1, 1, 1).total() > 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t nul = input.find('\0');
  const std::string_view json = nul == 0 ? kSmall : input.substr(0, nul);
  const std::string_view overrides = nul == std::string_view::npos ? "" : input.substr(nul + 1);
  try {
    check_config(indexshare::parse_model_config(json, "config.json", overrides));
  } catch (const indexshare::Error& error) {
    check(error.code() != indexshare::ErrorCode::internal);
  }
  return 0;
}
