// SPDX-License-Identifier: Apache-2.0
#include "model/weights.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/check.h"
#include "model/tensor_loader.h"

namespace indexshare {

namespace {

class Loader {
 public:
  Loader(const ModelConfig& config, std::shared_ptr<const Checkpoint> checkpoint, Backend& backend,
         const WeightOptions& options)
      : config_(config),
        checkpoint_(*checkpoint),
        options_(options),
        tensors_(*checkpoint, config.packed_schemes, backend, options, weights_) {
    weights_.checkpoint = std::move(checkpoint);
  }

  Weights load() {
    const std::vector<int64_t> shape = {config_.vocab_size, config_.hidden_dim};
    const std::string embedding = "model.embed_tokens.weight";
    const bool own_head = has_own_head();
    weights_.head =
        own_head ? tensors_.matrix("lm_head.weight", shape) : tensors_.tied_head(embedding, shape);
    weights_.embedding =
        own_head || tensors_.quantises_tied_head() ? tensors_.table(embedding, shape) : weights_.head;
    weights_.final_norm = vector("model.norm.weight", config_.hidden_dim);
    for (int layer = 0; layer < config_.num_layers; ++layer) weights_.layers.push_back(load_layer(layer));
    if (options_.mtp) weights_.mtp = load_mtp();
    tensors_.finish();
    note_surplus();
    return std::move(weights_);
  }

 private:
  // Tied checkpoints may carry a copy of the embedding as their head; where it differs, the file's head
  // counts, as in transformers.
  bool has_own_head() {
    if (!config_.tied_head) return true;
    if (!tensors_.has("lm_head.weight")) return false;
    const TensorView* head = checkpoint_.find("lm_head.weight");
    const TensorView& embedding = checkpoint_.get("model.embed_tokens.weight");
    if (head && head->dtype == embedding.dtype && head->shape == embedding.shape &&
        std::memcmp(head->data, embedding.data, embedding.num_bytes()) == 0) {
      head_is_a_copy_ = true;
      return false;
    }
    weights_.notes.push_back(
        "tie_word_embeddings is true, but lm_head.weight differs from the embedding and is used");
    return true;
  }

  MtpWeights load_mtp() {
    const std::string prefix = fmt::format("model.layers.{}.", config_.num_layers);
    const int64_t hidden = config_.hidden_dim;
    MtpWeights w;
    w.embedding_norm = vector(prefix + "enorm.weight", hidden);
    w.hidden_norm = vector(prefix + "hnorm.weight", hidden);
    w.join = matrix(prefix + "eh_proj.weight", {hidden, 2 * hidden});
    w.layer = load_layer(config_.num_layers);
    w.output_norm = vector(prefix + "shared_head.norm.weight", hidden);
    return w;
  }

  // The MTP layer, behind the others, has an indexer of its own and the last one's kind of MLP.
  LayerWeights load_layer(int layer) {
    const bool is_mtp = layer == config_.num_layers;
    const bool is_full = is_mtp || config_.plan.is_full(layer);
    const bool is_moe = is_mtp ? config_.is_moe_layer.back() : config_.is_moe_layer[layer];
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    LayerWeights w;
    w.input_norm = vector(prefix + "input_layernorm.weight", config_.hidden_dim);
    w.post_attention_norm = vector(prefix + "post_attention_layernorm.weight", config_.hidden_dim);
    w.attention = load_attention(prefix + "self_attn.");
    if (is_full && config_.indexer.topk > 0)
      w.attention.indexer = indexer_of(layer, prefix + "self_attn.indexer.");
    if (is_moe)
      w.mlp = load_moe(prefix + "mlp.");
    else
      w.mlp = load_mlp(prefix + "mlp.", config_.dense_dim);
    return w;
  }

  AttentionWeights load_attention(const std::string& prefix) {
    const ModelConfig& c = config_;
    AttentionWeights w;
    w.q_a = matrix(prefix + "q_a_proj.weight", {c.q_lora_rank, c.hidden_dim});
    w.q_a_norm = vector(prefix + "q_a_layernorm.weight", c.q_lora_rank);
    w.q_b = matrix(prefix + "q_b_proj.weight", {c.num_heads * c.qk_dim(), c.q_lora_rank});
    w.kv_a = matrix(prefix + "kv_a_proj_with_mqa.weight", {c.latent_row_dim(), c.hidden_dim});
    w.kv_a_norm = vector(prefix + "kv_a_layernorm.weight", c.kv_lora_rank);
    tensors_.cut_by_head(prefix + "kv_b_proj.weight",
                         {.num_heads = c.num_heads, .key = c.nope_dim, .value = c.v_dim}, c.kv_lora_rank,
                         w.key_up, w.value_up);
    w.o = matrix(prefix + "o_proj.weight", {c.hidden_dim, c.num_heads * c.v_dim});
    if (c.attention_bias) {
      w.q_a_bias = vector(prefix + "q_a_proj.bias", c.q_lora_rank);
      w.kv_a_bias = vector(prefix + "kv_a_proj_with_mqa.bias", c.latent_row_dim());
      w.o_bias = vector(prefix + "o_proj.bias", c.hidden_dim);
    }
    return w;
  }

