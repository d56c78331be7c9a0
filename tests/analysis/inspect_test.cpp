// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "analysis/flops.h"
#include "analysis/inventory.h"
#include "checkpoint/bad_files.h"
#include "indexshare/analysis.h"
#include "model/config_fixtures.h"

namespace indexshare {
namespace {

using test::error_of;
using test::expect_sentence;

// A model small enough to be written with zeros, every full layer's indexer and, on request, the shared
// ones'.
constexpr const char* kSmall =
    R"({"model_type":"glm_moe_dsa","vocab_size":16,"hidden_size":8,"intermediate_size":8,
  "num_hidden_layers":4,"num_attention_heads":2,"q_lora_rank":4,"kv_lora_rank":4,"qk_nope_head_dim":2,
  "qk_rope_head_dim":2,"v_head_dim":2,"first_k_dense_replace":4,"rms_norm_eps":1e-5,"max_position_embeddings":64,
  "rope_parameters":{"rope_theta":10000,"rope_type":"default"},"index_n_heads":2,"index_head_dim":4,"index_topk":4,
  "index_topk_pattern":"FSFS"})";

void write_small(const test::TempDir& folder, const std::string& overrides,
                 const std::string& left_out = "") {
  test::write_file(folder / "config.json", kSmall);
  std::vector<test::NamedTensor> tensors;
  visit_implied_tensors(parse_model_config(kSmall, "config.json", overrides),
                        [&](const ImpliedTensor& tensor) {
                          if (tensor.name != left_out)
                            tensors.push_back({tensor.name, "BF16", {tensor.num_elements}});
                          return true;
                        });
  test::write_file(folder / "model.safetensors", test::safetensors_of(tensors));
}

