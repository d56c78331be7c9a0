// SPDX-License-Identifier: Apache-2.0
#include "model/weights.h"

#include <fmt/ranges.h>

#include <cmath>
#include <cstring>
#include <set>

#include "base/check.h"

namespace indexshare {

namespace {

constexpr int64_t kScaleBlock = 128;  // FP8 weights carry one scale a 128 x 128 block

int64_t blocks(int64_t n) { return (n + kScaleBlock - 1) / kScaleBlock; }

class Loader {
 public:
  Loader(const ModelConfig& config, std::shared_ptr<const Checkpoint> checkpoint, Backend& backend,
         const WeightOptions& options)
      : config_(config), checkpoint_(*checkpoint), backend_(backend), options_(options) {
    weights_.checkpoint = std::move(checkpoint);
  }

  Weights load() {
    const int64_t hidden = config_.hidden_dim;
    const bool own_head = has_own_head();
    weights_.embedding = matrix("model.embed_tokens.weight", {config_.vocab_size, hidden}, own_head);
    weights_.head = own_head ? matrix("lm_head.weight", {config_.vocab_size, hidden}) : weights_.embedding;
    weights_.final_norm = vector("model.norm.weight", hidden);
    for (int layer = 0; layer < config_.num_layers; ++layer) weights_.layers.push_back(load_layer(layer));
    note_surplus();
    return std::move(weights_);
  }

 private:
  // Tied checkpoints may carry a copy of the embedding as their head; where it differs, the file's head
  // counts, as in transformers.
  bool has_own_head() {
    if (!config_.tied_head) return true;
    const TensorView* head = checkpoint_.find("lm_head.weight");
    if (!head) return false;
    used_.insert("lm_head.weight");
    const TensorView& embedding = checkpoint_.get("model.embed_tokens.weight");
    if (head->dtype == embedding.dtype && head->shape == embedding.shape &&
        std::memcmp(head->data, embedding.data, embedding.num_bytes()) == 0)
      return false;
    weights_.notes.push_back(
        "tie_word_embeddings is true, but lm_head.weight differs from the embedding and is used");
    return true;
  }

  LayerWeights load_layer(int layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    LayerWeights w;
    w.input_norm = vector(prefix + "input_layernorm.weight", config_.hidden_dim);
    w.post_attention_norm = vector(prefix + "post_attention_layernorm.weight", config_.hidden_dim);
    w.attention = load_attention(prefix + "self_attn.");
    if (config_.plan.is_full(layer) && config_.indexer.topk > 0)
      w.attention.indexer = indexer_of(layer, prefix + "self_attn.indexer.");
    if (config_.is_moe_layer[layer])
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
    load_kv_b(prefix + "kv_b_proj.weight", w);
    w.o = matrix(prefix + "o_proj.weight", {c.hidden_dim, c.num_heads * c.v_dim});
    if (c.attention_bias) {
      w.q_a_bias = vector(prefix + "q_a_proj.bias", c.q_lora_rank);
      w.kv_a_bias = vector(prefix + "kv_a_proj_with_mqa.bias", c.latent_row_dim());
      w.o_bias = vector(prefix + "o_proj.bias", c.hidden_dim);
    }
    return w;
  }

  // Rows of head h: nope_dim of the key, then v_dim of the value. Heads straddle FP8 scale blocks: a value's
  // rows keep their codes and find their scales by the row they come from; a key is transposed, which would
  // cut scale blocks along the summed axis, so it is dequantised to f32 (in GLM-5.2 0.07 % of the weights
  // grow fourfold).
  void load_kv_b(const std::string& name, AttentionWeights& w) {
    const ModelConfig& c = config_;
    const int64_t head_rows = c.nope_dim + c.v_dim;
    const TensorView& all = tensor(name, {c.num_heads * head_rows, c.kv_lora_rank});
    const bool quantised = all.dtype == DType::f8_e4m3;
    const TensorView scale = quantised ? scales(name, all) : TensorView{};
    bool copied = true;
    for (int64_t head = 0; head < c.num_heads; ++head) {
      TensorView key = rows_of(all, head * head_rows, c.nope_dim);
      const TensorView value = rows_of(all, head * head_rows + c.nope_dim, c.v_dim);
      std::shared_ptr<std::vector<float>> wide;
      if (quantised) {
        wide = dequantise(key, scale, head * head_rows);
        key.dtype = DType::f32;
        key.data = reinterpret_cast<const std::byte*>(wide->data());
      }
      w.key_up.push_back(backend_.load_matrix({.weight = key, .transpose = true}));
      w.value_up.push_back(
          backend_.load_matrix({.weight = value,
                                .scale_inv = scale,
                                .scale_row_offset = quantised ? head * head_rows + c.nope_dim : 0}));
      if (wide && w.key_up.back()->num_bytes() == 0) weights_.dequantised.push_back(wide);
      copied = copied && w.key_up.back()->num_bytes() > 0 && w.value_up.back()->num_bytes() > 0;
    }
    if (copied) checkpoint_.release(all);
  }

  static TensorView rows_of(const TensorView& matrix, int64_t first, int64_t count) {
    TensorView rows = matrix;
    rows.shape[0] = count;
    rows.data += static_cast<size_t>(first * matrix.shape[1]) * dtype_bytes(matrix.dtype);
    return rows;
  }