  std::shared_ptr<const IndexerWeights> indexer_of(int layer, const std::string& prefix) {
    if (has_indexer(checkpoint_, layer) || !options_.borrow_indexers)
      return latest_indexer_ = load_indexer(prefix);
    if (!latest_indexer_)
      fail(ErrorCode::unsupported,
           "{}: layer {} has no indexer tensors and no layer before it has any to borrow",
           checkpoint_.directory().string(), layer);
    weights_.cost_only = true;
    return latest_indexer_;
  }

  std::shared_ptr<const IndexerWeights> load_indexer(const std::string& prefix) {
    const IndexerConfig& c = config_.indexer;
    auto w = std::make_shared<IndexerWeights>();
    w->query = matrix(prefix + "wq_b.weight", {c.num_heads * c.head_dim, config_.q_lora_rank});
    w->key = matrix(prefix + "wk.weight", {c.head_dim, config_.hidden_dim});
    w->key_norm_weight = vector(prefix + "k_norm.weight", c.head_dim);
    w->key_norm_bias = vector(prefix + "k_norm.bias", c.head_dim);
    w->head_weights = matrix(prefix + "weights_proj.weight", {c.num_heads, config_.hidden_dim});
    return w;
  }

  DenseMlpWeights load_mlp(const std::string& prefix, int64_t dim) {
    return {.gate = matrix(prefix + "gate_proj.weight", {dim, config_.hidden_dim}),
            .up = matrix(prefix + "up_proj.weight", {dim, config_.hidden_dim}),
            .down = matrix(prefix + "down_proj.weight", {config_.hidden_dim, dim})};
  }

  MoeWeights load_moe(const std::string& prefix) {
    const MoeConfig& c = config_.moe;
    MoeWeights w;
    w.router = matrix(prefix + "gate.weight", {c.num_experts, config_.hidden_dim});
    w.router_bias = vector(prefix + "gate.e_score_correction_bias", c.num_experts);
    for (int64_t e = 0; e < c.num_experts; ++e)
      w.experts.push_back(load_mlp(fmt::format("{}experts.{}.", prefix, e), c.expert_dim));
    for (const auto& e : w.experts) w.table.push_back({e.gate.get(), e.up.get(), e.down.get()});
    if (c.num_shared_experts > 0)
      w.shared = load_mlp(prefix + "shared_experts.", c.expert_dim * c.num_shared_experts);
    return w;
  }

  MatrixPtr matrix(const std::string& name, const std::vector<int64_t>& shape) {
    return tensors_.matrix(name, shape);
  }
  Vector vector(const std::string& name, int64_t dim) { return tensors_.vector(name, dim); }

  // Tensors nobody asked for: indexers of shared layers and the MTP layer are known, anything else is listed.
  void note_surplus() {
    std::set<int> indexer_layers;
    int64_t mtp = 0;
    std::vector<std::string> unknown;
    for (const TensorView& t : checkpoint_.tensors()) {
      if (tensors_.used().contains(t.name) || (head_is_a_copy_ && t.name == "lm_head.weight")) continue;
      int layer = -1, end = 0;
      if (std::sscanf(t.name.c_str(), "model.layers.%d.%n", &layer, &end) == 1 && end > 0) {
        if (layer >= config_.num_layers && layer < config_.num_layers + config_.num_mtp_layers) {
          ++mtp;
          continue;
        }
        if (layer < config_.num_layers && t.name.compare(end, 18, "self_attn.indexer.") == 0) {
          indexer_layers.insert(layer);
          continue;
        }
      }
      unknown.push_back(t.name);
    }
    if (!indexer_layers.empty())
      weights_.notes.push_back(
          fmt::format("indexer tensors of {} shared layers are not used under this plan: {}",
                      indexer_layers.size(), fmt::join(indexer_layers, ", ")));
    if (mtp > 0)
      weights_.notes.push_back(
          options_.mtp
              ? fmt::format("{} tensors of MTP layers are not used: the first layer drafts, with the model's "
                            "own embedding and head",
                            mtp)
              : fmt::format("{} tensors of the MTP layer are not used", mtp));
    if (!unknown.empty())
      weights_.notes.push_back(fmt::format("{} tensors are not part of the model and not used, {} the first",
                                           unknown.size(), unknown.front()));
  }

  const ModelConfig& config_;
  const Checkpoint& checkpoint_;
  const WeightOptions& options_;
  Weights weights_;
  TensorLoader tensors_;
  bool head_is_a_copy_ = false;
  std::shared_ptr<const IndexerWeights> latest_indexer_;
};

}  // namespace

size_t Weights::num_bytes() const {
  size_t sum = 0;
  for (const auto& [format, bytes] : bytes_by_format) sum += bytes;
  return sum;
}

const std::pair<const std::string, Weights::Format>& Weights::main_format() const {
  return *std::ranges::max_element(formats, {}, [](const auto& entry) { return entry.second.bytes; });
}

bool has_indexer(const Checkpoint& checkpoint, int layer) {
  const std::string name = fmt::format("model.layers.{}.self_attn.indexer.wk.weight", layer);
  return checkpoint.find(name) != nullptr || has_packed_weight(checkpoint, name);
}

Weights load_weights(const ModelConfig& config, std::shared_ptr<const Checkpoint> checkpoint,
                     Backend& backend, const WeightOptions& options) {
  return Loader(config, std::move(checkpoint), backend, options).load();
}

}  // namespace indexshare