TEST(Inspect, Glm52FromItsConfigAlone) {
  const ModelSummary summary =
      inspect_model(test::config_path("glm-5.2"), {.contexts = {4096, 131072, 1048576}});
  EXPECT_EQ(summary.family, "glm_moe_dsa");
  EXPECT_EQ(summary.full_layers.size(), 21u);
  EXPECT_EQ(summary.source.size(), 78u);
  EXPECT_EQ(summary.source[9], 6);
  EXPECT_EQ(summary.pattern.substr(0, 8), "FFFSSSFS");
  EXPECT_EQ(summary.parameters.total, 753'329'921'024);
  EXPECT_EQ(summary.parameters.active, 40'297'758'720);
  EXPECT_EQ(summary.num_moe_layers, 75);
  EXPECT_EQ(summary.cache_bytes_per_token.mla, 89'856);
  ASSERT_EQ(summary.flops.size(), 3u);
  EXPECT_EQ(summary.flops[2].context, 1048576);
  EXPECT_NEAR(summary.flops[2].decode.ratio(), 2.81, 0.0051);
  EXPECT_NEAR(summary.flops_absorbed[2].decode.ratio(), 2.73, 0.0051);
  EXPECT_NEAR(summary.flops[2].prefill.ratio(), 2.37, 0.0051);
  EXPECT_FALSE(summary.weights.has_value());
  EXPECT_EQ(summary.notes.size(), 1u);
}

TEST(Inspect, ParametersAreThoseOfTheTensors) {
  for (const auto& [fixture, patch] : {std::pair{"glm-5.2", "{}"},
                                       {"glm-5.2", R"({"tie_word_embeddings":true,"n_shared_experts":0})"},
                                       {"glm-5.2", R"({"mlp_layer_types":null,"first_k_dense_replace":78})"},
                                       {"glm-5.2", R"({"index_topk":0,"index_fixed_pattern":{"window":4}})"},
                                       {"glm-5.2", R"({"attention_bias":true})"},
                                       {"deepseek-v3.2", "{}"}}) {
    const ModelConfig config = test::parse_changed(fixture, patch);
    int64_t total = 0, mtp = 0;
    visit_implied_tensors(config, [&](const ImpliedTensor& tensor) {
      if (tensor.is_parameter) total += tensor.num_elements;
      if (tensor.is_parameter && tensor.is_mtp) mtp += tensor.num_elements;
      return true;
    });
    EXPECT_EQ(parameter_counts(config).total, total) << fixture << patch;
    EXPECT_EQ(parameter_counts(config).mtp, mtp) << fixture << patch;
  }
}

// 25 million tensors: their names are never held, and the missing ones are only counted up to a limit.
TEST(Inspect, HostileSizesNeedNoMemory) {
  const test::TempDir folder;
  test::write_file(
      folder / "config.json",
      test::changed("glm-5.2", R"({"num_hidden_layers":1024,"n_routed_experts":8192,"indexer_types":null,
                                                "mlp_layer_types":null,"first_k_dense_replace":0})"));
  test::write_file(folder / "model.safetensors", test::safetensors_of({}));
  const ModelSummary summary = inspect_model(folder.path(), {.contexts = {2147483647}});
  EXPECT_EQ(summary.weights->missing_tensors.size(), 1000u);
  EXPECT_GT(summary.parameters.total, int64_t{1} << 48);
}

TEST(Inspect, OverridesChangeThePlan) {
  const ModelSummary summary = inspect_model(
      test::config_path("glm-5.2"), {.hf_overrides = R"({"index_topk_freq":1})", .contexts = {1048576}});
  EXPECT_EQ(summary.full_layers.size(), 78u);
  EXPECT_EQ(summary.flops[0].decode.ratio(), 1);
  EXPECT_EQ(summary.cache_bytes_per_token.index_keys, summary.cache_bytes_per_token.index_keys_every_layer);
}

TEST(Inspect, CacheDtype) {
  const auto mla = [](const std::string& dtype) {
    return inspect_model(test::config_path("glm-5.2"), {.kv_cache_dtype = dtype}).cache_bytes_per_token.mla;
  };
  EXPECT_EQ(mla("f32"), 2 * mla("bf16"));
  EXPECT_EQ(mla("auto"), mla("bf16"));
  expect_sentence(error_of([&] { mla("int3"); }, ErrorCode::invalid_argument), {"kv_cache_dtype", "int3"});
}

TEST(Inspect, CompleteWeights) {
  const test::TempDir folder;
  write_small(folder, "");
  const ModelSummary summary = inspect_model(folder.path());
  ASSERT_TRUE(summary.weights.has_value());
  EXPECT_TRUE(summary.weights->missing_tensors.empty());
  EXPECT_TRUE(summary.weights->surplus_indexer_tensors.empty());
  EXPECT_EQ(summary.weights->bytes, 2u * static_cast<size_t>(summary.parameters.total));
}

TEST(Inspect, Input28SurplusIndexersAreListed) {
  const test::TempDir folder;
  write_small(folder, R"({"index_topk_pattern":"FFFF"})");
  const ModelSummary summary = inspect_model(folder.path());
  EXPECT_EQ(summary.weights->surplus_indexer_layers, (std::vector<int>{1, 3}));
  EXPECT_EQ(summary.weights->surplus_indexer_tensors.size(), 10u);
  EXPECT_TRUE(summary.weights->missing_tensors.empty());
}

TEST(Inspect, Input28MissingTensorsAreListed) {
  const test::TempDir folder;
  write_small(folder, "", "model.layers.2.self_attn.indexer.wk.weight");
  EXPECT_EQ(inspect_model(folder.path()).weights->missing_tensors,
            std::vector<std::string>{"model.layers.2.self_attn.indexer.wk.weight"});
}

TEST(Inspect, BadArguments) {
  for (const int64_t context : {int64_t{0}, int64_t{-1}, int64_t{1} << 31}) {
    const auto inspect = [&] { inspect_model(test::config_path("glm-5.2"), {.contexts = {context}}); };
    expect_sentence(error_of(inspect, ErrorCode::invalid_argument), {"context", std::to_string(context)});
  }
  const test::TempDir folder;
  expect_sentence(error_of([&] { inspect_model(folder.path()); }, ErrorCode::not_found), {"config.json"});
  expect_sentence(error_of([&] { inspect_model(folder / "x.json"); }, ErrorCode::not_found), {"x.json"});
}

}  // namespace
}  // namespace indexshare