  // `rows` begin at row `first` of the matrix that `scale` belongs to.
  static std::shared_ptr<std::vector<float>> dequantise(const TensorView& rows, const TensorView& scale,
                                                        int64_t first) {
    const int64_t num_rows = rows.shape[0], cols = rows.shape[1];
    auto values = std::make_shared<std::vector<float>>(static_cast<size_t>(num_rows * cols));
    for (int64_t r = 0; r < num_rows; ++r)
      for (int64_t c = 0; c < cols; ++c)
        (*values)[r * cols + c] =
            rows.at(r * cols + c) * scale.at((first + r) / kScaleBlock * blocks(cols) + c / kScaleBlock);
    return values;
  }

  bool has_indexer(int layer) const {
    return checkpoint_.find(fmt::format("model.layers.{}.self_attn.indexer.wk.weight", layer)) != nullptr;
  }

  std::shared_ptr<const IndexerWeights> indexer_of(int layer, const std::string& prefix) {
    if (has_indexer(layer) || !options_.borrow_indexers) return latest_indexer_ = load_indexer(prefix);
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

  // Shards are many: a message about a tensor says which file it stands in.
  std::string place(const std::string& name) const {
    return fmt::format("{}: {}", checkpoint_.file_of(name).string(), name);
  }

  const TensorView& tensor(const std::string& name, const std::vector<int64_t>& shape) {
    const TensorView& t = checkpoint_.get(name);
    if (t.shape != shape)
      fail(ErrorCode::unsupported, "{}: expected shape [{}] by config.json, the file has [{}]", place(name),
           fmt::join(shape, ", "), fmt::join(t.shape, ", "));
    const bool is_float =
        t.dtype == DType::f32 || t.dtype == DType::f16 || t.dtype == DType::bf16 || t.dtype == DType::f8_e4m3;
    if (!is_float)
      fail(ErrorCode::unsupported, "{}: expected f32, f16, bf16 or f8_e4m3, the file has {}", place(name),
           dtype_name(t.dtype));
    used_.insert(name);
    if (options_.check_tensors) check_finite(t);
    done_bytes_ += t.num_bytes();
    if (options_.progress) options_.progress(done_bytes_, checkpoint_.total_bytes());
    return t;
  }

  TensorView scales(const std::string& name, const TensorView& weight) {
    const std::string scale_name = name + "_scale_inv";
    const TensorView* scale = checkpoint_.find(scale_name);
    const std::vector<int64_t> shape = {blocks(weight.shape[0]), blocks(weight.shape[1])};
    if (!scale)
      fail(ErrorCode::unsupported, "{}: {} is f8_e4m3 and needs its scales, which are missing from {}",
           scale_name, name, checkpoint_.directory().string());
    if (scale->dtype != DType::f32 || scale->shape != shape)
      fail(ErrorCode::unsupported, "{}: expected f32 [{}] (one scale a 128x128 block), the file has {} [{}]",
           place(scale_name), fmt::join(shape, ", "), dtype_name(scale->dtype),
           fmt::join(scale->shape, ", "));
    return tensor(scale_name, shape);
  }

  MatrixPtr matrix(const std::string& name, const std::vector<int64_t>& shape, bool lookup_only = false) {
    const TensorView& weight = tensor(name, shape);
    MatrixSource source{.weight = weight, .lookup_only = lookup_only};
    if (weight.dtype == DType::f8_e4m3) source.scale_inv = scales(name, weight);
    MatrixPtr loaded = backend_.load_matrix(source);
    if (loaded->num_bytes() > 0) checkpoint_.release(weight);
    return loaded;
  }

  Vector vector(const std::string& name, int64_t dim) {
    const TensorView& t = tensor(name, {dim});
    if (t.dtype == DType::f8_e4m3)
      fail(ErrorCode::unsupported, "{}: expected f32, f16 or bf16, the file has f8_e4m3", place(name));
    Vector values(static_cast<size_t>(dim));
    for (int64_t i = 0; i < dim; ++i) values[i] = t.at(i);
    return values;
  }

  void check_finite(const TensorView& t) const {
    for (int64_t i = 0; i < t.num_elements(); ++i)
      if (!std::isfinite(t.at(i)))
        fail(ErrorCode::unsupported, "{}: element {} is {}, expected finite weights", place(t.name), i,
             t.at(i));
  }

  // Tensors nobody asked for: indexers of shared layers and the MTP layer are known, anything else is listed.
  void note_surplus() {
    std::set<int> indexer_layers;
    int64_t mtp = 0;
    std::vector<std::string> unknown;
    for (const TensorView& t : checkpoint_.tensors()) {
      if (used_.contains(t.name)) continue;
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
    if (mtp > 0) weights_.notes.push_back(fmt::format("{} tensors of the MTP layer are not used", mtp));
    if (!unknown.empty())
      weights_.notes.push_back(fmt::format("{} tensors are not part of the model and not used, {} the first",
                                           unknown.size(), unknown.front()));
  }

  const ModelConfig& config_;
  const Checkpoint& checkpoint_;
  Backend& backend_;
  const WeightOptions& options_;
  Weights weights_;
  std::shared_ptr<const IndexerWeights> latest_indexer_;
  std::set<std::string> used_;
  size_t done_bytes_ = 0;
};

}  // namespace

Weights load_weights(const ModelConfig& config, std::shared_ptr<const Checkpoint> checkpoint,
                     Backend& backend, const WeightOptions& options) {
  return Loader(config, std::move(checkpoint), backend, options).load();
}

}  // namespace indexshare
