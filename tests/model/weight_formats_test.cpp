// SPDX-License-Identifier: Apache-2.0
// Which weights are quantised, to what, and how finely activations enter: by name, and as the backend is
// told.
#include "model/weight_formats.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "base/check.h"
#include "model/weights.h"

namespace indexshare {
namespace {

constexpr WeightFormat kStored = WeightFormat::as_stored, kInt8 = WeightFormat::int8,
                       kInt4 = WeightFormat::int4;

// A backend that remembers what it was asked to load and computes nothing.
class SpyBackend final : public Backend {
 public:
  std::multimap<std::string, MatrixSource> sources;

  std::string description() const override { return "spy"; }
  std::unique_ptr<Buffer> allocate(size_t) override { never(); }
  std::unique_ptr<Matrix> load_matrix(const MatrixSource& source) override {
    sources.emplace(source.weight.name, source);
    return std::make_unique<Loaded>();
  }
  size_t latent_page_bytes(const CachePages&) const override { never(); }
  size_t index_key_page_bytes(const CachePages&) const override { never(); }
  void embed(const EmbedArgs&) override { never(); }
  void linear(std::span<const LinearArgs>) override { never(); }
  void rms_norm(const RmsNormArgs&) override { never(); }
  void layer_norm(const LayerNormArgs&) override { never(); }
  void rope(const RopeArgs&) override { never(); }
  void silu_multiply(const SiluMultiplyArgs&) override { never(); }
  void add(const AddArgs&) override { never(); }
  void route(const RouteArgs&) override { never(); }
  void experts(const ExpertsArgs&) override { never(); }
  void write_latents(const WriteCacheArgs&) override { never(); }
  void write_index_keys(const WriteCacheArgs&) override { never(); }
  void read_latents(const ReadLatentsArgs&) override { never(); }
  void index_select(const IndexSelectArgs&) override { never(); }
  void translate(const TranslateArgs&) override { never(); }
  void sparse_attention(const SparseAttentionArgs&) override { never(); }

 private:
  struct Loaded final : Matrix {
    int64_t out_dim() const override { return 0; }
    int64_t in_dim() const override { return 0; }
    size_t num_bytes() const override { return 1; }
  };
  [[noreturn]] static void never() { fail(ErrorCode::internal, "the spy computes nothing"); }
};

struct Told {
  WeightFormat format;
  int activation_bits;
  DType stored;
};

class Loading {
 public:
  Loading(const std::string& fixture, const WeightOptions& options) {
    const std::filesystem::path directory =
        std::filesystem::path(INDEXSHARE_BINARY_DIR) / "fixtures" / fixture;
    weights = load_weights(load_model_config(directory),
                           std::make_shared<const Checkpoint>(Checkpoint::open(directory)), spy, options);
  }
  // Of layer 6, or of the whole model.
  Told told(const std::string& name) const {
    auto found = spy.sources.find("model.layers.6." + name + ".weight");
    if (found == spy.sources.end()) found = spy.sources.find(name + ".weight");
    EXPECT_NE(found, spy.sources.end()) << name;
    const MatrixSource& source = found->second;
    return {source.format, source.activation_bits, source.weight.dtype};
  }

