// SPDX-License-Identifier: Apache-2.0
#include "analysis/inventory.h"

#include <fmt/format.h>

namespace indexshare {

namespace {

class Inventory {
 public:
  Inventory(const ModelConfig& config, const std::function<bool(const ImpliedTensor&)>& visit)
      : c_(config), visit_(visit) {}

  void walk() {
    add("model.embed_tokens.weight", c_.vocab_size * c_.hidden_dim);
    for (int layer = 0; layer < c_.num_layers && !stopped_; ++layer) {
      prefix_ = fmt::format("model.layers.{}.", layer);
      add_layer(c_.plan.is_full(layer), c_.is_moe_layer[layer]);
    }
    is_mtp_ = true;
    for (int layer = c_.num_layers; layer < c_.num_layers + c_.num_mtp_layers && !stopped_; ++layer) {
      prefix_ = fmt::format("model.layers.{}.", layer);
      add_layer(true, c_.is_moe_layer.back());
      for (const char* norm : {"enorm.weight", "hnorm.weight", "shared_head.norm.weight"})
        add(norm, c_.hidden_dim);
      add("eh_proj.weight", 2 * c_.hidden_dim * c_.hidden_dim);
    }
    is_mtp_ = false;
    prefix_.clear();
    add("model.norm.weight", c_.hidden_dim);
    if (!c_.tied_head) add("lm_head.weight", c_.vocab_size * c_.hidden_dim);
  }

 private:
  void add(const std::string& name, int64_t num_elements, bool is_parameter = true) {
    if (!stopped_) stopped_ = !visit_({prefix_ + name, num_elements, is_parameter, is_mtp_});
  }

  void add_layer(bool is_full, bool is_moe) {
    add("input_layernorm.weight", c_.hidden_dim);
    add("self_attn.q_a_proj.weight", c_.q_lora_rank * c_.hidden_dim);
    add("self_attn.q_a_layernorm.weight", c_.q_lora_rank);
    add("self_attn.q_b_proj.weight", c_.num_heads * c_.qk_dim() * c_.q_lora_rank);
    add("self_attn.kv_a_proj_with_mqa.weight", c_.latent_row_dim() * c_.hidden_dim);
    add("self_attn.kv_a_layernorm.weight", c_.kv_lora_rank);
    add("self_attn.kv_b_proj.weight", c_.num_heads * (c_.nope_dim + c_.v_dim) * c_.kv_lora_rank);
    add("self_attn.o_proj.weight", c_.hidden_dim * c_.num_heads * c_.v_dim);
    if (c_.attention_bias) {
      add("self_attn.q_a_proj.bias", c_.q_lora_rank);
      add("self_attn.kv_a_proj_with_mqa.bias", c_.latent_row_dim());
      add("self_attn.o_proj.bias", c_.hidden_dim);
    }
    if (is_full && c_.indexer.topk > 0) add_indexer();
    add("post_attention_layernorm.weight", c_.hidden_dim);
    if (!is_moe) return add_mlp("mlp.", c_.dense_dim);
    add("mlp.gate.weight", c_.moe.num_experts * c_.hidden_dim);
    add("mlp.gate.e_score_correction_bias", c_.moe.num_experts, false);
    for (int64_t expert = 0; expert < c_.moe.num_experts && !stopped_; ++expert)
      add_mlp(fmt::format("mlp.experts.{}.", expert), c_.moe.expert_dim);
    if (c_.moe.num_shared_experts > 0)
      add_mlp("mlp.shared_experts.", c_.moe.num_shared_experts * c_.moe.expert_dim);
  }

  void add_indexer() {
    const IndexerConfig& indexer = c_.indexer;
    add("self_attn.indexer.wq_b.weight", indexer.num_heads * indexer.head_dim * c_.q_lora_rank);
    add("self_attn.indexer.wk.weight", indexer.head_dim * c_.hidden_dim);
    add("self_attn.indexer.k_norm.weight", indexer.head_dim);
    add("self_attn.indexer.k_norm.bias", indexer.head_dim);
    add("self_attn.indexer.weights_proj.weight", indexer.num_heads * c_.hidden_dim);
  }

  void add_mlp(const std::string& place, int64_t dim) {
    for (const char* matrix : {"gate_proj.weight", "up_proj.weight", "down_proj.weight"})
      add(place + matrix, dim * c_.hidden_dim);
  }

  const ModelConfig& c_;
  const std::function<bool(const ImpliedTensor&)>& visit_;
  bool stopped_ = false;
  std::string prefix_;
  bool is_mtp_ = false;
};

}  // namespace

void visit_implied_tensors(const ModelConfig& config,
                           const std::function<bool(const ImpliedTensor&)>& visit) {
  Inventory(config, visit).walk();
}

}  // namespace indexshare