  SpyBackend spy;
  Weights weights;
};

void expect(const Loading& loading, const std::string& name, WeightFormat format, int bits, DType stored) {
  const Told told = loading.told(name);
  EXPECT_EQ(told.format, format) << name;
  EXPECT_EQ(told.activation_bits, bits) << name;
  EXPECT_EQ(told.stored, stored) << name;
}

constexpr const char* kProjections[] = {"self_attn.q_a_proj",           "self_attn.q_b_proj",
                                        "self_attn.kv_a_proj_with_mqa", "self_attn.o_proj",
                                        "mlp.experts.3.gate_proj",      "mlp.shared_experts.down_proj"};
constexpr const char* kDelicate[] = {"self_attn.indexer.wq_b", "self_attn.indexer.wk", "lm_head",
                                     "self_attn.kv_b_proj"};
constexpr const char* kExact[] = {"mlp.gate", "self_attn.indexer.weights_proj"};

TEST(WeightFormats, AsStored) {
  const Loading bf16("tiny-glm-bf16", {}), f32("tiny-glm-shared", {});
  for (const auto& names :
       {std::span<const char* const>(kProjections), std::span<const char* const>(kDelicate)})
    for (const char* name : names) {
      expect(bf16, name, kStored, 16, DType::bf16);
      expect(f32, name, kStored, 32, DType::f32);
    }
  for (const char* name : kExact) expect(bf16, name, kStored, 32, DType::bf16);
  EXPECT_TRUE(bf16.spy.sources.find("model.embed_tokens.weight")->second.lookup_only);
  EXPECT_EQ(bf16.weights.main_format().first, "bf16");
  EXPECT_EQ(bf16.weights.main_format().second.activation_bits, 16);
}

TEST(WeightFormats, QuantisedAtLoad) {
  for (const WeightFormat format : {kInt8, kInt4}) {
    const Loading loading("tiny-glm-bf16", {.format = format, .activation_bits = 8});
    for (const char* name : kProjections) expect(loading, name, format, 8, DType::bf16);
    for (const char* name : kDelicate) expect(loading, name, kInt8, 8, DType::bf16);
    for (const char* name : kExact) expect(loading, name, kStored, 32, DType::bf16);
    expect(loading, "model.embed_tokens", kStored, 32, DType::bf16);
    EXPECT_EQ(loading.weights.main_format().first, weight_format_name(format));
  }
  expect(Loading("tiny-glm-shared", {.format = kInt8}), "self_attn.o_proj", kInt8, 16, DType::f32);
  // FP8: keys are widened before they are transposed, values find their block scales.
  const Loading fp8("tiny-glm-fp8", {.format = kInt4});
  for (auto [it, end] = fp8.spy.sources.equal_range("model.layers.6.self_attn.kv_b_proj.weight"); it != end;
       ++it) {
    EXPECT_EQ(it->second.format, kInt8);
    EXPECT_EQ(it->second.weight.dtype, it->second.transpose ? DType::f32 : DType::f8_e4m3);
  }
}

TEST(WeightFormats, QuantisedBefore) {
  const Loading four("tiny-glm-int4", {}), eight("tiny-glm-int8", {});
  for (const char* name : kProjections) {
    expect(four, name, kInt4, 16, DType::i8);
    expect(eight, name, kInt8, 16, DType::i8);
  }
  for (const char* name : {"self_attn.indexer.wq_b", "self_attn.indexer.wk", "lm_head"})
    expect(four, name, kInt8, 16, DType::i8);
  expect(four, "self_attn.kv_b_proj", kInt8, 16, DType::bf16);  // at load
  for (const char* name : kExact) expect(four, name, kStored, 32, DType::bf16);
  EXPECT_TRUE(four.weights.notes.empty());

  const Loading again("tiny-glm-int4", {.format = kInt8});
  expect(again, "self_attn.o_proj", kInt8, 16, DType::f32);
  expect(again, "lm_head", kInt8, 16, DType::i8);
  ASSERT_EQ(again.weights.notes.size(), 1u);
  EXPECT_NE(again.weights.notes[0].find("quantised again"), std::string::npos) << again.weights.notes[0];
}

TEST(WeightFormats, BytesAreCountedByFormat) {
  const Loading bf16("tiny-glm-bf16", {});
  EXPECT_EQ(bf16.weights.num_bytes(), bf16.weights.checkpoint->total_bytes());
  const Loading eight("tiny-glm-int8", {}), at_load("tiny-glm-int8", {.format = kInt8});
  EXPECT_EQ(eight.weights.bytes_by_format, at_load.weights.bytes_by_format);
  EXPECT_GT(eight.weights.bytes_by_format.at("int8"), 3 * eight.weights.bytes_by_format.at("bf16"));
}

TEST(WeightFormats, Names) {
  EXPECT_EQ(role_of("model.layers.78.self_attn.q_b_proj.weight"), WeightRole::projection);
  for (const char* name :
       {"model.layers.3.self_attn.q_a_proj.bias", "model.layers.3.mlp.gate.weight",
        "model.layers.3.self_attn.q_a_layernorm.weight", "model.embed_tokens.weight",
        "model.layers.78.eh_proj.weight", "model.layers.3.self_attn.indexer.k_norm.weight"})
    EXPECT_EQ(role_of(name), WeightRole::exact) << name;
  EXPECT_THROW(weight_format_of("int3"), Error);
}

}  // namespace
}  // namespace indexshare
